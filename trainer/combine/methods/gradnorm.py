"""GradNorm. https://arxiv.org/abs/1711.02257"""

from __future__ import annotations

import math

from trainer.combine import lazy_tensorflow as tf
from trainer.combine import problem as problem_lib
from trainer.combine.entry import POSITIVE, Between, Card, LooksAt, Method, options
from trainer.combine.problem import Answer, Problem, State
from trainer.combine.solvers import adam
from trainer.common import schema
from trainer.common.schema import setting

_SMALLEST = 1e-6


def initial(count: int, *, alpha: float, learning_rate: float) -> dict[str, tf.Tensor]:
    """w = 1 for every loss, its optimizer, and no first loss yet."""
    del alpha, learning_rate
    values = {
        "weights": tf.ones([count], tf.float64),
        "first_losses": tf.fill([count], tf.constant(math.nan, tf.float64)),
    }
    return values | adam.initial(count)


def weigh(problem: Problem, state: State, *, alpha: float = 1.5, learning_rate: float = 0.025) -> Answer:
    """`gradnorm`: Σ wₖ gₖ; afterwards w takes an Adam step down Σ | wₖ‖gₖ‖ - mean(w‖g‖) rₖ^α |, scaled to sum K.

    rₖ is loss k's inverse training rate Lₖ / Lₖ(first step) over the mean of all. The mean norm counts as a constant.

    Args:
      problem: needs `losses` and `gramian`.
      state: `weights`, their Adam, and every loss's `first_losses`.
    """
    active, weights = problem.active, state["weights"]
    first = tf.where(tf.math.is_nan(state["first_losses"]), problem.losses, state["first_losses"])
    share = problem_lib.uniform(active)
    rates = tf.math.divide_no_nan(problem.losses, first)
    rates = tf.math.divide_no_nan(rates, tf.reduce_sum(share * rates))
    norms = tf.sqrt(tf.linalg.diag_part(problem.gramian))
    target = tf.reduce_sum(share * weights * norms) * tf.maximum(rates, 0.0) ** alpha
    gradient = tf.sign(weights * norms - target) * norms
    moved, moments = adam.update(weights, gradient, state, learning_rate=learning_rate)
    moved = tf.where(active, tf.maximum(moved, _SMALLEST), 0.0)
    total = tf.reduce_sum(tf.where(active, weights, 0.0))
    moved *= tf.math.divide_no_nan(total, tf.reduce_sum(moved))
    return Answer(weights, {"weights": moved, "first_losses": first} | moments)


GRADNORM = Method(
    function=weigh,
    looks_at=LooksAt.GRAMIAN,
    summary="learned weights that pull wₖ‖gₖ‖ together, more for losses that fall slowly",
    paper=("GradNorm, Chen 2018", "https://arxiv.org/abs/1711.02257"),
    options=options(
        "gradnorm",
        alpha=setting(
            schema.number(), 1.5, "α, how strongly slow losses are pulled; 0: all gradients equally long", Between(0, 3)
        ),
        learning_rate=setting(
            POSITIVE, 0.025, "learning rate of the Adam that learns w", Between(0.0025, 0.25, log=True)
        ),
    ),
    initial=initial,
    with_losses=lambda options: True,
    card=Card(
        formula=(
            "Σ wₖ gₖ; afterwards w takes an Adam step down Σ | wₖ‖gₖ‖ - mean(w‖g‖) rₖ^α | and is scaled to sum K; rₖ = "
            "Lₖ / Lₖ(first step) over the mean of all"
        ),
        work="an Adam step of K numbers",
        use=(
            "Gradients of different lengths are to be balanced by weights that change slowly, with more for losses "
            "that fall slowly."
        ),
        avoid=(
            "The first losses are not typical: all rates are relative to them. Or gradients conflict: it looks at "
            "their lengths, not at their directions."
        ),
        differences=(
            "Gradients of all shared variables, not of one layer; weights are kept above 1e-6; where losses are "
            "inactive, the sum of the active ones' weights is kept."
        ),
    ),
)
