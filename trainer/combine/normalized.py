"""Combinations of gradients brought to unit length. Each returns a (K, K) float64 mixing matrix."""

import tensorflow as tf

from trainer.combine.problem import Problem

_SMALLEST_SQUARE = 1e-12  # as `tf.nn.l2_normalize` has it


def rows(problem: Problem) -> tf.Tensor:
    """`normalized`: the mean of unit-length gradients over all shared variables; a zero gradient stays zero."""
    norms = tf.sqrt(tf.linalg.diag_part(problem.gramian))
    return _mean_scaled(problem.active, tf.math.reciprocal_no_nan(norms))


def variables(problem: Problem) -> tf.Tensor:
    """`normalized` with `per_variable`: g / √max(‖g‖², 1e-12) for one variable, averaged over its losses."""
    squares = tf.linalg.diag_part(problem.gramian)
    return _mean_scaled(problem.active, tf.math.rsqrt(tf.maximum(squares, _SMALLEST_SQUARE)))


def _mean_scaled(active: tf.Tensor, scales: tf.Tensor) -> tf.Tensor:
    count = tf.reduce_sum(tf.cast(active, tf.float64))
    return tf.linalg.diag(tf.math.divide_no_nan(tf.where(active, scales, 0.0), count))
