"""Batches of data in memory, gathered in the graph by the rows that a step's batch has."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


class OneBatch:
    """An iterator that gives a single batch, which is made already."""

    def __init__(self, batch: Any):
        self._batch = batch

    def __iter__(self) -> "OneBatch":
        return self

    def __next__(self) -> Any:
        return self._batch


class Gathered(NamedTuple):
    """The batches of a call of the loop, as tensors.

    Attributes:
      examples: nested tensors of all examples, which come first in their shapes.
      rows: (steps, examples of a batch) int32, those of each step of the call; steps beyond the last are not taken.
    """

    examples: Mapping[str, Any]
    rows: tf.Tensor

    def at(self, index: tf.Tensor) -> OneBatch:
        """The batch of a step, by its scalar int64 number within the call."""
        rows = tf.gather(self.rows, index)  # of a slice the start would be a constant, and each call be compiled
        return OneBatch(tf.nest.map_structure(lambda values: tf.gather(values, rows), self.examples))


class OnDevice:
    """A split on the device that trains on it, and the rows of its examples from step to step.

    Args:
      device: the device.
      examples: as `Gathered` has them.
      rows: (steps, examples of a batch) int32 arrays: those of some steps each, without end.
      most: steps that a call of the loop is traced for; one of more steps is traced anew.
    """

    def __init__(self, device: str, examples: Mapping[str, Any], rows: Iterator[np.ndarray], most: int):
        self.device, self.most = device, most
        self._examples, self._rows, self._left = examples, rows, next(rows)

    def gathered(self, count: int) -> Gathered:
        """The batches of the next `count` steps."""
        size = max(count, self.most)
        while len(self._left) < count:
            self._left = np.concatenate([self._left, next(self._rows)])
        rows, self._left = self._left[:size], self._left[count:]
        if len(rows) < size:
            rows = np.concatenate([rows, np.zeros([size - len(rows), rows.shape[1]], rows.dtype)])
        with tf.device(self.device):
            return Gathered(self._examples, tf.constant(rows))
