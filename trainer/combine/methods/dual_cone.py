"""Projections onto the dual cone of the rows, the directions against no gradient. https://arxiv.org/abs/2406.16232"""

from __future__ import annotations

from trainer.combine import lazy_tensorflow as tf
from trainer.combine.entry import PROPORTIONS, Card, LooksAt, Method, options
from trainer.combine.problem import Problem
from trainer.combine.problem import preference as preference_of
from trainer.combine.solvers import cosines, nonnegative
from trainer.common.schema import setting


def dual_proj(problem: Problem, *, preference: tuple[float, ...] | None = None) -> tf.Tensor:
    """`dual_proj`: the projection of Σ pₖ gₖ onto the dual cone: argmin wᵀGw over w >= p.

    As GEM (https://arxiv.org/abs/1706.08840) has it for the gradient of one task among others. `preference` is p,
    K numbers >= 0, by default 1/K; what inactive losses would have goes to the active ones in proportion. If all
    active losses have preference 0, so has the result.

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

    Preferences are those of `dual_proj`.

    Returns:
      (K, K) float64; row i holds how gradient i, times its preference and projected, is made of the original ones.
    """
    unit, norms = cosines.of_active(problem)
    share = preference_of(preference, problem.active)
    added = norms[:, tf.newaxis] * nonnegative.minimise(unit, unit) * tf.math.reciprocal_no_nan(norms)
    return share[:, tf.newaxis] * (tf.eye(unit.shape[0], dtype=tf.float64) + added)


DUAL_PROJ = Method(
    function=dual_proj,
    looks_at=LooksAt.GRAMIAN,
    summary="the mean gradient projected to where it conflicts with none",
    paper=("GEM, Lopez-Paz 2017", "https://arxiv.org/abs/1706.08840"),
    options=options(
        "dual_proj",
        preference=setting(PROPORTIONS, None, "p, a number for each loss; none: 1/K each"),
    ),
    card=Card(
        formula="the projection of Σ pₖ gₖ onto {d : gₖ·d >= 0 for all k}: Σ wₖ gₖ, w = argmin wᵀGw over w >= p",
        work="a quadratic problem with K unknowns, solved exactly",
        use=(
            "The mean gradient is right but for conflicts: it is changed as little as makes no loss worse. With "
            "preference [1, 0, ...] the first loss is the goal, and the others are not to suffer."
        ),
        avoid="The losses' scales differ: the longest gradient decides what the mean is.",
        differences="Of TorchJD: the exact solution, where theirs brings G to trace 1 and adds 1e-4 to its diagonal.",
    ),
)

UPGRAD = Method(
    function=upgrad,
    looks_at=LooksAt.GRAMIAN,
    summary="every gradient projected to where it conflicts with none, then averaged",
    paper=("UPGrad, Quinton 2024", "https://arxiv.org/abs/2406.16232"),
    options=options(
        "upgrad",
        preference=setting(PROPORTIONS, None, "p, a number for each loss; none: 1/K each"),
    ),
    diagonal=False,
    card=Card(
        formula="Σ pₖ π(gₖ), π the projection onto {d : gⱼ·d >= 0 for all j}",
        work="K quadratic problems with K unknowns, solved at once, exactly",
        use=(
            "No loss may be made worse, and each is to count as much as its gradient is long: multiplying a loss by a "
            "number multiplies its part alone."
        ),
        avoid="The losses' scales differ and mean nothing: a gradient ten times as long has a part ten times as large.",
        differences="Of TorchJD: the exact solution, where theirs brings G to trace 1 and adds 1e-4 to its diagonal.",
    ),
)
