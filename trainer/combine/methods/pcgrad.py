"""PCGrad: gradient surgery. https://arxiv.org/abs/2001.06782"""

from __future__ import annotations

from trainer.combine import lazy_tensorflow as tf
from trainer.combine import random_numbers
from trainer.combine.entry import Card, LooksAt, Method
from trainer.combine.problem import Problem, unit_gramian


def project(problem: Problem) -> tf.Tensor:
    """`pcgrad`: every gradient is projected off those it conflicts with, one after another; the results are summed.

    Every gradient visits the others in a random order of its own, drawn from the step's seed; those it visits are the
    original gradients, as in the paper. All of it happens on coefficients: gradient i starts as the unit vector eᵢ
    of the unit rows, and projecting it off row j changes its j-th coefficient alone.

    Returns:
      (K, K) float64; row i holds how gradient i, projected, is made of the original ones.
    """
    count = problem.gramian.shape[0]
    cosines, norms = unit_gramian(problem.gramian)
    order = tf.argsort(random_numbers.uniform(problem, [count, count], tf.float32), axis=1)

    def visit(position: tf.Tensor, coefficients: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        other = tf.one_hot(order[:, position], count, dtype=tf.float64)
        product = tf.reduce_sum(
            tf.matmul(coefficients, cosines) * other, axis=1
        )  # every gradient with the one it visits
        conflict = (product < 0.0) & (order[:, position] != tf.range(count))
        return position + 1, coefficients - tf.where(conflict, product, 0.0)[:, tf.newaxis] * other

    _, coefficients = tf.while_loop(lambda position, _: position < count, visit, (0, tf.eye(count, dtype=tf.float64)))
    weights = norms[:, tf.newaxis] * coefficients * tf.math.reciprocal_no_nan(norms)
    return weights + tf.linalg.diag(tf.cast(norms == 0.0, tf.float64))


PCGRAD = Method(
    function=project,
    looks_at=LooksAt.GRAMIAN,
    summary="conflicting gradients projected off one another, then summed",
    paper=("PCGrad, Yu 2020", "https://arxiv.org/abs/2001.06782"),
    diagonal=False,
    card=Card(
        formula=(
            "Σ gᵢ after, for every i, over all other j in a random order: where gᵢ·gⱼ < 0, gᵢ ← gᵢ - (gᵢ·gⱼ / ‖gⱼ‖²) "
            "gⱼ, with the original gⱼ"
        ),
        work="K rounds of a K x K product",
        use=(
            "Gradients conflict now and then. Without a conflict it is `sum`, so that a learning rate tuned for that "
            "holds."
        ),
        avoid=(
            "The losses' scales differ: as with `sum` the longest gradient decides. Or no loss may be made worse: with "
            "three losses or more a later projection can bring an earlier conflict back (`dual_proj`, `upgrad`)."
        ),
        differences="The same computation on the K x K Gramian instead of on n-vectors.",
    ),
)
