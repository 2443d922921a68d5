"""Gramians of per-loss gradients that are kept as lists per variable: G = Σ over variables of G_v."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from trainer import sums
from trainer.jacobian import Jacobian, Reach


def block(gradients: Sequence[tf.Tensor]) -> tf.Tensor:
    """Inner products of several gradients of one variable: (k, k) float64, accumulated in float64."""
    rows = tf.cast(tf.stack([tf.reshape(gradient, [-1]) for gradient in gradients]), tf.float64)
    return tf.matmul(rows, rows, transpose_b=True)


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
    blocks = [block(jacobian[v]) for v in reach.shared]
    sums_ = total(blocks, [reach.losses[v] for v in reach.shared], means.shape[0])
    return scaled(sums_, means)


def scaled(gramian: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """The Gramian of rows that are multiplied by (k,) factors."""
    return gramian * factors[:, tf.newaxis] * factors
