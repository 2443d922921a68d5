"""Random numbers that are a function of (seed, purpose, example's position), for a whole batch at a time."""

import dataclasses

import tensorflow as tf

_GOLDEN = 0x9E3779B97F4A7C15
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


@dataclasses.dataclass(frozen=True)
class Draws:
    """The random numbers that one operation draws for every example of a batch.

    Attributes:
      seed: of the run.
      purpose: tells operations apart.
      positions: (examples,) int64, of the examples in the endless sequence of epochs.
    """

    seed: int
    purpose: int
    positions: tf.Tensor

    @property
    def seeds(self) -> tf.Tensor:
        """(examples, 2) int32: a seed of every example's own for TensorFlow's stateless operations."""
        return tf.bitcast(self._bits(1), tf.int32)[:, 0]

    def uniform(self, low: float, high: float, *shape: int) -> tf.Tensor:
        """(examples, *shape) float32, evenly distributed from `low` to below `high`; the same at every call."""
        size = 1
        for length in shape:
            size *= length
        unit = tf.cast(tf.bitwise.right_shift(self._bits(size), _word(40)), tf.float32) * 2.0**-24
        return low + (high - low) * tf.reshape(unit, [-1, *shape])

    def normal(self, *shape: int) -> tf.Tensor:
        """(examples, *shape) float32, normally distributed."""
        return tf.math.ndtri(self.uniform(0, 1, *shape) + 2.0**-25)

    def _bits(self, count: int) -> tf.Tensor:
        """(examples, count) uint64: SplitMix64 (https://doi.org/10.1145/2660193.2660195) from a start per example."""
        key = _mixed(_mixed(_word(self.seed)) + _word(self.purpose))
        start = _mixed(key + _mixed(tf.bitcast(self.positions, tf.uint64)))
        steps = tf.bitcast(tf.range(1, count + 1, dtype=tf.int64), tf.uint64)
        return _mixed(start[:, tf.newaxis] + _word(_GOLDEN) * steps)


def _mixed(word: tf.Tensor) -> tf.Tensor:
    for shift, factor in ((30, _MIX[0]), (27, _MIX[1])):
        word = tf.bitwise.bitwise_xor(word, tf.bitwise.right_shift(word, _word(shift))) * _word(factor)
    return tf.bitwise.bitwise_xor(word, tf.bitwise.right_shift(word, _word(31)))


def _word(value: int) -> tf.Tensor:
    return tf.constant(value % 2**64, tf.uint64)
