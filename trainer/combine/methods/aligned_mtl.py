"""Aligned-MTL. https://arxiv.org/abs/2305.19000"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from trainer.combine import lazy_tensorflow as tf
from trainer.combine import problem as problem_lib
from trainer.combine.problem import Problem


def weigh(problem: Problem, *, preference: Sequence[float] | None = None) -> tf.Tensor:
    """`aligned_mtl`: w = B p with B = √λ_min · V Λ^(-1/2) Vᵀ over the non-zero spectrum of G = V Λ Vᵀ.

    The gradients are turned into orthogonal ones as long as the smallest principal component, and these are averaged.
    Eigenvalues count as zero up to K ε λ_max.

    Differences from the authors' code: the Gramian is in float64 whatever the gradients are in.

    Args:
      problem: needs `gramian`.
      preference: p, one number for each loss; default 1/K.
    """
    values, vectors = tf.linalg.eigh(problem.gramian)
    largest = values[-1]
    exists = values > problem_lib.count(problem.active) * sys.float_info.epsilon * largest
    smallest = tf.reduce_min(tf.where(exists, values, largest))
    scales = tf.where(exists, tf.sqrt(tf.math.divide_no_nan(smallest, values)), 0.0)
    p = problem_lib.preference(preference, problem.active)
    return tf.linalg.matvec(vectors, scales * tf.linalg.matvec(vectors, p, transpose_a=True))
