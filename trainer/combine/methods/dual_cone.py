"""Projections onto the dual cone of the rows, the directions against no gradient. https://arxiv.org/abs/2406.16232"""

from __future__ import annotations

from trainer.combine import lazy_tensorflow as tf
from trainer.combine.problem import Problem
from trainer.combine.problem import preference as preference_of
from trainer.combine.solvers import cosines, nonnegative


def dual_proj(problem: Problem, *, preference: tuple[float, ...] | None = None) -> tf.Tensor:
    """`dual_proj`: the projection of Σ pₖ gₖ onto the dual cone: argmin wᵀGw over w >= p.

    As GEM (https://arxiv.org/abs/1706.08840) has it for the gradient of one task among others. `preference` is p,
    K numbers >= 0, by default 1/K; what inactive losses would have goes to the active ones in proportion. If all
    active losses have preference 0, so has the result.

    Differences from the authors' code (TorchJD): the exact solution, where theirs brings G to trace 1 and adds 1e-4 to
    its diagonal.

    Returns:
      (K,) float64.
    """
    unit, norms = cosines.of_active(problem)
    share = preference_of(preference, problem.active)
    lengths = norms * share
    added = nonnegative.minimise(unit, tf.linalg.matvec(unit, lengths)[tf.newaxis])[0]
    return share + added * tf.math.reciprocal_no_nan(norms)


def upgrad(problem: Problem, *, preference: tuple[float, ...] | None = None) -> tf.Tensor:
    """`upgrad`: every gradient, times its preference, is projected onto the dual cone; the results are summed.

    Preferences and differences from the authors' code (TorchJD) are those of `dual_proj`.

    Returns:
      (K, K) float64; row i holds how gradient i, times its preference and projected, is made of the original ones.
    """
    unit, norms = cosines.of_active(problem)
    share = preference_of(preference, problem.active)
    added = norms[:, tf.newaxis] * nonnegative.minimise(unit, unit) * tf.math.reciprocal_no_nan(norms)
    return share[:, tf.newaxis] * (tf.eye(unit.shape[0], dtype=tf.float64) + added)
