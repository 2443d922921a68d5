"""FAMO: fast adaptive multitask optimization. https://arxiv.org/abs/2306.03792"""

from __future__ import annotations

from collections.abc import Sequence

from trainer.combine import lazy_tensorflow as tf
from trainer.combine.entry import POSITIVE, Between, Card, LooksAt, Method, options
from trainer.combine.problem import Answer, Problem, State, masked_softmax
from trainer.combine.solvers import adam
from trainer.common import schema
from trainer.common.schema import setting

_EPSILON = 1e-8
_LOGITS = "logits"


def initial(count: int, **options: float | Sequence[float]) -> dict[str, tf.Tensor]:
    """ξ = 0 for every loss, and its optimizer."""
    del options
    return {_LOGITS: tf.zeros([count], tf.float64)} | adam.initial(count)


def weigh(
    problem: Problem,
    state: State,
    *,
    learning_rate: float = 0.025,
    decay: float = 1e-3,
    lower_bounds: float | Sequence[float] = 0.0,
) -> Answer:
    """`famo`: z = softmax(ξ), w ∝ zₖ / (Lₖ - bₖ + ε), normalised to sum 1, so that all log losses fall equally fast.

    After the update of the model `observe` moves ξ.

    Args:
      problem: needs `losses`, above their lower bounds.
      state: ξ (`logits`) and its Adam.
    """
    del learning_rate, decay
    weights = masked_softmax(state[_LOGITS], problem.active) / _above(problem.losses, problem, lower_bounds)
    return Answer(tf.math.divide_no_nan(weights, tf.reduce_sum(weights)), state)


def observe(
    problem: Problem,
    after: tf.Tensor,
    state: State,
    *,
    learning_rate: float = 0.025,
    decay: float = 1e-3,
    lower_bounds: float | Sequence[float] = 0.0,
) -> dict[str, tf.Tensor]:
    """ξ after it descended along J_softmaxᵀ (log(L_before - b) - log(L_after - b)).

    Args:
      problem: of the step, with the losses before its update.
      after: (K,) float64, the losses of the same batch after it.
      state: ξ and its Adam.
    """
    fell = tf.math.log(_above(problem.losses, problem, lower_bounds))
    fell -= tf.math.log(_above(after, problem, lower_bounds))
    z = masked_softmax(state[_LOGITS], problem.active)
    gradient = z * (fell - tf.reduce_sum(z * fell))
    logits, moments = adam.update(state[_LOGITS], gradient, state, learning_rate=learning_rate, decay=decay)
    return {_LOGITS: logits} | moments


def _above(losses: tf.Tensor, problem: Problem, lower_bounds: float | Sequence[float]) -> tf.Tensor:
    """Lₖ - bₖ + ε; 1 for inactive losses."""
    bounds = tf.constant(lower_bounds, tf.float64)
    return tf.where(problem.active, losses - bounds + _EPSILON, 1.0)


FAMO = Method(
    function=weigh,
    looks_at=LooksAt.LOSSES,
    summary="weights that learn to make all log losses fall equally fast",
    paper=("FAMO, Liu 2023", "https://arxiv.org/abs/2306.03792"),
    options=options(
        "famo",
        learning_rate=setting(
            POSITIVE, 0.025, "learning rate of the Adam that learns ξ", Between(0.0025, 0.25, log=True)
        ),
        decay=setting(schema.number(), 1e-3, "L2 decay of ξ, added to its gradient", Between(1e-4, 1e-2, log=True)),
        lower_bounds=setting(schema.one_or_each(schema.real), 0.0, "b, a number or one for each loss"),
    ),
    initial=initial,
    observe=observe,
    lower_bound=lambda options: options["lower_bounds"],
    weighs_task_specific=True,
    card=Card(
        formula=(
            "Σ wₖ gₖ, wₖ ∝ zₖ / (Lₖ - bₖ + ε), Σ w = 1, z = softmax(ξ); after the update ξ takes an Adam step down "
            "J_softmaxᵀ (log(L_before - b) - log(L_after - b))"
        ),
        work="an Adam step of K numbers",
        use="Losses above their bounds of different scales are all to fall, and a backward pass for each is too much.",
        avoid=(
            "A loss comes near its bound: 1 / (Lₖ - bₖ) takes over. It needs the whole batch at once (`micro_batches` "
            "1)."
        ),
        differences="None in what is computed; softmaxes are over the active losses.",
    ),
)
