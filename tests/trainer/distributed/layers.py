"""A layer with state of its own, for tests of replicas."""

from typing import Any

import keras
import tensorflow as tf


class Counting(keras.layers.Layer):
    """Counts how often it was called, and adds a moving sum of what it has seen in training."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Makes a counter and a sum."""
        del shape
        self.calls = self.add_weight(name="calls", shape=(), dtype="int64", initializer="zeros", trainable=False)
        self.seen = self.add_weight(name="seen", shape=(), initializer="zeros", trainable=False)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> Any:
        """Changes both, in evaluations the counter alone."""
        self.calls.assign(self.calls + 1)
        if training:
            self.seen.assign(0.9 * self.seen + tf.reduce_sum(inputs))
        return inputs + 0.01 * self.seen
