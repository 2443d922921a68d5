"""Aligned-MTL. https://arxiv.org/abs/2305.19000"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from trainer.combine import lazy_tensorflow as tf
from trainer.combine import problem as problem_lib
from trainer.combine.entry import PROPORTIONS, Card, LooksAt, Method, options
from trainer.combine.problem import Problem
from trainer.common.schema import setting


def weigh(problem: Problem, *, preference: Sequence[float] | None = None) -> tf.Tensor:
    """`aligned_mtl`: w = B p with B = √λ_min · V Λ^(-1/2) Vᵀ over the non-zero spectrum of G = V Λ Vᵀ.

    The gradients are turned into orthogonal ones as long as the smallest principal component, and these are averaged.
    Eigenvalues count as zero up to K ε λ_max.

    Args:
      problem: needs `gramian`.
    """
    values, vectors = tf.linalg.eigh(problem.gramian)
    largest = values[-1]
    exists = values > problem_lib.count(problem.active) * sys.float_info.epsilon * largest
    smallest = tf.reduce_min(tf.where(exists, values, largest))
    scales = tf.where(exists, tf.sqrt(tf.math.divide_no_nan(smallest, values)), 0.0)
    p = problem_lib.preference(preference, problem.active)
    return tf.linalg.matvec(vectors, scales * tf.linalg.matvec(vectors, p, transpose_a=True))


ALIGNED_MTL = Method(
    function=weigh,
    looks_at=LooksAt.GRAMIAN,
    summary="gradients made orthogonal and equally long, then averaged",
    paper=("Aligned-MTL, Senushkin 2023", "https://arxiv.org/abs/2305.19000"),
    eigen=True,
    options=options(
        "aligned_mtl",
        preference=setting(PROPORTIONS, None, "p, a number for each loss; none: 1/K each"),
    ),
    card=Card(
        formula="Σ wₖ gₖ, w = B p, B = √λ_min · V Λ^(-1/2) Vᵀ over the non-zero spectrum of G = V Λ Vᵀ",
        work="an eigenvalue decomposition, K x K",
        use="Gradients both conflict and differ in length, and preferences alone are to say how much each loss counts.",
        avoid=(
            "Gradients are nearly dependent, or one is very short: all are made as long as the smallest principal "
            "component, so that updates are tiny."
        ),
        differences="The Gramian is in float64 whatever the gradients are in.",
    ),
)
