"""Combinations of gradients brought to unit length. Each returns (K,) float64 weights."""

from __future__ import annotations

from trainer.combine import lazy_tensorflow as tf
from trainer.combine.problem import Problem, uniform

_SMALLEST_SQUARE = 1e-12  # as `tf.nn.l2_normalize` has it


def rows(problem: Problem) -> tf.Tensor:
    """`normalized`: the mean of unit-length gradients over all shared variables; a zero gradient stays zero."""
    return mean_of_unit_rows(problem)


def variables(problem: Problem) -> tf.Tensor:
    """`normalized` with `per_variable`: g / √max(‖g‖², 1e-12) for one variable, averaged over its losses."""
    squares = tf.linalg.diag_part(problem.gramian)
    return uniform(problem.active) * tf.math.rsqrt(tf.maximum(squares, _SMALLEST_SQUARE))


def mean_of_unit_rows(problem: Problem) -> tf.Tensor:
    """1 / (K ‖gₖ‖), 0 for a gradient of zero: also what methods fall back to where their problem has no solution."""
    norms = tf.sqrt(tf.linalg.diag_part(problem.gramian))
    return uniform(problem.active) * tf.math.reciprocal_no_nan(norms)
