"""Combinations that look at nothing but their own constants. Each returns a (K, K) float64 mixing matrix."""

import tensorflow as tf

from trainer.combine.problem import Problem


def total(problem: Problem) -> tf.Tensor:
    """`sum`: Σ gₖ."""
    return tf.linalg.diag(tf.cast(problem.active, tf.float64))


def weighted(problem: Problem) -> tf.Tensor:
    """`weighted` and `independent`: wₖ gₖ with the configuration's weights."""
    return tf.linalg.diag(tf.where(problem.active, problem.weights, 0.0))


def mean(problem: Problem) -> tf.Tensor:
    """`mean`: the average of the active losses' gradients."""
    active = tf.cast(problem.active, tf.float64)
    return tf.linalg.diag(tf.math.divide_no_nan(active, tf.reduce_sum(active)))
