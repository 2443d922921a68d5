"""The same examples as every kind of file that a user may have, each with the `dataset` that reads them.

An example is a picture (6 x 5 x 3), a class `kind` of three, a number `size`, a `colour` and its own number `index`.
"""

import csv
import gzip
import io
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image
import pyarrow
import pyarrow.parquet
import tensorflow as tf
import tensorflow_datasets as tfds

COUNTS = {"train": 53, "validation": 21}
CLASSES, SHAPE = 3, (6, 5, 3)
COLOURS = ("red", "green", "blue, light")
_SIZE = {"size": {"prepare": ["standardise"]}}


def examples(split: str) -> dict[str, np.ndarray]:
    """Feature → values; `index` counts on from one split to the other, the kind shows in the picture and the size."""
    count, first = COUNTS[split], 0 if split == "train" else COUNTS["train"]
    random = np.random.RandomState(first)
    kind = random.randint(CLASSES, size=count)
    return {
        "picture": random.randint(0, 120, size=(count, *SHAPE)).astype(np.uint8) + 60 * kind[:, None, None, None],
        "kind": kind,
        "size": (kind + random.normal(size=count)).astype(np.float32),
        "colour": np.array(COLOURS)[random.randint(len(COLOURS), size=count)],
        "index": first + np.arange(count),
    }


def png(picture: np.ndarray) -> bytes:
    """A picture (height, width, 3) as PNG."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(picture.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_csv(folder: pathlib.Path, ending: str = ".csv") -> dict[str, Any]:
    """A file for each split, with a column of text that has commas."""
    for split in COUNTS:
        written = examples(split)
        opened = gzip.open if ending.endswith(".gz") else open
        with opened(folder / f"{split}{ending}", "wt", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["first", "second", "colour", "kind", "size"])
            for picture, colour, kind, size in zip(
                *(written[name] for name in ("picture", "colour", "kind", "size")), strict=True
            ):
                writer.writerow([picture[0, 0, 0], picture[5, 4, 2] / 7, colour, kind, size])
    return {
        "name": "csv",
        "path": str(folder),
        "splits": {split: f"{split}{ending}" for split in COUNTS},
        "targets": {"kind": {}, **_SIZE},
    }


def write_npz(folder: pathlib.Path) -> dict[str, Any]:
    """A file for each split."""
    for split in COUNTS:
        np.savez(folder / f"{split}.npz", **examples(split))
    return {
        "name": "npz",
        "path": str(folder),
        "splits": {split: f"{split}.npz" for split in COUNTS},
        "inputs": {"picture": {"prepare": ["standardise"]}},
        "targets": {"kind": {}, **_SIZE},
    }


def feature(value: Any) -> tf.train.Feature:
    """Bytes, whole numbers or numbers as TFRecords hold them; what is held so already as it is."""
    if isinstance(value, tf.train.Feature):
        return value
    values = np.ravel(value).tolist() if not isinstance(value, bytes) else [value]
    if isinstance(values[0], str | bytes):
        encoded = [each.encode() if isinstance(each, str) else each for each in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))
    if isinstance(values[0], int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def write_records(path: pathlib.Path, records: Sequence[Mapping[str, Any] | bytes], compression: str = "") -> None:
    """A TFRecord file of features by name, or of bytes as they are."""
    with tf.io.TFRecordWriter(str(path), compression) as file:
        for record in records:
            if not isinstance(record, bytes):
                of_name = {name: feature(value) for name, value in record.items()}
                record = tf.train.Example(features=tf.train.Features(feature=of_name)).SerializeToString()
            file.write(record)


def as_records(split: str) -> list[dict[str, Any]]:
    """Every example with its picture as PNG."""
    written = examples(split)
    rows = ({name: values[row] for name, values in written.items()} for row in range(COUNTS[split]))
    return [row | {"picture": png(row["picture"])} for row in rows]


def write_tfrecords(folder: pathlib.Path, shards: int = 3) -> dict[str, Any]:
    """Several files for each split."""
    for split in COUNTS:
        records = as_records(split)
        cuts = np.linspace(0, len(records), shards + 1).astype(int)
        for shard in range(shards):
            path = folder / f"{split}-{shard:05d}-of-{shards:05d}.tfrecord"
            write_records(path, records[cuts[shard] : cuts[shard + 1]])
    return {
        "name": "tfrecord",
        "path": str(folder),
        "options": {
            "features": {
                "picture": {"dtype": "uint8", "shape": list(SHAPE), "encoding": "image"},
                "kind": "int64",
                "size": "float32",
                "colour": "string",
                "index": "int64",
            }
        },
        "splits": {split: f"{split}-*.tfrecord" for split in COUNTS},
        "inputs": {"picture": {"prepare": ["standardise"]}},
        "targets": {"kind": {}, **_SIZE},
    }


def write_image_folder(folder: pathlib.Path) -> dict[str, Any]:
    """<split>/<class>/<picture>; what a picture shows is also a target."""
    for split in COUNTS:
        written = examples(split)
        for picture, kind, index in zip(*(written[name] for name in ("picture", "kind", "index")), strict=True):
            path = folder / split / "abc"[kind] / f"{index:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(picture))
    return {
        "name": "image_folder",
        "path": str(folder),
        "options": {"shape": list(SHAPE)},
        "inputs": {"image": {"prepare": ["standardise"]}},
        "targets": {
            "kind": {"feature": "label"},
            "size": {"feature": "image", "prepare": ["standardise", {"name": "reshape", "shape": [-1]}]},
        },
    }


def features() -> tfds.features.FeaturesDict:
    """The features in TFDS's words; two of them nested."""
    return tfds.features.FeaturesDict(
        {
            "picture": tfds.features.Image(shape=SHAPE),
            "about": {"kind": tfds.features.ClassLabel(names=["a", "b", "c"]), "size": np.float32},
            "colour": tfds.features.Text(),
            "index": np.int64,
        }
    )


def as_tfds(split: str) -> list[dict[str, Any]]:
    """Every example as TFDS takes it."""
    written = examples(split)
    rows = ({name: values[row] for name, values in written.items()} for row in range(COUNTS[split]))
    return [
        {
            "picture": row["picture"].astype(np.uint8),
            "about": {"kind": int(row["kind"]), "size": row["size"]},
            "colour": str(row["colour"]),
            "index": row["index"],
        }
        for row in rows
    ]


def _of_directory(path: Any) -> dict[str, Any]:
    return {
        "name": "tfds",
        "path": str(path),
        "inputs": {"picture": {"prepare": ["standardise"]}},
        "targets": {
            "kind": {"feature": "about/kind"},
            "size": {"feature": "about/size", "prepare": ["standardise"]},
        },
    }


def write_stored(folder: pathlib.Path) -> dict[str, Any]:
    """`tfds.dataset_builders.store_as_tfds_dataset`."""
    builder = tfds.dataset_builders.store_as_tfds_dataset(
        name="own",
        version="1.0.0",
        features=features(),
        split_datasets={split: list(enumerate(as_tfds(split))) for split in COUNTS},
        data_dir=folder,
        disable_shuffling=True,
    )
    return _of_directory(builder.data_dir)


def write_foreign(folder: pathlib.Path, shards: int = 3) -> dict[str, Any]:
    """TFRecords written by other means, with `tfds.folder_dataset.write_metadata`."""
    infos = []
    for split in COUNTS:
        records = [features().serialize_example(features().encode_example(row)) for row in as_tfds(split)]
        cuts = np.linspace(0, len(records), shards + 1).astype(int)
        for shard in range(shards):
            path = folder / f"own-{split}.tfrecord-{shard:05d}-of-{shards:05d}"
            write_records(path, records[cuts[shard] : cuts[shard + 1]])
        infos.append(tfds.core.SplitInfo(name=split, shard_lengths=np.diff(cuts).tolist(), num_bytes=0))
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=features(),
        split_infos=infos,
        filename_template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    )
    return _of_directory(folder)


def write_parquet(folder: pathlib.Path) -> dict[str, Any]:
    """The CSV files' columns in two files for each split, of several row groups each."""
    for split in COUNTS:
        written = examples(split)
        picture = written["picture"]
        columns = {"first": picture[:, 0, 0, 0], "second": picture[:, 5, 4, 2] / 7}
        columns |= {name: written[name] for name in ("colour", "kind", "size")}
        table = pyarrow.table({name: pyarrow.array(values.tolist()) for name, values in columns.items()})
        for part, rows in enumerate((table[:20], table[20:])):
            pyarrow.parquet.write_table(rows, folder / f"{split}-{part}.parquet", row_group_size=6)
    return {"name": "parquet", "path": str(folder), "targets": {"kind": {}, **_SIZE}}


def write_table_of_images(folder: pathlib.Path) -> dict[str, Any]:
    """A CSV file for each split that names the pictures in a folder beside it."""
    (folder / "pictures").mkdir()
    for split in COUNTS:
        written = examples(split)
        with open(folder / f"{split}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "kind", "size"])
            for picture, kind, size, index in zip(
                *(written[name] for name in ("picture", "kind", "size", "index")), strict=True
            ):
                writer.writerow([f"{index}.png", kind, size])
                (folder / "pictures" / f"{index}.png").write_bytes(png(picture))
    return {
        "name": "table_of_images",
        "path": str(folder),
        "options": {"picture": "file", "folder": "pictures", "shape": list(SHAPE)},
        "inputs": {"image": {"prepare": ["standardise"]}},
        "targets": {"kind": {}, **_SIZE},
    }


def write_csv_gz(folder: pathlib.Path) -> dict[str, Any]:
    """The CSV files compressed."""
    return write_csv(folder, ".csv.gz")


# kind → (what writes it, whether it can be streamed).
KINDS: Mapping[str, tuple[Callable[[pathlib.Path], dict[str, Any]], bool]] = {
    "csv": (write_csv, False),
    "csv.gz": (write_csv_gz, False),
    "npz": (write_npz, False),
    "parquet": (write_parquet, True),
    "tfrecord": (write_tfrecords, True),
    "image_folder": (write_image_folder, True),
    "table_of_images": (write_table_of_images, True),
    "tfds directory": (write_foreign, True),
    "stored as a tfds dataset": (write_stored, True),
}
