"""Sums whose order is fixed, so that every replica and every run gets the same bits.

`tf.add_n` starts from whichever input's buffer it may overwrite, which is a matter of timing, and TensorFlow's graph
optimizer turns chains of additions into it. Replicas that add in different orders drift apart; a run resumed would
not be the run that was interrupted.
"""

from collections.abc import Sequence

import tensorflow as tf


def ordered(values: Sequence[tf.Tensor]) -> tf.Tensor:
    """Adds small tensors of one shape and dtype; holds a copy of them all."""
    return tf.reduce_sum(tf.stack(values), axis=0)


def square(values: tf.Tensor) -> tf.Tensor:
    """Σ v² of one tensor, a scalar, accumulated in float64."""
    return tf.reduce_sum(tf.square(tf.cast(values, tf.float64)))


def weighted(values: Sequence[tf.Tensor], coefficients: tf.Tensor, *, wide: bool = False) -> tf.Tensor:
    """Σ cₖ vₖ, added from first to last without a copy of them all.

    Args:
      values: k tensors of one shape and floating dtype.
      coefficients: (k,) of any floating dtype.
      wide: computes in float64, for coefficients that the values' dtype cannot hold.

    Returns:
      A tensor of the values' shape and dtype.
    """
    if wide:
        return tf.cast(weighted([tf.cast(value, tf.float64) for value in values], coefficients), values[0].dtype)
    if len(values) == 1:
        return tf.reshape(tf.cast(coefficients, values[0].dtype), []) * values[0]
    negative = tf.unstack(-tf.cast(coefficients, values[0].dtype), len(values))
    total = -negative[0] * values[0]
    for coefficient, value in zip(negative[1:], values[1:], strict=True):
        total -= coefficient * value  # a subtraction, because a chain of additions would not stay one
    return total
