"""Gramians of per-loss gradients that are kept as lists per variable: G = Σ over variables of G_v."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from trainer.gradients import layout, ordered_sums
from trainer.gradients.reach import Jacobian, Reach

_IN_FLIGHT = 2  # pieces at a time; one uses the processor's cores that the other leaves idle
_ALIGNED = 64  # a piece of a vector is no copy where its first element is at a multiple of this
_MANY = 32  # rows, from which on leaving out products that symmetry gives is worth a second call


def block(gradients: Sequence[tf.Tensor] | tf.Tensor, piece: int = layout.CPU.piece) -> tf.Tensor:
    """Inner products of several gradients of one variable: (k, k) float64, accumulated in float64.

    Args:
      gradients: k tensors of one shape and floating dtype, or the rows of a matrix (k, n).
      piece: numbers that are copied to float64 together.
    """
    if isinstance(gradients, tf.Tensor):
        count, size = gradients.shape
        if gradients.dtype == tf.float64:
            return _inner_products(gradients)
    else:
        gradients = [tf.reshape(gradient, [-1]) for gradient in gradients]
        count, size = len(gradients), gradients[0].shape[0]

    def products(first: tf.Tensor | int, length: int) -> tf.Tensor:
        """Inner products over `length` columns from `first` on; -1: over all that are left."""
        if isinstance(gradients, tf.Tensor):
            rows = tf.slice(gradients, [0, first], [count, length])
        else:
            rows = tf.stack([tf.slice(row, [first], [length]) for row in gradients])
        return _inner_products(tf.cast(rows, tf.float64))

    if size is None:  # it depends on the batch, and is never large
        return products(0, -1)
    length = max(piece // count // _ALIGNED, 1) * _ALIGNED
    whole = max(-(-size // length) - 1, 0)
    rest = products(whole * length, -1)
    if not whole:
        return rest
    # A loop, so that the graph does not grow with the gradients; one piece is added after another.
    return tf.while_loop(
        lambda index, _: index < whole,
        lambda index, total: (index + 1, total + products(index * length, length)),
        (tf.constant(0), rest),
        parallel_iterations=_IN_FLIGHT,
    )[1]


def _inner_products(rows: tf.Tensor) -> tf.Tensor:
    """R Rᵀ."""
    count = rows.shape[0]
    if count < _MANY:
        return tf.matmul(rows, rows, transpose_b=True)
    upper, lower = rows[: count // 2], rows[count // 2 :]
    above = tf.matmul(upper, rows, transpose_b=True)
    below = tf.matmul(lower, lower, transpose_b=True)
    return tf.concat([above, tf.concat([tf.transpose(above[:, count // 2 :]), below], axis=1)], axis=0)


def total(blocks: Sequence[tf.Tensor], by: Sequence[tuple[int, ...]], count: int) -> tf.Tensor:
    """The Gramian over several variables.

    Args:
      blocks: for each variable, the (k, k) inner products of the losses that reach it.
      by: for each variable, the indices of those losses.
      count: number of losses K.

    Returns:
      (K, K) float64; zeros for pairs that share no variable.
    """
    groups: dict[tuple[int, ...], list[tf.Tensor]] = {}
    for losses, products in zip(by, blocks, strict=True):
        groups.setdefault(losses, []).append(products)
    parts = [tf.zeros([count, count], tf.float64)]
    for losses, products in groups.items():
        place = np.eye(count)[list(losses)]  # (k, K): row i of a block belongs to loss losses[i]
        parts.append(tf.matmul(place, tf.matmul(ordered_sums.ordered(products), place), transpose_a=True))
    return ordered_sums.ordered(parts)


def of_shared(jacobian: Jacobian, reach: Reach, normalizers: tf.Tensor, piece: int = layout.CPU.piece) -> tf.Tensor:
    """The Gramian over the variables that two losses or more reach.

    Args:
      jacobian: per variable of `reach`, sums of gradients of the losses that reach it.
      reach: which losses reach which variable.
      normalizers: (K,) float64, the factors that make means of the sums.
      piece: as `block` has it.

    Returns:
      (K, K) float64, of the means.
    """
    blocks: list[tf.Tensor] = []
    for v in reach.shared:
        with tf.control_dependencies(blocks[-1:]):
            blocks.append(block([tf.identity(gradient) for gradient in jacobian[v]], piece))
    sums_ = total(blocks, [reach.losses[v] for v in reach.shared], normalizers.shape[0])
    return scaled(sums_, normalizers)


def scaled(gramian: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """The Gramian of rows that are multiplied by (k,) factors."""
    return gramian * factors[:, tf.newaxis] * factors
