"""Methods whose step of the weights needs J₁J₂ᵀ of two independent batches: here the two halves of the global batch.

Its even positions are the first batch and its odd ones the second, so that the result does not depend on the number of
replicas. What is mixed and applied are the gradients of the first: the papers' third batch is merged into it.
"""

from __future__ import annotations

from collections.abc import Mapping

from trainer.combine import lazy_tensorflow as tf
from trainer.combine import problem as problem_lib
from trainer.combine.entry import POSITIVE, Between, Card, LooksAt, Method, options
from trainer.combine.problem import Answer, Problem, State
from trainer.combine.solvers.nonnegative import project_onto_simplex
from trainer.common import schema
from trainer.common.schema import setting

_WEIGHTS = "weights"


def initial(count: int, **options: float) -> dict[str, tf.Tensor]:
    """Weights of 1/K."""
    del options
    return {_WEIGHTS: tf.fill([count], tf.constant(1 / count, tf.float64))}


def sdmgrad(
    problem: Problem,
    state: State,
    *,
    lambda_: float = 0.3,
    learning_rate: float = 10.0,
    momentum: float = 0.5,
    iterations: int = 20,
) -> Answer:
    """`sdmgrad`: (w + λ/K) / (1 + λ), w by projected steps down ½‖Jᵀw + λ mean‖². https://arxiv.org/abs/2305.18409

    Each of `iterations` steps: w ← Π(w - η v), v ← momentum v + A (w + λ/K), with A = J₁J₂ᵀ over the square of the mean
    root of its diagonal, and Π the projection onto the simplex.

    Args:
      problem: needs the cross `gramian`.
      state: `weights` w.
    """
    active, cross = problem.active, problem.gramian
    mean = problem_lib.uniform(active)
    scale = tf.reduce_sum(mean * tf.sqrt(tf.maximum(tf.linalg.diag_part(cross), 0.0)))
    cross = tf.math.divide_no_nan(cross, tf.square(scale))

    def iterate(index: tf.Tensor, weights: tf.Tensor, velocity: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        velocity = momentum * velocity + tf.linalg.matvec(cross, weights + lambda_ * mean)
        return index + 1, project_onto_simplex(weights - learning_rate * velocity, active, 1.0), velocity

    weights, total = _of_active(state, active)
    _, weights, _ = tf.while_loop(lambda index, *_: index < iterations, iterate, (0, weights, tf.zeros_like(weights)))
    return Answer((weights + lambda_ * mean) / (1 + lambda_), {_WEIGHTS: total * weights})


def modo(problem: Problem, state: State, *, gamma: float = 0.1, rho: float = 0.1) -> Answer:
    """`modo`: λ ← Π(λ - γ (J₁J₂ᵀ + ρ I) λ), with Π the projection onto the simplex. https://arxiv.org/abs/2305.20057

    Args:
      problem: needs the cross `gramian`.
      state: `weights` λ.
    """
    return descend(problem, state, step=gamma, regularization=rho)


def descend(problem: Problem, state: State, *, step: float, regularization: float) -> Answer:
    """One projected step down ½ λᵀ(G + ρ I)λ on the simplex of the active losses, which keep their sum."""
    weights, total = _of_active(state, problem.active)
    gradient = tf.linalg.matvec(problem.gramian, weights) + regularization * weights
    weights = project_onto_simplex(weights - step * gradient, problem.active, 1.0)
    return Answer(weights, {_WEIGHTS: total * weights})


def _of_active(state: Mapping[str, tf.Tensor], active: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The active losses' weights scaled to sum 1, and their sum before."""
    weights = tf.where(active, state[_WEIGHTS], 0.0)
    total = tf.reduce_sum(weights)
    return tf.where(total > 0, tf.math.divide_no_nan(weights, total), problem_lib.uniform(active)), total


SDMGRAD = Method(
    function=sdmgrad,
    looks_at=LooksAt.CROSS_GRAMIAN,
    summary="as MGDA drawn towards the mean, by stochastic steps",
    paper=("SDMGrad, Xiao 2023", "https://arxiv.org/abs/2305.18409"),
    options=options(
        "sdmgrad",
        lambda_=setting(
            schema.number(),
            0.3,
            "λ, how much the direction is drawn towards the mean gradient",
            Between(0.03, 3, log=True),
        ),
        learning_rate=setting(POSITIVE, 10.0, "η, the step of w", Between(1, 100, log=True)),
        momentum=setting(schema.fraction, 0.5, "momentum of the steps of w"),
        iterations=setting(schema.integer(1), 20, "number of steps of w"),
    ),
    initial=initial,
    card=Card(
        formula=(
            "Σ vₖ gₖ of the first half batch, v = (w + λ/K) / (1 + λ), w by `iterations` projected steps down ½‖Jᵀw + "
            "λ mean‖², whose gradient is estimated by J₁J₂ᵀ"
        ),
        work="`iterations` rounds of a K x K product and a sort of K numbers",
        use=(
            "As `mgda`, on small, noisy batches: noise lengthens gradients, but not the products of those of two "
            "independent halves."
        ),
        avoid="Time is short: it takes twice the passes, and what is applied comes from half of the batch.",
        differences=(
            "The authors' third batch is merged into the first; nothing is added to the scale, so that the gradients' "
            "size does not matter."
        ),
    ),
)

MODO = Method(
    function=modo,
    looks_at=LooksAt.CROSS_GRAMIAN,
    summary="as MGDA, one stochastic step of the weights in each step",
    paper=("MoDo, Chen 2024", "https://arxiv.org/abs/2305.20057"),
    options=options(
        "modo",
        gamma=setting(POSITIVE, 0.1, "γ, the step of the weights", Between(0.01, 1, log=True)),
        rho=setting(schema.number(), 0.1, "ρ, an L2 regularisation of the weights", Between(0.01, 1, log=True)),
    ),
    initial=initial,
    card=Card(
        formula="Σ λₖ gₖ of the first half batch, λ ← Π(λ - γ (J₁J₂ᵀ + ρ I) λ), Π the projection onto the simplex",
        work="a K x K product and a sort of K numbers",
        use="As `mgda`, on small, noisy batches, with weights that change slowly.",
        avoid=(
            "The size of the gradients is unknown: γ multiplies their squares. Or time is short: it takes twice the "
            "passes, and what is applied comes from half of the batch."
        ),
        differences="The authors' third batch is merged into the first.",
    ),
)
