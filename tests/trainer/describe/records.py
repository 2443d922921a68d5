"""Files of records with some pictures, for tests of what is shown of a dataset."""

import numpy as np
import tensorflow as tf


def write_records(path, images: np.ndarray, labels: np.ndarray) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for image, label in zip(images, labels, strict=True):
            encoded = image if isinstance(image, bytes) else tf.io.encode_png(image).numpy()
            features = {
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def records_tree(folder, **changes) -> dict:
    return {
        "name": "tfrecord",
        "path": str(folder),
        "splits": {"train": "train.tfrecord", "validation": "train.tfrecord"},
        "may_overlap": True,
        "options": {
            "features": {"image": {"dtype": "uint8", "shape": [6, 4, 1], "encoding": "image"}, "label": "int64"}
        },
        "inputs": {"image": {"prepare": ["scale"]}},
        "targets": {"label": {"missing": 3}},
        **changes,
    }
