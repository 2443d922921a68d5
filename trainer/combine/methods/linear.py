"""Combinations that look at nothing but their own constants. Each returns (K,) float64 weights."""

from __future__ import annotations

from trainer.combine import lazy_tensorflow as tf
from trainer.combine.problem import Problem, masked_softmax, uniform


def total(problem: Problem) -> tf.Tensor:
    """`sum`: Σ gₖ."""
    return tf.ones_like(problem.weights)


def weighted(problem: Problem) -> tf.Tensor:
    """`weighted` and `independent`: wₖ gₖ with the configuration's weights."""
    return problem.weights


def mean(problem: Problem) -> tf.Tensor:
    """`mean`: the average of the active losses' gradients."""
    return uniform(problem.active)


def random(problem: Problem) -> tf.Tensor:
    """`random`: w = softmax(N(0, 1)ᴷ), drawn anew in each step. RLW, https://arxiv.org/abs/2111.10603

    Differences from the authors' code: the numbers come from the run's seed and the step, so that they are the same on
    every replica and in a resumed run.
    """
    count = problem.active.shape[0]
    return masked_softmax(
        tf.random.stateless_normal([count], problem.seed, dtype=tf.float64, alg="philox"), problem.active
    )
