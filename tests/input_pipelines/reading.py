"""Helpers for tests of sources: data from a configuration, and all that a split gives, in order and by epochs."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from input_pipelines import configuration, data
from input_pipelines.configuration import DatasetConfig
from input_pipelines.data import Data
from input_pipelines.feed import splits
from input_pipelines.feed.splits import Split
from input_pipelines.saved_data import SavedData
from trainer.common import schema

FEEDS = ("memory", "streaming")
# For a test of what is read, not of how it is fed: streaming reads through all that reading into memory does.
STREAMING_BY_HAND = [pytest.param("memory", marks=pytest.mark.ci_only), "streaming"]
BATCH_SIZE = 7
TINY_WINDOW = 8  # so that even a few dozen examples are many windows


def build(tree: Mapping[str, Any], saved: SavedData | None = None, **changes: Any) -> Data:
    """The data of a configuration's `dataset`, in float64, so that what was written as float32 is compared exactly.

    Many tests read one file as both splits; `may_overlap` is True unless it is given.
    """
    keras.config.set_floatx("float64")
    config = schema.record(DatasetConfig)({"window": TINY_WINDOW, "may_overlap": True, **tree, **changes}, "dataset")
    configuration.check(config)
    return data.build(config, saved)


def in_order(split: Split, batch_size: int = BATCH_SIZE) -> dict[str, np.ndarray]:
    """Dotted name → all that an evaluation gives."""
    context = tf.distribute.InputContext(1, 0, 1)
    return _joined(split.evaluation(batch_size=batch_size, context=context))


def epochs(split: Split, count: int, *, seed: int = 3) -> list[dict[str, np.ndarray]]:
    """Dotted name → what training gives, epoch by epoch."""
    size = len(split)
    batches = split.training(batch_size=BATCH_SIZE, seed=seed, first_step=0, ends=[0, BATCH_SIZE])
    together = _joined(batches.take(-(-count * size // BATCH_SIZE)))
    return [
        {name: values[number * size : (number + 1) * size] for name, values in together.items()}
        for number in range(count)
    ]


def assert_gives(split: Split, expected: Mapping[str, np.ndarray], by: str) -> None:
    """A split gives these examples: an evaluation in order, every epoch of training each exactly once.

    Args:
      split: the split.
      expected: dotted name → values, (examples, ...); may lack what is not to be compared.
      by: the dotted name of what tells the examples apart.
    """
    assert len(split) == len(expected[by])
    _assert_equal(in_order(split), expected)
    order = np.argsort(expected[by])
    wanted = {name: values[order] for name, values in expected.items()}
    orders = []
    for epoch in epochs(split, 2):
        orders.append(epoch[by].tolist())
        by_name = np.argsort(epoch[by])
        _assert_equal({name: values[by_name] for name, values in epoch.items()}, wanted)
    assert orders[0] != orders[1]


def total(values: tf.Tensor) -> tf.Tensor:
    """The sum of each picture's pixels, as a user's own operation."""
    return tf.reduce_sum(tf.cast(values, tf.float64), axis=(1, 2, 3))


def _assert_equal(given: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    for name, values in expected.items():
        np.testing.assert_array_equal(given[name], values, err_msg=name)


def _joined(batches: tf.data.Dataset) -> dict[str, np.ndarray]:
    parts: dict[str, list[np.ndarray]] = {}
    for batch in batches.as_numpy_iterator():
        for name, values in splits.per_example(batch):
            parts.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}
