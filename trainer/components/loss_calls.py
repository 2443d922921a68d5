"""Calls of losses' functions, and checks of the values that they return."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from trainer.common import import_paths
from trainer.common.errors import ConfigError, first_line
from trainer.components import loss_functions, loss_values
from trainer.components.loss_functions import Loss
from trainer.components.predictions import mask_of

Checked = tuple[tf.Tensor, tf.Tensor | None]


def of_pair(function: Loss, field: str, target: tf.Tensor, prediction: tf.Tensor, *, mean: bool = False) -> Checked:
    """Returns a function's values and the mask that it gives them (False where `ignore_class` takes one out).

    Args:
      function: `function(target, prediction)`.
      field: its key in the configuration, for errors.
      target: batch first.
      prediction: batch first.
      mean: take a value that is not one for each example as the mean over the examples, as Keras' `fit` does.

    Raises:
      ConfigError: it fails, or does not return one floating-point value per example.
    """
    words = f"a target of shape {target.shape} and a prediction of shape {prediction.shape}"
    values, mask = _called(lambda: computed(function, target, prediction), function, field, prediction, words, mean)
    if mean:
        return values, mask
    # Values beyond the examples belong to the prediction's own axes; anything else is a broadcast that was not meant.
    given, expected = values.shape.as_list(), prediction.shape.as_list()[: values.shape.rank]
    if len(given) > prediction.shape.rank or _differ(given, expected):
        raise _wrong_shape(function, field, given, words, loss_values.axes(function, field, prediction))
    return values, mask


def of_arguments(
    function: Callable, field: str, given: Mapping[str, tf.Tensor], more: Mapping[str, Any] | None = None
) -> Checked:
    """Returns a function's values and their mask, as `of_pair` does.

    Args:
      function: a function of these arguments.
      field: its key in the configuration, for errors.
      given: argument → tensor, batch first.
      more: further arguments.

    Raises:
      ConfigError: as `of_pair`.
    """
    first = next(iter(given.values()))
    words = " and ".join(f"{name} of shape {each.shape}" for name, each in given.items())
    values, mask = _called(lambda: function(**given, **(more or {})), function, field, first, words)
    if _differ(values.shape.as_list()[:1], first.shape.as_list()[:1]):
        raise _wrong_shape(function, field, values.shape.as_list(), words, "")
    return values, mask


def _called(
    call: Callable[[], Any], function: Loss, field: str, like: tf.Tensor, words: str, mean: bool = False
) -> Checked:
    """Returns what a call gives: one value per example at least, as many as `like` has; `words` say what it is of."""
    name = loss_functions.name_of(function)
    try:
        found = call()
        # The mask of Keras' `circle` says where its value is 0, not where a label is.
        values, mask = tf.convert_to_tensor(found), None if name.lower() == "circle" else mask_of(found)
    except ConfigError:
        raise
    except import_paths.USER_ERRORS as error:
        reason = f"{loss_values.advice(error)}{type(error).__name__}: {first_line(error)}"
        raise ConfigError(field, name, f"fails on {words}: {reason}") from error
    if mean:
        values = loss_values.of_mean(values, like)
    if values.shape.rank is None:
        values = loss_values.one_per_example(values, like, f"{field}={name}")
    if values.shape.rank == 0:
        raise ConfigError(field, name, loss_values.why_no_scalar(function, field, like))
    if not values.dtype.is_floating:
        raise ConfigError(field, name, f"returns {values.dtype.name}; it must return floating-point values")
    return tf.cast(values, keras.config.floatx()), None if mask is None else tf.cast(mask, tf.bool)


def _differ(given: list[int | None], expected: list[int | None]) -> bool:
    return any(g not in (e, None) for g, e in zip(given, expected, strict=True) if e)


def _wrong_shape(function: Loss, field: str, given: list[int | None], words: str, advice: str) -> ConfigError:
    reason = f"returns shape {tuple(given)} for {words}; it must return one value per example{advice}"
    return ConfigError(field, loss_functions.name_of(function), reason)


def computed(function: Loss, target: tf.Tensor, prediction: tf.Tensor) -> Any:
    """A function's values as it returns them, with their mask; a `Loss` object applies and forgets it when called."""
    if not isinstance(function, keras.losses.Loss) or type(function).__call__ is not keras.losses.Loss.__call__:
        return function(target, prediction)
    target, prediction = (keras.ops.convert_to_tensor(each, dtype=function.dtype) for each in (target, prediction))
    return function.call(target, prediction)
