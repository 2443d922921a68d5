"""Statistics of the losses' gradients in a step: whether they are finite, their norms, their cosines."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from trainer.gradients import gramian as gramian_lib
from trainer.gradients import layout, ordered_sums
from trainer.gradients.reach import Jacobian, Reach


class Finite(NamedTuple):
    """The losses of a step that are finite.

    Attributes:
      of_each: (K,) bool, whether a loss and its gradients are.
      all: scalar bool, whether all of them are, of as few operations as can be: updates wait for it.
    """

    of_each: tf.Tensor
    all: tf.Tensor


def finite(jacobian: Jacobian, losses: tf.Tensor, reach: Reach) -> Finite:
    """Returns for each loss whether it and all its gradients are finite.

    A gradient counts as finite where the sum of its elements is: one pass that stores nothing.

    Args:
      jacobian: reduced gradients, per variable of `reach` one for every loss that reaches it.
      losses: (K,) values.
      reach: which losses reach which variable.
    """
    checks = _finite([gradient for gradients in jacobian for gradient in gradients])
    owners = np.array([k for by in reach.losses for k in by])
    of_others = owners != np.arange(losses.shape[0])[:, np.newaxis]  # (K, gradients)
    own = tf.math.is_finite(losses)
    return Finite(own & tf.reduce_all(checks | of_others, axis=1), tf.reduce_all(checks) & tf.reduce_all(own))


def finite_together(
    gradients: Sequence[tf.Tensor], losses: tf.Tensor, reach: Reach, rows: tf.Tensor | None = None
) -> Finite:
    """Returns for each loss whether it and what it contributes is finite, where the losses have one gradient together.

    Args:
      gradients: one per variable of `reach`, of a weighted sum of the losses.
      losses: (K,) values.
      reach: which losses reach which variable.
      rows: (K,) numbers that are not finite where a loss's gradient at the features is not.

    Returns:
      Where a shared variable's gradient is not finite and no loss shows by itself, no loss is finite.
    """
    checks = _finite(gradients)
    reaches = np.array([[k in by for by in reach.losses] for k in range(losses.shape[0])])
    shared = np.array([len(by) > 1 for by in reach.losses])
    own = tf.math.is_finite(losses)
    if rows is not None:
        own &= tf.math.is_finite(rows)
    everything = tf.reduce_all(checks) & tf.reduce_all(own)
    own &= tf.reduce_all(checks | ~(reaches & ~shared), axis=1)
    return Finite(own & (tf.reduce_all(checks | ~shared) | ~tf.reduce_all(own)), everything)


def _finite(gradients: Sequence[tf.Tensor]) -> tf.Tensor:
    totals = [tf.reduce_sum(gradient) for gradient in gradients]
    if len({total.dtype for total in totals}) > 1:
        totals = [tf.cast(total, tf.float64) for total in totals]
    return tf.math.is_finite(tf.stack(totals))


def not_measured(count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Norms and cosines of a step that does not measure them: zeros, (K,) and (K, K) float64."""
    return tf.zeros([count], tf.float64), tf.zeros([count, count], tf.float64)


def of_gramian(gramian: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Norms (K,) and cosines (K, K) from a (K, K) float64 Gramian; cosines of zero where a gradient is zero."""
    norms = tf.sqrt(tf.linalg.diag_part(gramian))
    scales = tf.math.reciprocal_no_nan(norms)
    return norms, tf.clip_by_value(gramian * scales[:, tf.newaxis] * scales, -1.0, 1.0)


def norms_and_cosines(
    jacobian: Jacobian,
    reach: Reach,
    normalizers: tf.Tensor,
    gramian: tf.Tensor | None,
    active: tf.Tensor,
    *,
    wanted: tf.Tensor,
    piece: int = layout.CPU.piece,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Lengths of the losses' gradients and the cosines between them.

    Args:
      jacobian: reduced gradients, per variable of `reach` one for every loss that reaches it.
      reach: which losses reach which variable.
      normalizers: (K,) float64, the factors that make means of the jacobian's sums.
      gramian: (K, K) float64 over the shared variables, where the step has it already; the cosines are known then.
      active: (K,) bool.
      wanted: scalar bool; where it does not hold, zeros are returned for what is not known, and nothing is computed.
      piece: as `gramian.block` has it.

    Returns:
      (K,) float64, each loss's norm over all the variables it reaches, 0 where inactive; and (K, K) float64, cosines
      over the shared variables, rows of zero where a gradient is.
    """
    count = active.shape[0]
    known = None if gramian is None else of_gramian(gramian)[1]

    def measure() -> tuple[tf.Tensor, tf.Tensor]:
        shared = gramian_lib.of_shared(jacobian, reach, normalizers, piece) if gramian is None else gramian
        squares = [[square] for square in tf.unstack(tf.linalg.diag_part(shared))]
        factors = tf.unstack(tf.square(normalizers))
        for (gradient, *_), by in zip(jacobian, reach.losses, strict=True):
            if len(by) == 1:
                squares[by[0]].append(ordered_sums.square(gradient) * factors[by[0]])
        norms = tf.sqrt(tf.stack([ordered_sums.ordered(own) for own in squares]))
        return tf.where(active, norms, 0), of_gramian(shared)[1] if known is None else not_measured(count)[1]

    norms, cosines = tf.cond(wanted, measure, lambda: not_measured(count))
    return norms, cosines if known is None else known
