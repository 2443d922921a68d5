"""A base of the trainer's own Keras losses: what their heads' numbers are, and what metrics compare."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

_SOME = 2  # where a size is not known


class OwnLoss(keras.losses.Loss):
    """A loss that may read several numbers for each number of its target, or give metrics something else to compare.

    For the latter it has a method `metric_pair(y_true, y_pred)`: the target and the prediction that metrics compare.

    Args:
      name, reduction, dtype: as of every Keras loss.
      arguments: the loss's own, which Keras saves with it.
    """

    # How many numbers of a head's last axis belong to each of the target's: d first ones, d second ones and so on.
    numbers_per_value = 1

    def __init__(self, name: str, reduction: str, dtype: Any, **arguments: Any):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self._arguments = arguments

    def get_config(self) -> dict[str, Any]:
        """The arguments with which Keras builds the loss again."""
        return {**super().get_config(), **self._arguments}


def numbers_per_value(function: Any) -> int:
    """The number of numbers on its head's last axis that any loss reads for each number of its target."""
    return function.numbers_per_value if isinstance(function, OwnLoss) else 1


def shape_of_numbers(function: Any, shape: Sequence[int | None]) -> tuple[int | None, ...]:
    """The shape of the numbers of the target to which a prediction of any loss, of this shape, belongs."""
    count, sizes = numbers_per_value(function), tuple(shape)
    return sizes if count == 1 or sizes[-1] is None else (*sizes[:-1], sizes[-1] // count)


def by_number(function: Any, prediction: tf.Tensor) -> tf.Tensor:
    """A prediction with all that belongs to a number of the target on an axis of its own: (..., d n) → (..., d, n)."""
    count = numbers_per_value(function)
    if count == 1:
        return prediction[..., tf.newaxis]
    return tf.stack(tf.split(prediction, count, axis=-1), axis=-1)


def pair_of(function: Any) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]] | None:
    """The function of any loss from target and prediction to what metrics compare; None: they compare just these."""
    return getattr(function, "metric_pair", None) if isinstance(function, OwnLoss) else None


def metric_specs(function: Any, target: Any, prediction: Any) -> tuple[Any, Any]:
    """The shapes and dtypes that metrics of any loss compare, from those of a target and a prediction, batch first."""
    pair = pair_of(function)
    if pair is None:
        return target, prediction
    examples = (tf.zeros([size or _SOME for size in spec.shape], spec.dtype) for spec in (target, prediction))
    return tuple(tf.TensorSpec(each.shape, each.dtype) for each in pair(*examples))


def like(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    """The target in the prediction's type, and in its shape where it has or lacks an axis of 1 at its end."""
    return tf.reshape(tf.cast(y_true, y_pred.dtype), tf.shape(y_pred))
