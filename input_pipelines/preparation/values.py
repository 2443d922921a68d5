"""Conversions of the values that operations take and return to real numbers, or errors that say why they are none."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

Learned = dict[str, Any]
_TEXT = "holds text, not numbers; 'categories', 'classes' or 'equals' make numbers of it"


def real(values: tf.Tensor) -> tf.Tensor:
    """Floating-point numbers: pictures in the run's precision, single numbers in float64 until they are prepared."""
    if values.dtype == tf.string:
        raise ValueError(_TEXT)
    return tf.cast(values, keras.config.floatx() if values.shape.rank > 2 else tf.float64)


def unless_nan(values: tf.Tensor, result: tf.Tensor) -> tf.Tensor:
    """`result`, and NaN where the value is."""
    if not values.dtype.is_floating:
        return result
    return tf.where(tf.math.is_nan(values), tf.constant(np.nan, result.dtype), result)


def as_float64(values: np.ndarray) -> np.ndarray:
    """The numbers of an array; raises ValueError where it holds text."""
    if values.dtype == object:
        raise ValueError(_TEXT)
    return values.astype(np.float64)
