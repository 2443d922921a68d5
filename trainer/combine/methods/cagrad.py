"""CAGrad: conflict-averse gradient descent. https://arxiv.org/abs/2110.14048"""

from __future__ import annotations

from trainer.combine import lazy_tensorflow as tf
from trainer.combine.entry import Between, Card, LooksAt, Method, options
from trainer.combine.methods import mgda
from trainer.combine.problem import Problem, uniform
from trainer.combine.solvers import cosines, nonnegative
from trainer.common import schema
from trainer.common.schema import setting

_CLOSE = 1e-12  # how near the length of what is added to the mean must be to c‖g₀‖, relative
_MOST_ROUNDS = 40  # 3 to 8 are usual


def weigh(problem: Problem, *, c: float = 0.4) -> tf.Tensor:
    """`cagrad`: of all directions within c‖g₀‖ of the mean g₀, the one with the largest smallest product with a row.

    It is g₀ + c‖g₀‖ g_w / ‖g_w‖ with w = argmin over the simplex of g_wᵀg₀ + c‖g₀‖‖g_w‖; where that g_w is 0 (some
    convex combination vanishes and no such direction has positive products with all rows), it is g₀.

    How it is found: with t the largest smallest product and u = w c‖g₀‖ / ‖g_w‖, optimality says u >= 0,
    G(a + u) - t >= 0 (a the mean's weights) and one of both 0, that is u = argmin over u >= 0 of
    ½ uᵀGu + (Ga - t)ᵀu. The length of u(t) rises with t and is convex, so that Newton's method finds the t at which
    it is c‖g₀‖, from above, where the objective at any w is a start.

    Returns:
      (K,) float64.
    """
    unit, norms = cosines.of_active(problem)
    mean = uniform(problem.active)
    largest = tf.reduce_max(norms)
    lengths = tf.math.divide_no_nan(norms, largest)  # what follows is in units of the longest row
    inverse = tf.math.reciprocal_no_nan(lengths)
    products = tf.linalg.matvec(unit, mean * lengths)
    radius = c * cosines.length(unit, mean * lengths)

    shortest = mgda.shortest_combination(unit, inverse)
    rest = cosines.length(unit, shortest)
    cancels = tf.reduce_any(problem.active & (norms == 0.0)) | (rest <= cosines.CANCELS * tf.reduce_sum(shortest))
    bounds = tf.where(norms > 0.0, lengths * (products + radius), float("inf"))
    bound = tf.minimum(
        tf.reduce_min(bounds),
        tf.math.divide_no_nan(tf.tensordot(shortest, products, 1) + radius * rest, tf.reduce_sum(shortest * inverse)),
    )

    def body(
        count: tf.Tensor, height: tf.Tensor, added: tf.Tensor, far: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        linear = (products - height * inverse)[tf.newaxis]
        guess = tf.cond(count == 0, lambda: linear < 0.0, lambda: added[tf.newaxis] > 0.0)
        added = nonnegative.minimise(unit, linear, free=guess)[0]
        length = cosines.length(unit, added)
        slope = tf.reduce_sum(added * inverse)
        far = length - radius > _CLOSE * radius
        return count + 1, height - tf.math.divide_no_nan((length - radius) * length, slope), added, far

    _, _, added, _ = tf.while_loop(
        lambda count, height, added, far: far & (count < _MOST_ROUNDS),
        body,
        (0, tf.where(cancels, tf.minimum(bound, 0.0), bound), tf.zeros_like(norms), radius > 0.0),
    )
    length = cosines.length(unit, added)
    # At height 0 what is added is too short only where a combination vanishes.
    added *= tf.where(length >= (1.0 - 1e-6) * radius, tf.math.divide_no_nan(radius, length), 0.0)
    return mean + added * inverse


CAGRAD = Method(
    function=weigh,
    looks_at=LooksAt.GRAMIAN,
    summary="best for the loss it helps least, within c‖mean‖ of the mean gradient",
    paper=("CAGrad, Liu 2021", "https://arxiv.org/abs/2110.14048"),
    options=options(
        "cagrad",
        c=setting(
            schema.fraction,
            0.4,
            "how far from the mean gradient the result may be, as part of its length",
            Between(0.05, 0.95),
        ),
    ),
    card=Card(
        formula=(
            "g₀ + c‖g₀‖ g_w / ‖g_w‖, g₀ the mean gradient, w = argmin of g_wᵀg₀ + c‖g₀‖‖g_w‖ over w >= 0, Σ w = 1; g₀ "
            "where that g_w is 0"
        ),
        work="a few quadratic problems with K unknowns, solved exactly (3 to 8 as a rule)",
        use="The mean loss is the goal, and on the way the loss that gains least is to gain more.",
        avoid=(
            "The losses' scales differ: the longest gradient decides what the mean is, and the result stays near that."
        ),
        differences=(
            "Solved exactly, where theirs uses SciPy's SLSQP or, in the fast variant, some steps of momentum; no "
            "division by 1 + c or 1 + c² afterwards."
        ),
    ),
)
