"""Weighting by homoscedastic uncertainty. https://arxiv.org/abs/1705.07115"""

from __future__ import annotations

from trainer.combine import lazy_tensorflow as tf
from trainer.combine.problem import Answer, Problem, State
from trainer.combine.solvers import adam


def initial(count: int, *, learning_rate: float) -> dict[str, tf.Tensor]:
    """s = 0 for every loss, and its optimizer."""
    del learning_rate
    return {"log_variances": tf.zeros([count], tf.float64)} | adam.initial(count)


def weigh(problem: Problem, state: State, *, learning_rate: float = 1e-3) -> Answer:
    """`uncertainty`: gradient of Σ exp(-sₖ) Lₖ + sₖ, with s learned beside the model by its own Adam.

    Differences from the authors' code: the same form for regression and classification (theirs has a factor of ½ for
    regression); s of an inactive loss stays what it is.

    Args:
      problem: needs `losses`.
      state: `log_variances` s and its Adam.
      learning_rate: of that Adam.
    """
    s = state["log_variances"]
    weights = tf.exp(-s)
    s, moments = adam.update(s, 1 - weights * problem.losses, state, learning_rate=learning_rate)
    return Answer(weights, {"log_variances": s} | moments)
