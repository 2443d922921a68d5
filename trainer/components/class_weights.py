"""Binary cross-entropy for classes of very different frequency."""

import math
from collections.abc import Sequence
from typing import Any

import keras


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
