"""GradVac: gradient vaccine. https://arxiv.org/abs/2010.05874"""

from __future__ import annotations

from trainer.combine import lazy_tensorflow as tf
from trainer.combine import random_numbers
from trainer.combine.entry import Between, Card, LooksAt, Method, options
from trainer.combine.problem import Answer, Problem, State, unit_gramian
from trainer.common import schema
from trainer.common.schema import setting

_COSINES = "cosines"
_SMALLEST = 1e-8  # of sin², below which two gradients are one direction


def initial(count: int, *, beta: float) -> dict[str, tf.Tensor]:
    """Target cosines of 0."""
    del beta
    return {_COSINES: tf.zeros([count, count], tf.float64)}


def align(problem: Problem, state: State, *, beta: float = 0.5) -> Answer:
    """`gradvac`: every gradient is turned to those whose cosine with it is below the pair's usual one; then summed.

    Where the cosine φ of gradient i, as it is by then, and gradient j is below the target φ̂ᵢⱼ, a multiple of j is
    added to i that makes their cosine φ̂ᵢⱼ. The target then moves, φ̂ᵢⱼ ← (1 - β) φ̂ᵢⱼ + β φ. Every gradient visits the
    others in a random order of its own, drawn from the step's seed. All of it happens on coefficients, as in `pcgrad`.

    Args:
      problem: needs `gramian`.
      state: φ̂, (K, K).

    Returns:
      (K, K) weights; row i holds how gradient i, turned, is made of the original ones.
    """
    count = problem.gramian.shape[0]
    cosines, norms = unit_gramian(problem.gramian)
    order = tf.argsort(random_numbers.uniform(problem, [count, count], tf.float32), axis=1)
    exists = problem.active & (norms > 0)

    def visit(
        position: tf.Tensor, coefficients: tf.Tensor, targets: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        visited = order[:, position]
        other = tf.one_hot(visited, count, dtype=tf.float64)
        products = tf.matmul(coefficients, cosines)  # of every gradient, as it is by now, with every unit row
        squares = tf.reduce_sum(products * coefficients, axis=1)
        length = tf.sqrt(tf.maximum(squares, 0.0))
        cosine = tf.clip_by_value(tf.math.divide_no_nan(tf.reduce_sum(products * other, axis=1), length), -1.0, 1.0)
        target = tf.reduce_sum(targets * other, axis=1)
        meets = (visited != tf.range(count)) & exists & tf.gather(exists, visited)
        sine = tf.sqrt(tf.maximum(1 - tf.square(target), _SMALLEST))
        added = length * (target * tf.sqrt(1 - tf.square(cosine)) - cosine * sine) / sine
        added = tf.where(meets & (cosine < target), added, 0.0)
        moved = tf.where(meets, beta * (cosine - target), 0.0)
        return position + 1, coefficients + added[:, tf.newaxis] * other, targets + moved[:, tf.newaxis] * other

    _, coefficients, targets = tf.while_loop(
        lambda position, *_: position < count, visit, (0, tf.eye(count, dtype=tf.float64), state[_COSINES])
    )
    weights = norms[:, tf.newaxis] * coefficients * tf.math.reciprocal_no_nan(norms)
    return Answer(weights + tf.linalg.diag(tf.cast(norms == 0.0, tf.float64)), {_COSINES: targets})


GRADVAC = Method(
    function=align,
    looks_at=LooksAt.GRAMIAN,
    summary="as PCGrad, towards a moving average of each pair's cosine",
    paper=("GradVac, Wang 2021", "https://arxiv.org/abs/2010.05874"),
    options=options(
        "gradvac",
        beta=setting(schema.between(0, 1), 0.5, "β, how fast the targets move", Between(0.01, 1, log=True)),
    ),
    initial=initial,
    diagonal=False,
    card=Card(
        formula=(
            "Σ gᵢ after, for every i, over all other j in a random order: where cos(gᵢ, gⱼ) = φ < φ̂ᵢⱼ, so much of gⱼ "
            "is added to gᵢ that it becomes φ̂ᵢⱼ; φ̂ᵢⱼ ← (1 - β) φ̂ᵢⱼ + β φ"
        ),
        work="K rounds of a K x K product",
        use=(
            "Related losses whose gradients usually agree: they are also corrected where they agree less than usual, "
            "where PCGrad does nothing."
        ),
        avoid=(
            "Losses conflict for good: the targets become negative, and only conflicts worse than usual are corrected."
        ),
        differences=(
            "The same computation on the K x K Gramian; one cosine over all shared variables instead of one for each "
            "layer."
        ),
    ),
)
