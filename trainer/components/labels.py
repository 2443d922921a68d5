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


def fit(weights: tf.Tensor, values: tf.Tensor) -> bool:
    """Returns True where weights of shape (examples, ...) broadcast to a loss's values as `broadcast` does it."""
    own, of_values = list(weights.shape), list(values.shape)
    while len(own) > len(of_values) and own[-1] == 1:
        own.pop()
    pairs = zip(own[1:], of_values[1:], strict=False)
    return len(own) <= len(of_values) and all(w in (1, v) for w, v in pairs if None not in (w, v))


def broadcast(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Returns weights that `fit` as one for each of a loss's values; axes of 1 at the end are left out."""
    while weights.shape.rank > values.shape.rank and weights.shape[-1] == 1:
        weights = tf.squeeze(weights, -1)
    weights = _of_rank(weights, values.shape.rank)
    one_for_each = values.shape[1:].is_fully_defined() and tuple(weights.shape) == tuple(values.shape)
    return weights if one_for_each else tf.broadcast_to(weights, tf.shape(values))


def without_nan(target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns a floating target with 0 in place of NaN, and a bool tensor of its shape, True where it is a number."""
    there = ~tf.math.is_nan(target)
    return tf.where(there, target, tf.zeros_like(target)), there


def of_first_axes(mask: tf.Tensor, rank: int) -> tf.Tensor:
    """Returns a mask of at most `rank` axes, True where all that stands behind these is."""
    return tf.reduce_all(mask, axis=list(range(rank, mask.shape.rank))) if mask.shape.rank > rank else mask


def of_examples(weights: tf.Tensor) -> tf.Tensor:
    """(examples,) bool, whether an example has a label: whether any of its weights, or of its mask, is not 0."""
    return tf.reduce_any(tf.cast(weights, tf.bool), axis=tuple(range(1, weights.shape.rank)))


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
