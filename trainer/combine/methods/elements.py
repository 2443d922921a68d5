"""Combinations of the gradients of one variable, element by element.

Each is called for every shared variable as `function(gradients, problem, **options)` with the gradients of the k losses
that reach it, (k, ...) of the variable's shape and dtype, zeros where a loss is inactive; a problem of these k losses
whose seed is the variable's own; and returns what is applied, of the variable's shape and dtype.
"""

from __future__ import annotations

from trainer.combine import lazy_tensorflow as tf
from trainer.combine import problem as problem_lib
from trainer.combine import random_numbers
from trainer.combine.entry import Between, Card, LooksAt, Method, options
from trainer.combine.problem import Problem
from trainer.common import schema
from trainer.common.schema import setting


def graddrop(gradients: tf.Tensor, problem: Problem, *, leak: float = 0.0) -> tf.Tensor:
    """`graddrop`: per element P = ½ (1 + Σg / Σ|g|); with probability P the positive gradients are summed, else the
    negative ones. https://arxiv.org/abs/2010.06808

    Args:
      gradients: (k, ...).
      problem: of these losses.
    """
    total = tf.reduce_sum(gradients, axis=0)
    purity = 0.5 * (1 + tf.math.divide_no_nan(total, tf.reduce_sum(tf.abs(gradients), axis=0)))
    drawn = random_numbers.uniform(problem, total.shape, total.dtype)
    kept = tf.reduce_sum(tf.where(purity > drawn, tf.maximum(gradients, 0), tf.minimum(gradients, 0)), axis=0)
    return kept if leak == 0 else leak * total + (1 - leak) * kept


def trimmed_mean(gradients: tf.Tensor, problem: Problem, *, trim: int = 1) -> tf.Tensor:
    """`trimmed_mean`: per element the mean without the `trim` largest and smallest. https://arxiv.org/abs/1803.01498

    Where fewer than 2 trim + 1 losses are active or reach the variable, as many are left out as leave one or two; of
    none the result is 0.

    Args:
      gradients: (k, ...).
      problem: of these losses.
    """
    count = tf.cast(problem_lib.count(problem.active), tf.int32)
    out = tf.maximum(tf.minimum(trim, (count - 1) // 2), 0)
    place = tf.range(gradients.shape[0])
    kept = tf.cast((place >= out) & (place < count - out), gradients.dtype)
    shape = [-1] + [1] * (gradients.shape.rank - 1)
    last = gradients.dtype.max  # of inactive ones, which come behind all others
    in_order = tf.sort(tf.where(tf.reshape(problem.active, shape), gradients, last), axis=0)
    in_order = tf.where(tf.reshape(kept > 0, shape), in_order, 0)
    return tf.math.divide_no_nan(
        tf.reduce_sum(in_order, axis=0), tf.cast(tf.maximum(count - 2 * out, 0), gradients.dtype)
    )


GRADDROP = Method(
    function=graddrop,
    looks_at=LooksAt.ELEMENTS,
    summary="per element, only the gradients of one sign, drawn by how pure it is, are summed",
    paper=("GradDrop, Chen 2020", "https://arxiv.org/abs/2010.06808"),
    options=options(
        "graddrop",
        leak=setting(
            schema.between(0, 1), 0.0, "the part of each gradient that passes whatever its sign", Between(0, 0.9)
        ),
    ),
    random=True,
    card=Card(
        formula=(
            "per element, with probability P = ½ (1 + Σg / Σ|g|) the sum of the positive gradients, else of the "
            "negative ones; the part `leak` of it is Σg instead"
        ),
        work="a random number for each element of the shared variables",
        use="Gradients conflict in single elements, and noise does no harm.",
        avoid=(
            "Every loss needs a mixed gradient of its own (`apply=per_loss`), or the losses' scales differ: the "
            "longest gradient decides which sign is likely."
        ),
        differences=(
            "Gradients of variables, not of activations; the numbers that decide come from the run's seed, the step "
            "and the variable."
        ),
    ),
)

TRIMMED_MEAN = Method(
    function=trimmed_mean,
    looks_at=LooksAt.ELEMENTS,
    summary="per element, the mean without the largest and the smallest",
    paper=("Yin 2018", "https://arxiv.org/abs/1803.01498"),
    options=options(
        "trimmed_mean",
        trim=setting(schema.integer(1), 1, "how many gradients are left out at either end"),
    ),
    least_losses=lambda options: 2 * options["trim"] + 1,
    card=Card(
        formula="per element, the mean of the gradients without the `trim` largest and the `trim` smallest",
        work="a sort of K numbers for each element of the shared variables",
        use="Many losses of one kind and scale, of which a few may be far off.",
        avoid=(
            "There are few losses (of three the middle one alone is left), or their scales differ: the longest "
            "gradients are what is left out."
        ),
        differences=(
            "The paper's is over workers, here it is over losses; where fewer than 2 trim + 1 losses are active or "
            "reach a variable, as many are left out as leave one or two."
        ),
    ),
)
