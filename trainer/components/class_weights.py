"""Weights for classes of very different frequency: of any loss's target, and binary cross-entropy with two."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from input_pipelines.class_counts import BINARY, ONE_HOT, Classes


@dataclasses.dataclass(frozen=True)
class ClassWeights:
    """Weights of the classes of a loss's target.

    Attributes:
      classes: the form in which the target holds classes.
      table: for each label, the weight of each class; a single row is of all labels.
    """

    classes: Classes
    table: tuple[tuple[float, ...], ...]

    def of(self, target: tf.Tensor) -> tf.Tensor:
        """The weight of each value's class, of the loss's values' shape; of each label's where there are several.

        A number that is none of the classes has weight 0, as has the ignored one.
        """
        classes, dtype = self.classes, keras.config.floatx()
        target = target[..., 0] if classes.has_axis else target
        table = tf.constant(self.table, dtype)
        if classes.form == BINARY:
            of_labels = table if classes.labels > 1 else table[0]
            return tf.where(tf.cast(target, dtype) > 0.5, of_labels[..., 1], of_labels[..., 0])
        if classes.form == ONE_HOT:
            return tf.gather(table[0], tf.argmax(tf.cast(target, dtype), axis=-1))
        indices = tf.cast(tf.round(target) if target.dtype.is_floating else target, tf.int64)
        is_class = (indices >= 0) & (indices < classes.count)
        if classes.ignored is not None:
            is_class &= indices != classes.ignored
        return tf.where(is_class, tf.gather(table[0], tf.where(is_class, indices, 0)), 0)


class ClassWeightedBinaryCrossentropy(keras.losses.Loss):
    """Binary cross-entropy in which each class has a weight of its own.

    Per example, with targets t, probabilities p and the mean over the last axis, as Keras' `binary_crossentropy`:

        mean(-w(t) (t log p + (1 - t) log(1 - p))),  w(t) = class_weights[0] (1 - t) + class_weights[1] t

    Args:
      class_weights: weight of the negative class (target 0) and of the positive class (target 1).
      from_logits: whether predictions are logits rather than probabilities.
      name, reduction, dtype: as of every Keras loss.
    """

    def __init__(
        self,
        class_weights: Sequence[float],
        from_logits: bool = False,
        name: str = "class_weighted_binary_crossentropy",
        reduction: str = "sum_over_batch_size",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.negative, self.positive = _checked(class_weights)
        self.from_logits = from_logits

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """One value per example."""
        y_true = keras.ops.reshape(y_true, keras.ops.shape(y_pred))  # one number per example may lack the last axis
        weights = self.negative + (self.positive - self.negative) * y_true
        values = keras.ops.binary_crossentropy(y_true, y_pred, from_logits=self.from_logits)
        return keras.ops.mean(weights * values, axis=-1)


def _checked(weights: Any) -> tuple[float, float]:
    numbers = isinstance(weights, list | tuple) and all(
        isinstance(weight, int | float) and not isinstance(weight, bool) for weight in weights
    )
    if not numbers or len(weights) != 2 or not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise ValueError(
            "class_weights must be [negative, positive], two finite numbers of at least 0 and one of them above 0"
        )
    return float(weights[0]), float(weights[1])
