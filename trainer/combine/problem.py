"""What a combination method may look at."""

from typing import NamedTuple

import tensorflow as tf


class Problem(NamedTuple):
    """One step's K x K problem; the same numbers on every replica.

    Attributes:
      active: (K,) bool; a loss without a labelled example in the global batch is inactive: it must get weight 0.
      weights: (K,) float64, the configuration's weights.
      gramian: (K, K) float64, inner products of the losses' gradients; None for methods that look at nothing.
      seed: (2,) int32, a stateless seed of this run and step.
    """

    active: tf.Tensor
    weights: tf.Tensor
    gramian: tf.Tensor | None
    seed: tf.Tensor


def unit_gramian(gramian: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Cosines (K, K) and norms (K,) from a Gramian; rows and columns of zero where a norm is 0."""
    norms = tf.sqrt(tf.linalg.diag_part(gramian))
    inverse = tf.math.reciprocal_no_nan(norms)
    return gramian * inverse[:, tf.newaxis] * inverse, norms
