"""Weights from moving averages of the losses' gradients, which are also what is mixed and applied."""

from __future__ import annotations

from trainer.combine import lazy_tensorflow as tf
from trainer.combine.entry import POSITIVE, Between, Card, LooksAt, Method, options
from trainer.combine.methods import two_batches
from trainer.combine.problem import Answer, Problem, State
from trainer.common import schema
from trainer.common.schema import setting


def moco(problem: Problem, state: State, *, beta: float = 0.5, gamma: float = 0.1, rho: float = 0.0) -> Answer:
    """`moco`: y ← y - β (y - g), λ ← Π(λ - γ (YYᵀ + ρ I) λ), applied: Σ λₖ yₖ. https://arxiv.org/abs/2210.12624

    Π is the projection onto the simplex; y starts at zero.

    Args:
      problem: needs the `gramian` of the averages y, after this step's gradients have entered.
      state: `weights` λ.
    """
    del beta  # has entered the averages
    return two_batches.descend(problem, state, step=gamma, regularization=rho)


def db_mtl(problem: Problem, *, beta: float = 0.9) -> tf.Tensor:
    """`db_mtl`: y ← β y + (1 - β) ∇ log Lₖ, applied: Σ yₖ max‖y‖ / ‖yₖ‖. https://arxiv.org/abs/2308.12029

    y starts at zero. Task-specific gradients are those of the losses themselves.

    Args:
      problem: needs the `gramian` of the averages y.
    """
    del beta  # has entered the averages
    norms = tf.sqrt(tf.linalg.diag_part(problem.gramian))
    return tf.reduce_max(tf.where(problem.active, norms, 0.0)) * tf.math.reciprocal_no_nan(norms)


MOCO = Method(
    function=moco,
    looks_at=LooksAt.MOVING_GRAMIAN,
    summary="as MGDA on moving averages of the gradients, one step of the weights in each step",
    paper=("MoCo, Fernando 2023", "https://arxiv.org/abs/2210.12624"),
    options=options(
        "moco",
        beta=setting(schema.between(0, 1), 0.5, "β, how much of a step's gradients enters", Between(0.05, 1, log=True)),
        gamma=setting(POSITIVE, 0.1, "γ, the step of the weights", Between(0.01, 1, log=True)),
        rho=setting(schema.number(), 0.0, "ρ, an L2 regularisation of the weights"),
    ),
    initial=two_batches.initial,
    keeps=lambda options: 1.0 - options["beta"],
    card=Card(
        formula="Σ λₖ yₖ, y ← y - β (y - g), λ ← Π(λ - γ (YYᵀ + ρ I) λ), Π the projection onto the simplex",
        work="a K x K product and a sort of K numbers",
        use="As `mgda`, on small, noisy batches, with a pass for each loss instead of two.",
        avoid="The size of the gradients is unknown: γ multiplies their squares. Or memory is short.",
        differences=(
            "Constant β and γ, as in the paper's experiments; a projection where LibMTL has a softmax; gradients are "
            "not scaled by their losses."
        ),
    ),
)

DB_MTL = Method(
    function=db_mtl,
    looks_at=LooksAt.MOVING_GRAMIAN,
    summary="moving averages of log losses' gradients, all as long as the longest, then summed",
    paper=("DB-MTL, Lin 2023", "https://arxiv.org/abs/2308.12029"),
    options=options(
        "db_mtl",
        beta=setting(schema.fraction, 0.9, "β, how much of the averages a step keeps", Between(0.1, 0.99)),
    ),
    lower_bound=lambda options: 0.0,
    keeps=lambda options: options["beta"],
    of_log_losses=True,
    card=Card(
        formula=(
            "Σ yₖ max‖y‖ / ‖yₖ‖, y ← β y + (1 - β) ∇ log Lₖ; task-specific gradients are those of the losses themselves"
        ),
        work="K norms",
        use="Both the losses' scales and their gradients' lengths differ, and batches are noisy.",
        avoid=(
            "A loss reaches 0, or has fallen as far as it can: what is left of its gradient is made as long as the "
            "longest. Or memory is short."
        ),
        differences="A constant β.",
    ),
)
