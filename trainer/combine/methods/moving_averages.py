"""Weights from moving averages of the losses' gradients, which are also what is mixed and applied."""

from __future__ import annotations

from trainer.combine import lazy_tensorflow as tf
from trainer.combine.methods import two_batches
from trainer.combine.problem import Answer, Problem, State


def moco(problem: Problem, state: State, *, beta: float = 0.5, gamma: float = 0.1, rho: float = 0.0) -> Answer:
    """`moco`: y ← y - β (y - g), λ ← Π(λ - γ (YYᵀ + ρ I) λ), applied: Σ λₖ yₖ. https://arxiv.org/abs/2210.12624

    Π is the projection onto the simplex; y starts at zero.

    Differences from the authors' code: constant β and γ, as in the paper's experiments; a projection where LibMTL has
    a softmax; gradients are not scaled by their losses.

    Args:
      problem: needs the `gramian` of the averages y, after this step's gradients have entered.
      state: `weights` λ.
      beta: β, how much of a step's gradients enters.
      gamma: γ, the step of the weights.
      rho: ρ, an L2 regularisation of them.
    """
    del beta  # has entered the averages
    return two_batches.descend(problem, state, step=gamma, regularization=rho)


def db_mtl(problem: Problem, *, beta: float = 0.9) -> tf.Tensor:
    """`db_mtl`: y ← β y + (1 - β) ∇ log Lₖ, applied: Σ yₖ max‖y‖ / ‖yₖ‖. https://arxiv.org/abs/2308.12029

    y starts at zero. Task-specific gradients are those of the losses themselves.

    Differences from the authors' code: a constant β.

    Args:
      problem: needs the `gramian` of the averages y.
      beta: β, how much of the averages a step keeps.
    """
    del beta  # has entered the averages
    norms = tf.sqrt(tf.linalg.diag_part(problem.gramian))
    return tf.reduce_max(tf.where(problem.active, norms, 0.0)) * tf.math.reciprocal_no_nan(norms)
