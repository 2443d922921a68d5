"""Combinations that look at nothing but their own constants. Each returns (K,) float64 weights."""

from __future__ import annotations

import dataclasses

from trainer.combine import lazy_tensorflow as tf
from trainer.combine import random_numbers
from trainer.combine.entry import Card, LooksAt, Method
from trainer.combine.problem import Problem, masked_softmax, uniform


def total(problem: Problem) -> tf.Tensor:
    """`sum`: Σ gₖ."""
    return tf.ones_like(problem.loss_weights)


def weighted(problem: Problem) -> tf.Tensor:
    """`weighted` and `independent`: wₖ gₖ with the configuration's weights."""
    return problem.loss_weights


def mean(problem: Problem) -> tf.Tensor:
    """`mean`: the average of the active losses' gradients."""
    return uniform(problem.active)


def random(problem: Problem) -> tf.Tensor:
    """`random`: w = softmax(N(0, 1)ᴷ), new draws in each step. RLW, https://arxiv.org/abs/2111.10603"""
    count = problem.active.shape[0]
    return masked_softmax(random_numbers.normal(problem, count), problem.active)


SUM = Method(
    function=total,
    looks_at=LooksAt.NOTHING,
    summary="Σ gₖ",
    weighs_task_specific=True,
    card=Card(
        formula="Σ gₖ",
        work="nothing else",
        use="All losses are of one unit, or scaled as they should be. The baseline that any other method has to beat.",
        avoid=(
            "The losses' scales differ and mean nothing: the loss with the largest gradient decides. Tune the weights "
            "of `weighted` first."
        ),
        differences="There is no authors' code.",
    ),
)

WEIGHTED = Method(
    function=weighted,
    looks_at=LooksAt.NOTHING,
    summary="Σ wₖ gₖ, the configuration's weights",
    weighted=True,
    weighs_task_specific=True,
    card=Card(
        formula="Σ wₖ gₖ, wₖ = `losses.<name>.weight`, a number or a schedule",
        work="nothing else",
        use=(
            "The first choice: fixed weights, chosen by a few short runs, remain hard to beat ([Kurin "
            "2022](https://arxiv.org/abs/2201.04122), [Xin 2022](https://arxiv.org/abs/2209.11379))."
        ),
        avoid=(
            "There are too many losses to tune a weight for each, or the right weights change during training as no "
            "schedule foresees."
        ),
        differences="There is no authors' code.",
    ),
)

MEAN = Method(
    function=mean,
    looks_at=LooksAt.NOTHING,
    summary="per variable, the average over the losses that reach it",
    per_variable=True,
    card=Card(
        formula=(
            "for each variable, Σ gₖ / k over the k active losses that reach it; a variable of one loss keeps that "
            "loss's gradient"
        ),
        work="nothing else",
        use=(
            "As `sum`, where some variables are shared by more losses than others, or labels are missing now and then, "
            "and the size of an update is not to depend on that."
        ),
        avoid=(
            "The losses' scales differ and mean nothing, as with `sum`. Adam takes a variable's constant factor out "
            "again, so that with it the two hardly differ."
        ),
        differences="There is no authors' code.",
    ),
)

RANDOM = Method(
    function=random,
    looks_at=LooksAt.NOTHING,
    summary="Σ wₖ gₖ, w the softmax of normal numbers drawn anew in each step",
    paper=("RLW, Lin 2022", "https://arxiv.org/abs/2111.10603"),
    weighs_task_specific=True,
    random=True,
    card=Card(
        formula="Σ wₖ gₖ, w = softmax(N(0, 1)ᴷ), drawn anew in each step",
        work="K random numbers",
        use="To see what another method's weights are worth: it should do better than this.",
        avoid="Some losses matter more than others: on average each has the weight 1/K.",
        differences=(
            "The numbers come from the run's seed and the step, so that they are the same on every replica and in a "
            "resumed run."
        ),
    ),
)

INDEPENDENT = dataclasses.replace(
    WEIGHTED,
    summary="every loss's own optimizer applies its own wₖ gₖ to every variable it reaches",
    per_loss=True,
    card=Card(
        formula="the optimizer of loss k applies wₖ gₖ to every variable that loss k reaches",
        work="an update by every loss's optimizer, which keeps a state of its own for all that the loss reaches",
        use=(
            "Losses need optimizers or learning rates of their own. With Adam for all it is AdaTask ([Yang "
            "2022](https://arxiv.org/abs/2211.15055)): every loss's step is normalised on its own."
        ),
        avoid=(
            "Memory is short, or a learning rate was tuned for one optimizer: a shared variable takes K steps at a "
            "time."
        ),
        differences="There is no authors' code.",
    ),
)
