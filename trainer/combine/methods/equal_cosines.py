"""Combinations whose projections on every gradient's direction are in given proportions."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.combine import lazy_tensorflow as tf
from trainer.combine.entry import PROPORTIONS, Card, LooksAt, Method, options
from trainer.combine.methods import normalized
from trainer.combine.problem import Answer, Problem, unit_gramian
from trainer.common.schema import setting

_RANK = 1e-12  # eigenvalues of the cosines below this part of the largest are zero
_CANCELLED = 1e-9  # a sum of numbers that is smaller than this part of them is zero


def imtl_g(problem: Problem) -> Answer:
    """`imtl_g`: w ∝ G⁺ √diag(G), Σ w = 1: equal projections on all unit gradients. https://openreview.net/forum?id=IMPnRXEWpvr

    Computed on the cosines C, with v = D w: v ∝ C⁺ 1. Where the weights cannot be scaled to sum 1, or no vector has
    equal projections (opposite gradients), the mean of unit gradients is used.
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

    Args:
      problem: needs `gramian`.
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


IMTL_G = Method(
    function=imtl_g,
    looks_at=LooksAt.GRAMIAN,
    summary="weights of sum 1, equal projections on every gradient's direction",
    paper=("IMTL, Liu 2021", "https://openreview.net/forum?id=IMPnRXEWpvr"),
    eigen=True,
    may_fall_back=True,
    card=Card(
        formula="Σ wₖ gₖ, w ∝ G⁺ √diag(G), Σ w = 1",
        work="an eigenvalue decomposition, K x K",
        use="All losses are to advance equally far along their gradients, whatever the scales.",
        avoid=(
            "Gradients nearly cancel: weights may be large or negative. Where they cancel, it falls back to the mean "
            "of unit gradients."
        ),
        differences="A pseudo-inverse, so that dependent gradients do no harm.",
    ),
)

CONFIG = Method(
    function=config,
    looks_at=LooksAt.GRAMIAN,
    summary="equal cosines with every gradient, length Σ of the projections",
    paper=("ConFIG, Liu 2025", "https://arxiv.org/abs/2408.11104"),
    options=options(
        "config",
        preference=setting(PROPORTIONS, None, "p, in what proportion the cosines with the gradients are; none: equal"),
    ),
    eigen=True,
    may_fall_back=True,
    card=Card(
        formula="u of the direction U⁺ p over unit gradients U, as long as the projections of all gₖ on it together",
        work="an eigenvalue decomposition, K x K",
        use=(
            "Losses conflict all the time (its authors': physics-informed networks): the result has the same cosine "
            "with every gradient."
        ),
        avoid=(
            "Gradients nearly cancel: what has equal cosines with all is nearly perpendicular to each, and short. "
            "Where they cancel, it falls back to the mean of unit gradients."
        ),
        differences="The same on the K x K Gramian.",
    ),
)
