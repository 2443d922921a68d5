"""Weighting by homoscedastic uncertainty. https://arxiv.org/abs/1705.07115"""

from __future__ import annotations

from trainer.combine import lazy_tensorflow as tf
from trainer.combine.entry import POSITIVE, Between, Card, LooksAt, Method, options
from trainer.combine.problem import Answer, Problem, State
from trainer.combine.solvers import adam
from trainer.common.schema import setting


def initial(count: int, *, learning_rate: float) -> dict[str, tf.Tensor]:
    """s = 0 for every loss, and its optimizer."""
    del learning_rate
    return {"log_variances": tf.zeros([count], tf.float64)} | adam.initial(count)


def weigh(problem: Problem, state: State, *, learning_rate: float = 1e-3) -> Answer:
    """`uncertainty`: gradient of Σ exp(-sₖ) Lₖ + sₖ, with s learned beside the model by its own Adam.

    Args:
      problem: needs `losses`.
      state: `log_variances` s and its Adam.
    """
    s = state["log_variances"]
    weights = tf.exp(-s)
    s, moments = adam.update(s, 1 - weights * problem.losses, state, learning_rate=learning_rate)
    return Answer(weights, {"log_variances": s} | moments)


UNCERTAINTY = Method(
    function=weigh,
    looks_at=LooksAt.LOSSES,
    summary="Σ exp(-sₖ) gₖ, s learned",
    paper=("Kendall 2018", "https://arxiv.org/abs/1705.07115"),
    options=options(
        "uncertainty",
        learning_rate=setting(POSITIVE, 1e-3, "learning rate of the Adam that learns s", Between(1e-4, 0.1, log=True)),
    ),
    initial=initial,
    weighs_task_specific=True,
    card=Card(
        formula="gradient of Σ exp(-sₖ) Lₖ + sₖ, s learned beside the model by its own Adam",
        work="an Adam step of K numbers",
        use=(
            "Losses of different units, and weights are to follow their values at the price of one backward pass. "
            "(IMTL-L is the same with s → -s.)"
        ),
        avoid=(
            "A loss falls towards zero: its weight tends to 1 / Lₖ, and it takes over. Or the run is short: s moves by "
            "about its learning rate in a step."
        ),
        differences=(
            "The same form for regression and classification (theirs has a factor of ½ for regression); s of an "
            "inactive loss stays what it is."
        ),
    ),
)
