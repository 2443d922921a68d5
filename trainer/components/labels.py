"""The weights of labels: those of the data, masks of Keras, and classes that are ignored."""

from collections.abc import Sequence

import tensorflow as tf


def product(factors: Sequence[tf.Tensor | None], dtype: tf.DType) -> tf.Tensor | None:
    """Returns the product of weights that are aligned at their first axes; None where there are none.

    Args:
      factors: of shape (examples, ...), bool or numbers; None: 1.
      dtype: of the product.
    """
    found = [tf.cast(factor, dtype) for factor in factors if factor is not None]
    rank = max((factor.shape.rank for factor in found), default=0)
    result = None
    for factor in (_of_rank(factor, rank) for factor in found):
        result = factor if result is None else result * factor
    return result


def both(mask: tf.Tensor | None, other: tf.Tensor | None) -> tf.Tensor | None:
    """Returns where two masks, aligned at their first axes, are both True; None: everywhere."""
    if mask is None or other is None:
        return other if mask is None else mask
    rank = max(mask.shape.rank, other.shape.rank)
    return _of_rank(mask, rank) & _of_rank(other, rank)


def broadcast(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Returns weights of shape (examples, ...) as one for each of a loss's values; axes of 1 at the end are left out.

    Raises:
      ValueError: they do not broadcast to the values.
    """
    shape = tuple(weights.shape)
    while weights.shape.rank > values.shape.rank and weights.shape[-1] == 1:
        weights = tf.squeeze(weights, -1)
    weights = _of_rank(weights, values.shape.rank)
    pairs = zip(weights.shape[1:], values.shape[1:], strict=False)
    if weights.shape.rank != values.shape.rank or any(w not in (1, v) for w, v in pairs if None not in (w, v)):
        raise ValueError(f"weights of shape {shape} do not broadcast to values of shape {tuple(values.shape)}")
    return tf.broadcast_to(weights, tf.shape(values))


def are_of_every_number(weights: tf.Tensor | None, target: tf.Tensor, prediction: tf.Tensor) -> bool:
    """Returns True where weights are of every number of a target, not of examples, rows or pixels."""
    if weights is None:
        return False
    shape = tuple(weights.shape[1:])
    return len(shape) > 0 and shape[-1] != 1 and shape == tuple(target.shape[1:]) == tuple(prediction.shape[1:])


def _of_rank(weights: tf.Tensor, rank: int) -> tf.Tensor:
    """Weights with axes of 1 at the end up to a rank."""
    while weights.shape.rank < rank:
        weights = weights[..., tf.newaxis]
    return weights
