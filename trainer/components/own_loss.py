"""A base of the trainer's own Keras losses: what their heads' numbers are, and what metrics compare."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.components import labels

_SOME = 2  # where a size is not known


class OwnLoss(keras.losses.Loss):
    """A loss that may read several numbers for each number of its target, or give metrics something else to compare.

    Args:
      name, reduction, dtype: as of every Keras loss.
      arguments: the loss's own, which Keras saves with it.
    """

    # How many numbers of a head's last axis belong to each of the target's: d first ones, d second ones and so on.
    numbers_per_value = 1
    # Whether metrics compare something else than the target and the prediction.
    changes_metrics = False
    # Whether it leaves out, by itself, items or examples whose target is NaN.
    leaves_out_nan = False

    def __init__(self, name: str, reduction: str, dtype: Any, **arguments: Any):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self._arguments = arguments

    def get_config(self) -> dict[str, Any]:
        """The arguments with which Keras builds the loss again."""
        return {**super().get_config(), **self._arguments}

    def metric_target(self, y_true: tf.Tensor) -> tf.Tensor:
        """The target as metrics compare it."""
        return y_true

    def metric_prediction(self, y_pred: tf.Tensor) -> tf.Tensor:
        """The prediction as metrics compare it."""
        return y_pred


@dataclasses.dataclass(frozen=True)
class OtherTarget:
    """A loss whose head is compared, by metrics alone, with another target than the loss's own.

    Attributes:
      func: the loss.
    """

    func: Any


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


def of_head(loss: Any, target: str) -> Any:
    """The function of a named loss, for metrics that compare its head with a target, its own or another one."""
    return loss.function if loss.target == target else OtherTarget(loss.function)


def pair_of(function: Any) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]] | None:
    """The function of any loss from target and prediction to what metrics compare; None: they compare just these."""
    loss = function.func if isinstance(function, OtherTarget) else function
    if not isinstance(loss, OwnLoss) or not loss.changes_metrics:
        return None

    def pair(target: tf.Tensor, prediction: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        own = target if isinstance(function, OtherTarget) else loss.metric_target(target)
        return own, loss.metric_prediction(prediction)

    return pair


def metric_specs(function: Any, target: Any, prediction: Any) -> tuple[Any, Any]:
    """The shapes and dtypes that metrics of any loss compare, from those of a target and a prediction, batch first."""
    pair = pair_of(function)
    if pair is None:
        return target, prediction
    examples = (tf.zeros([size or _SOME for size in spec.shape], spec.dtype) for spec in (target, prediction))
    return tuple(tf.TensorSpec(each.shape, each.dtype) for each in pair(*examples))


def without_nan(function: Any, target: tf.Tensor, prediction: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Any loss's target and where labels are, as `labels.without_nan`; NaN stays where the loss leaves it out itself.

    Then an example has a label where any number on the target's last axis is there.
    """
    if not isinstance(function, OwnLoss) or not function.leaves_out_nan:
        return labels.without_nan(target)
    there = ~tf.math.is_nan(target)
    return target, tf.reduce_any(there, -1) if target.shape.rank == prediction.shape.rank > 1 else there


def like(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    """The target in the prediction's type, and in its shape where it has or lacks an axis of 1 at its end."""
    return tf.reshape(tf.cast(y_true, y_pred.dtype), tf.shape(y_pred))
