"""Gramians of per-loss gradients that are kept as lists per variable: G = Σ over variables of G_v."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from trainer import sums
from trainer.jacobian import Jacobian, Reach

# Elements that are copied to float64 together; a gradient is cut into a bounded number of pieces, so that neither the
# memory nor the graph grows much with its size.
_SMALLEST_PIECE, _MOST_PIECES = 2**18, 32


def block(gradients: Sequence[tf.Tensor]) -> tf.Tensor:
    """Inner products of several gradients of one variable: (k, k) float64, accumulated in float64."""
    flat = [tf.reshape(gradient, [-1]) for gradient in gradients]
    size = flat[0].shape[0] or 1  # not known where it depends on the batch; that is never large
    piece = max(_SMALLEST_PIECE, -(-size // _MOST_PIECES))
    ends = [*range(piece, size, piece), None]
    products: list[tf.Tensor] = []
    for first, last in zip([0, *ends[:-1]], ends, strict=True):
        with tf.control_dependencies(products[-1:]):  # one after another, each with the memory of one
            rows = tf.cast(tf.stack([row[first:last] for row in flat]), tf.float64)
        products.append(tf.matmul(rows, rows, transpose_b=True))
    return products[0] if len(products) == 1 else sums.ordered(products)


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
        parts.append(tf.matmul(place, tf.matmul(sums.ordered(products), place), transpose_a=True))
    return sums.ordered(parts)


def of_shared(jacobian: Jacobian, reach: Reach, means: tf.Tensor) -> tf.Tensor:
    """The Gramian over the variables that two losses or more reach.

    Args:
      jacobian: per variable of `reach`, sums of gradients of the losses that reach it.
      reach: which losses reach which variable.
      means: (K,) float64, what makes means of the sums.

    Returns:
      (K, K) float64, of the means.
    """
    blocks: list[tf.Tensor] = []
    for v in reach.shared:
        with tf.control_dependencies(blocks[-1:]):
            blocks.append(block([tf.identity(gradient) for gradient in jacobian[v]]))
    sums_ = total(blocks, [reach.losses[v] for v in reach.shared], means.shape[0])
    return scaled(sums_, means)


def scaled(gramian: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """The Gramian of rows that are multiplied by (k,) factors."""
    return gramian * factors[:, tf.newaxis] * factors
