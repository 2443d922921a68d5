"""Combinations that are the gradient of a function of the losses' logarithms. Losses must be above 0."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.combine import lazy_tensorflow as tf
from trainer.combine import problem as problem_lib
from trainer.combine.problem import Answer, Problem, State


def geometric(problem: Problem) -> tf.Tensor:
    """`geometric`: gradient of (Π Lₖ)^(1/K), so wₖ = (Π L)^(1/K) / (K Lₖ). https://arxiv.org/abs/1904.08492"""
    logarithms = _logarithms(problem)
    mean = tf.reduce_sum(logarithms * problem_lib.uniform(problem.active))
    return tf.exp(mean - logarithms) * problem_lib.uniform(problem.active)


def log_sum(problem: Problem) -> tf.Tensor:
    """`log_sum`: gradient of Σ log Lₖ, so wₖ = 1 / Lₖ (the scale-invariant baseline of LibMTL and Nash-MTL)."""
    return tf.exp(-_logarithms(problem))


def smooth_tchebycheff_initial(
    count: int, *, mu: float, warmup_steps: int, preference: Sequence[float] | None
) -> dict[str, tf.Tensor]:
    """No loss is known yet."""
    del mu, warmup_steps, preference
    return {"sum": tf.zeros([count], tf.float64), "number": tf.zeros([count], tf.float64)}


def smooth_tchebycheff(
    problem: Problem,
    state: State,
    *,
    mu: float = 1.0,
    warmup_steps: int = 100,
    preference: Sequence[float] | None = None,
) -> Answer:
    """`smooth_tchebycheff`: gradient of μ log Σ exp(pₖ (log Lₖ - log bₖ) / μ). https://arxiv.org/abs/2402.19078

    bₖ is the mean loss over the first `warmup_steps` steps, during which the method is Σ log Lₖ.

    Differences from the authors' code: a preference p; the gradient is not multiplied by K; a loss that was never
    active in the first steps has bₖ = Lₖ.

    Args:
      problem: needs `losses`.
      state: every loss's sum and number of values in the first steps.
      mu: μ, how smooth the maximum is.
      warmup_steps: see above.
      preference: p, one number for each loss; default 1/K.
    """
    warming_up = problem.step < warmup_steps
    logarithms = _logarithms(problem)
    known = state["number"] > 0
    bounds = tf.where(known, tf.math.log(tf.where(known, state["sum"] / state["number"], 1.0)), logarithms)
    p = problem_lib.preference(preference, problem.active)
    softmax = problem_lib.masked_softmax(p * (logarithms - bounds) / mu, problem.active)
    weights = tf.where(~warming_up, softmax * p, 1.0) * tf.exp(-logarithms)
    more = tf.cast(warming_up, tf.float64)
    return Answer(weights, {"sum": state["sum"] + more * problem.losses, "number": state["number"] + more})


def _logarithms(problem: Problem) -> tf.Tensor:
    """log Lₖ; 0 for inactive losses."""
    return tf.math.log(tf.where(problem.active, problem.losses, 1.0))
