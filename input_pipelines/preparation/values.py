"""Conversions of the values that operations take and return to real numbers, or errors that say why they are none."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

Learned = dict[str, Any]
Shape = tuple[int, ...]
_SOME = 12
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


def as_held(value: Any, dtype: tf.DType) -> Any:
    """A value of a configuration as a column of `dtype` holds it.

    In columns of numbers 1, 1.0 and "1" are the same, in those of truth values True, "true" and 1; text is text.

    Raises:
      ValueError: the column cannot hold it.
    """
    if dtype == tf.string:
        return str(value)
    if dtype == tf.bool:
        truth = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
        if str(value).strip().lower() not in truth:
            raise ValueError(f"{value!r} is neither true nor false")
        return truth[str(value).strip().lower()]
    try:
        number = None if isinstance(value, bool) else float(value)
    except ValueError:
        number = None
    if number is None or (dtype.is_integer and not (number % 1 == 0 and dtype.min <= number <= dtype.max)):
        raise ValueError(f"{value!r} is no {'whole ' if dtype.is_integer else ''}number that {dtype.name} holds")
    if not dtype.is_integer:
        return number
    return int(value) if isinstance(value, int | str) and str(value).strip().lstrip("+-").isdecimal() else int(number)


def tensor_type(values: np.ndarray) -> tf.DType:
    """The type of the tensor that an array is of."""
    return tf.string if values.dtype == object else tf.as_dtype(values.dtype)


def distinct(values: np.ndarray, present: np.ndarray) -> set[Any]:
    """The values that are present, each once; text as such, and no NaN."""
    shown = values[np.broadcast_to(present, values.shape)]
    if np.issubdtype(shown.dtype, np.floating):
        shown = shown[~np.isnan(shown)]
    return {
        value.decode(errors="replace") if isinstance(value, bytes) else value for value in np.unique(shown).tolist()
    }


def some(values: set[Any]) -> str:
    """Some values, for an error."""
    shown = sorted(values, key=lambda value: (isinstance(value, str), value))
    rest = f" and {len(shown) - _SOME} more" if len(shown) > _SOME else ""
    return f"{', '.join(map(repr, shown[:_SOME]))}{rest}" if shown else "nothing"
