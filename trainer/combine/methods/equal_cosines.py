"""Combinations whose projections on every gradient's direction are in given proportions."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.combine import lazy_tensorflow as tf
from trainer.combine.methods import normalized
from trainer.combine.problem import Answer, Problem, unit_gramian

_RANK = 1e-12  # eigenvalues of the cosines below this part of the largest are zero
_CANCELLED = 1e-9  # a sum of numbers that is smaller than this part of them is zero


def imtl_g(problem: Problem) -> Answer:
    """`imtl_g`: w ∝ G⁺ √diag(G), Σ w = 1: equal projections on all unit gradients. https://openreview.net/forum?id=IMPnRXEWpvr

    Computed on the cosines C, with v = D w: v ∝ C⁺ 1. Where the weights cannot be scaled to sum 1, or no vector has
    equal projections (opposite gradients), the mean of unit gradients is used.

    Differences from the authors' code: a pseudo-inverse, so that dependent gradients do no harm.
    """
    solution, norms, solved = _solve(problem, None)
    weights = solution * tf.math.reciprocal_no_nan(norms)
    total = tf.reduce_sum(weights)
    solved &= tf.abs(total) > _CANCELLED * tf.reduce_sum(tf.abs(weights))
    return _or_fall_back(problem, tf.math.divide_no_nan(weights, total), solved)


def config(problem: Problem, *, preference: Sequence[float] | None = None) -> Answer:
    """`config`: u ∝ U⁺ p over unit gradients U, of length Σ gₖ·u. ConFIG, https://arxiv.org/abs/2408.11104

    Computed on the cosines: u = Σ vₖ gₖ/‖gₖ‖ with v ∝ C⁺ p. Where u is zero (opposite gradients), the mean of unit
    gradients is used.

    Differences from the authors' code: the same on the K x K Gramian.

    Args:
      problem: needs `gramian`.
      preference: p, in what proportion the cosines with the gradients shall be; default equal.
    """
    solution, norms, solved = _solve(problem, preference)
    cosines, _ = unit_gramian(problem.gramian)
    products = tf.linalg.matvec(cosines, solution)
    square = tf.reduce_sum(solution * products)
    projected = tf.reduce_sum(norms * products)  # times the length of Σ vₖ uₖ
    weights = solution * tf.math.reciprocal_no_nan(norms) * tf.math.divide_no_nan(projected, square)
    return _or_fall_back(problem, weights, solved)


def _solve(problem: Problem, preference: Sequence[float] | None) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """C⁺ p, the norms, and whether C C⁺ p is p to some extent: it is 0 where there is nothing to go by."""
    cosines, norms = unit_gramian(problem.gramian)
    exists = tf.cast(problem.active & (norms > 0), tf.float64)
    wanted = exists if preference is None else exists * tf.constant(preference, tf.float64)
    values, vectors = tf.linalg.eigh(cosines)
    inverse = tf.where(values > _RANK * values[-1], 1 / values, 0.0)
    solution = exists * tf.linalg.matvec(vectors, inverse * tf.linalg.matvec(vectors, wanted, transpose_a=True))
    square = tf.reduce_sum(solution * wanted)  # pᵀ C⁺ p
    return solution, norms, square > _CANCELLED * tf.reduce_sum(tf.square(wanted))


def _or_fall_back(problem: Problem, weights: tf.Tensor, solved: tf.Tensor) -> Answer:
    anything = tf.reduce_any(problem.active & (tf.linalg.diag_part(problem.gramian) > 0))
    weights = tf.where(solved, weights, normalized.mean_of_unit_rows(problem))
    return Answer(weights, fell_back=~solved & anything)
