"""Combinations that are the gradient of a function of the losses' logarithms. Losses must be above 0."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.combine import lazy_tensorflow as tf
from trainer.combine import problem as problem_lib
from trainer.combine.entry import POSITIVE, PROPORTIONS, Between, Card, LooksAt, Method, options
from trainer.combine.problem import Answer, Problem, State
from trainer.common import schema
from trainer.common.schema import setting


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

    Args:
      problem: needs `losses`.
      state: every loss's sum and number of values in the first steps.
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


GEOMETRIC = Method(
    function=geometric,
    looks_at=LooksAt.LOSSES,
    summary="gradient of the losses' geometric mean",
    paper=("GLS, Chennupati 2019", "https://arxiv.org/abs/1904.08492"),
    lower_bound=lambda options: 0.0,
    weighs_task_specific=True,
    card=Card(
        formula="gradient of (Π Lₖ)^(1/K), so wₖ = (Π L)^(1/K) / (K Lₖ)",
        work="K logarithms",
        use=(
            "Losses above 0 of different scales: in which proportion gradients are mixed does not depend on the scales."
        ),
        avoid=(
            "A loss reaches 0, or is easy to get very small: its weight grows as 1 / Lₖ, and it takes over the shared "
            "variables."
        ),
        differences="None are known.",
    ),
)

LOG_SUM = Method(
    function=log_sum,
    looks_at=LooksAt.LOSSES,
    summary="gradient of Σ log Lₖ, which the losses' scales do not enter",
    paper=("SI, Navon 2022", "https://arxiv.org/abs/2202.01017"),
    lower_bound=lambda options: 0.0,
    weighs_task_specific=True,
    card=Card(
        formula="gradient of Σ log Lₖ, so wₖ = 1 / Lₖ",
        work="K logarithms",
        use=(
            "Losses above 0 of different scales, as with `geometric`: the simplest method that the scales do not enter "
            "at all."
        ),
        avoid=(
            "A loss reaches 0, or is easy to get very small: its weight grows as 1 / Lₖ, and it takes over the shared "
            "variables."
        ),
        differences="None are known; it is the scale-invariant baseline of Nash-MTL and LibMTL.",
    ),
)

SMOOTH_TCHEBYCHEFF = Method(
    function=smooth_tchebycheff,
    looks_at=LooksAt.LOSSES,
    summary="gradient of a smooth maximum of log (Lₖ / its mean in the first steps)",
    paper=("STCH, Lin 2024", "https://arxiv.org/abs/2402.19078"),
    options=options(
        "smooth_tchebycheff",
        mu=setting(POSITIVE, 1.0, "μ, how smooth the maximum is", Between(0.1, 10, log=True)),
        warmup_steps=setting(schema.integer(1), 100, "over how many steps bₖ is the mean loss"),
        preference=setting(PROPORTIONS, None, "p, a number for each loss; none: 1/K each"),
    ),
    initial=smooth_tchebycheff_initial,
    lower_bound=lambda options: 0.0,
    weighs_task_specific=True,
    card=Card(
        formula=(
            "gradient of μ log Σ exp(pₖ (log Lₖ - log bₖ) / μ), bₖ the mean loss over the first `warmup_steps` steps; "
            "during these, of Σ log Lₖ"
        ),
        work="K logarithms and running means",
        use=(
            "The loss that has fallen least from where it began is to come first, at the price of one backward pass; "
            "the smaller μ, the more so."
        ),
        avoid="A loss reaches 0, or cannot fall any further: it stays the one that has fallen least.",
        differences=(
            "A preference p; the gradient is not multiplied by K; a loss that was never active in the first steps has "
            "bₖ = Lₖ."
        ),
    ),
)
