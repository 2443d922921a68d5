"""MGDA: the shortest convex combination. https://arxiv.org/abs/1810.04650, https://doi.org/10.1016/j.crma.2012.03.014"""

from __future__ import annotations

from trainer.combine import lazy_tensorflow as tf
from trainer.combine.entry import Card, LooksAt, Method, OneOf, options
from trainer.combine.problem import Problem
from trainer.combine.solvers import cosines, nonnegative
from trainer.common import schema
from trainer.common.schema import setting


def weigh(problem: Problem, *, normalize: str = "none") -> tf.Tensor:
    """`mgda`: argmin ‖wᵀJ‖² over w >= 0, Σw = 1.

    With `normalize`, row k of J is divided by `l2`: ‖gₖ‖, `loss`: |Lₖ|, or `loss+`: |Lₖ| ‖gₖ‖ before that; as in the
    authors' code, the weights found are then applied to the original gradients.

    Returns:
      (K,) float64, of sum 1 (all 0 if no loss is active, or if all are divided by losses of 0).
    """
    unit, norms = cosines.of_active(problem)
    divisors = {
        "none": lambda: tf.ones_like(norms),
        "l2": lambda: norms,
        "loss": lambda: tf.abs(problem.losses),
        "loss+": lambda: tf.abs(problem.losses) * norms,
    }[normalize]()
    inverse = tf.math.divide_no_nan(divisors, norms)
    inverse = tf.where(tf.math.is_finite(inverse), inverse, 0.0)  # a loss may not be; see `cosines.of_active`
    zero = tf.cast(problem.active & (norms == 0.0), tf.float64)
    shortest = tf.where(tf.reduce_any(zero > 0.0), zero, shortest_combination(unit, inverse) * inverse)
    return tf.math.divide_no_nan(shortest, tf.reduce_sum(shortest))


def shortest_combination(unit: tf.Tensor, inverse: tf.Tensor) -> tf.Tensor:
    """The shortest Σ vₖ uₖ of unit rows u over v >= 0 with Σ vₖ inverseₖ fixed, up to a factor.

    min ½ vᵀCv + ½ (bᵀv - 1)² has the same solution up to its length, and has one however the rows cancel.

    Args:
      unit: (K, K) float64, the unit rows' inner products.
      inverse: (K,) float64, 1 / length of the rows whose convex combinations are looked at; 0 for those left out.
    """
    inverse = tf.math.divide_no_nan(inverse, tf.reduce_max(inverse))
    return nonnegative.minimise(unit + inverse[:, tf.newaxis] * inverse, -inverse[tf.newaxis])[0]


MGDA = Method(
    function=weigh,
    looks_at=LooksAt.GRAMIAN,
    summary="the shortest vector among all weighted averages of the gradients",
    paper=("MGDA, Désidéri 2012; Sener 2018", "https://arxiv.org/abs/1810.04650"),
    options=options(
        "mgda",
        normalize=setting(
            schema.choice("normalisation", ("none", "l2", "loss", "loss+")),
            "none",
            "by what gₖ is divided while w is found: 1, ‖gₖ‖, |Lₖ|, |Lₖ| ‖gₖ‖",
            OneOf(("none", "l2", "loss", "loss+")),
        ),
    ),
    with_losses=lambda options: "loss" in options["normalize"],
    card=Card(
        formula="Σ wₖ gₖ, w = argmin ‖Σ wₖ gₖ‖² over w >= 0, Σ w = 1",
        work="a quadratic problem with K unknowns, solved exactly",
        use=(
            "No loss may be made worse: the result points against no gradient, and is zero where no direction is good "
            "for all."
        ),
        avoid=(
            "A gradient is much shorter than the others: it gets nearly all the weight, and all losses move as slowly "
            "as its own."
        ),
        differences=(
            "The exact minimum, where theirs stops after Frank-Wolfe steps (250 at most) with changes of 1e-5; a "
            "negative loss counts by its size, where theirs would turn the gradient round; where a gradient is zero it "
            "is the minimum, whatever it is divided by."
        ),
    ),
)
