"""Counts of classes: the same however the training split is fed, and from all its sources."""

import numpy as np
import pytest
import tensorflow as tf

from input_pipelines import class_counts, data
from input_pipelines.class_counts import BINARY, INDICES, ONE_HOT, Classes
from input_pipelines.configuration import DatasetConfig
from input_pipelines.examples import Examples
from input_pipelines.feed.in_memory import InMemory
from input_pipelines.sources import source
from trainer.common import schema

LABELS = np.random.RandomState(0).choice(4, 60, p=[0.4, 0.3, 0.2, 0.1])
WEIGHTS = np.random.RandomState(1).choice([0.0, 0.5, 2.0], 60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two files; a label of 3 is missing, some have weight 0."""
    path = tmp_path_factory.mktemp("records")
    for name, part in (("a", slice(0, 25)), ("b", slice(25, 60))):
        with tf.io.TFRecordWriter(str(path / f"{name}.tfrecord")) as writer:
            for label, weight in zip(LABELS[part], WEIGHTS[part], strict=True):
                feature = {
                    "number": tf.train.Feature(float_list=tf.train.FloatList(value=[0.5])),
                    "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                    "weight": tf.train.Feature(float_list=tf.train.FloatList(value=[weight])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    return path


def _source(folder, file: str, feed: str) -> dict:
    return {
        "name": "tfrecord",
        "path": str(folder),
        "options": {"features": {"number": "float32", "label": "int64", "weight": "float32"}},
        "splits": {"train": file, "validation": "a.tfrecord"},
        "may_overlap": True,
        "inputs": {"number": {}},
        "targets": {"label": {"missing": 3, "weight": "weight"}},
        "feed": feed,
        "window": 16,
    }


def _counts(tree: dict) -> list[list[int]]:
    built = data.build(schema.record(DatasetConfig)(tree, "dataset"))
    return class_counts.count(built.splits["train"], {"loss": ("label", Classes(INDICES, 4))})["loss"]


def test_every_feed_counts_the_same(folder, monkeypatch):
    monkeypatch.setattr(source, "CHUNK", 16)
    expected = [np.bincount(LABELS[(WEIGHTS > 0) & (LABELS < 3)], minlength=4).tolist()]
    sources = {
        "one": {**_source(folder, "a.tfrecord", "memory"), "quota": 2},
        "two": {**_source(folder, "b.tfrecord", "streaming"), "quota": 1},
    }
    assert _counts(_source(folder, "*.tfrecord", "streaming")) == expected
    assert _counts(_source(folder, "*.tfrecord", "memory")) == expected
    assert _counts({"sources": sources}) == expected


@pytest.mark.parametrize(
    ("target", "weights", "classes", "expected"),
    [
        (np.eye(3)[[0, 2, 2]], [1, 0, 1], Classes(ONE_HOT, 3), [[1, 0, 1]]),
        (np.array([[1.0], [0.0], [1.0]]), [[1], [1], [0]], Classes(BINARY, 2, has_axis=True), [[1, 1]]),
        (
            np.array([[1, 0], [0, 0], [1, 1]]),
            [[1, 1], [0, 1], [1, 1]],
            Classes(BINARY, 2, labels=2),
            [[0, 2], [2, 1]],
        ),
        (np.array([[[0], [5]], [[1], [1]]]), [0.5, 1], Classes(INDICES, 2, has_axis=True, ignored=5), [[1, 2]]),
        (np.array([True, False]), [1, 0], Classes(INDICES, 2), [[0, 1]]),
        (np.array([True, False]), [1, 1], Classes(BINARY, 2), [[1, 1]]),
        (np.array([[0, 1], [1, 1]]), [[1, 0], [1, 1]], Classes(INDICES, 2), [[1, 2]]),
    ],
)
def test_forms_of_targets(target, weights, classes, expected):
    split = InMemory(Examples(np.zeros(len(target)), {"t": target}, {"t": np.array(weights)}))
    assert class_counts.count(split, {"loss": ("t", classes)}) == {"loss": expected}
