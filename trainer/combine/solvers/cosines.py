"""Inner products of unit-length rows for the solvers, so that the rows' scales play no part in them."""

from __future__ import annotations

from trainer.combine import lazy_tensorflow as tf
from trainer.combine.problem import Problem, unit_gramian

# Where ‖Σ vₖ uₖ‖ / Σ vₖ of unit rows u and some v >= 0 is below this, the rows are taken to cancel: the float64
# Gramian's own error, squared, is not far below, and float32 rows meant to be opposite are not closer to it.
CANCELS = 3e-7


def of_active(problem: Problem) -> tuple[tf.Tensor, tf.Tensor]:
    """Cosines (K, K) and norms (K,) of the active losses' gradients; zero where inactive or where a norm is 0.

    Values that are not finite count as zero: a solver must end and must not raise, whatever the gradients hold, and a
    step with such gradients is not taken anyway.
    """
    cosines, norms = unit_gramian(problem.gramian)
    usable = problem.active & tf.math.is_finite(norms)
    both = usable[:, tf.newaxis] & usable & tf.math.is_finite(cosines)
    return tf.where(both, cosines, 0.0), tf.where(usable, norms, 0.0)


def length(cosines: tf.Tensor, coefficients: tf.Tensor) -> tf.Tensor:
    """‖Σ vₖ uₖ‖ of unit rows u."""
    return tf.sqrt(tf.maximum(tf.tensordot(coefficients, tf.linalg.matvec(cosines, coefficients), 1), 0.0))
