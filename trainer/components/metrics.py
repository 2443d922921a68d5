"""Each loss's own Keras metrics, resolved from the configuration as `compile` does."""

import inspect
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.common import import_paths, schema
from trainer.common.errors import ConfigError, first_line
from trainer.components import keras_objects, losses
from trainer.config.settings import LossConfig

_RESOLVED = {
    "accuracy": ("BinaryAccuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy"),
    "acc": ("BinaryAccuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy"),
    "crossentropy": ("BinaryCrossentropy", "CategoricalCrossentropy", "SparseCategoricalCrossentropy"),
    "ce": ("BinaryCrossentropy", "CategoricalCrossentropy", "SparseCategoricalCrossentropy"),
}
# Metrics that are a mean over the last axis first, so that every number of a target can have a weight.
_POINTWISE = (
    "MeanSquaredError",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredLogarithmicError",
    "LogCoshError",
    "Poisson",
    "BinaryAccuracy",
    "BinaryCrossentropy",
)


def build(
    name: str, config: LossConfig, *, prediction: Any, target: Any, weights: Any | None = None
) -> Mapping[str, keras.metrics.Metric]:
    """The metrics of one loss, by the names they were given.

    Args:
      name: the loss's name.
      config: its configuration.
      prediction: `.shape` (batch first) and `.dtype` of its head's output.
      target: the same of its target.
      weights: the same of its target's weights, where there are any.

    Raises:
      ConfigError: a metric that does not exist, does not fit, is given twice or has more than one number as its result.
    """
    metrics = {}
    for index, spec in enumerate(config.metrics):
        field = f"losses.{name}.metrics.{index}"
        given, arguments = keras_objects.split(spec)
        key = arguments.pop("as", given.rpartition(":")[2])
        if not isinstance(key, str) or not schema.NAME.fullmatch(key):
            raise ConfigError(
                f"{field}.as", key, "a metric's name is letters, digits, '_' and '-', starting with a letter"
            )
        if key in metrics:
            raise ConfigError(field, given, "is given twice; name one of them with 'as'")
        found = keras_objects.find(
            _resolve(given, tuple(prediction.shape[1:]), tuple(target.shape[1:])),
            keras.metrics,
            keras.metrics.Metric,
            kind="metric",
            field=field,
            also=tuple(_RESOLVED),
        )
        if inspect.isclass(found):
            metrics[key] = keras_objects.build(found, arguments, field=field, base=keras.metrics.Metric)
        else:
            import_paths.check_arguments(found, arguments, field=field, positional=2)
            metrics[key] = keras.metrics.MeanMetricWrapper(found, name=key, **arguments)
        _try_once(metrics[key], field, given, prediction, target, weights)
    return metrics


def update(metric: keras.metrics.Metric, target: tf.Tensor, prediction: tf.Tensor, weights: tf.Tensor | None) -> None:
    """Adds a batch to a metric.

    A target of one number per example gets the axis that the prediction has: Keras' metrics differ in whether they
    add it themselves. A function of the user's own gets the target as it is.
    """
    own_function = type(metric) is keras.metrics.MeanMetricWrapper
    if not own_function and target.shape.rank == prediction.shape.rank - 1 and prediction.shape[-1] == 1:
        target = target[..., tf.newaxis]
    pointwise = type(metric).__name__ in _POINTWISE
    if pointwise and weights is not None and losses.weighs_every_number(weights, target, prediction):
        prediction, target = prediction[..., tf.newaxis], target[..., tf.newaxis]
    metric.update_state(target, prediction, sample_weight=weights)


def result(metric: keras.metrics.Metric) -> float:
    """A metric's result so far."""
    return np.asarray(metric.result()).item()


def _try_once(
    metric: keras.metrics.Metric, field: str, name: str, prediction: Any, target: Any, weights: Any | None
) -> None:
    """Refuses a metric that fails on three examples (one would broadcast) or gives more than one number."""
    shapes = [tuple(spec.shape[1:]) for spec in (target, prediction)]
    examples = [tf.zeros((3, *spec.shape[1:]), spec.dtype) for spec in (target, prediction)]
    try:
        update(metric, *examples, weights=None if weights is None else tf.ones((3, *weights.shape[1:]), weights.dtype))
        size = np.size(metric.result())
    except Exception as error:
        reason = f"does not fit a target of shape {shapes[0]} and predictions of shape {shapes[1]}: {first_line(error)}"
        raise ConfigError(field, name, reason) from error
    if size != 1:
        raise ConfigError(field, name, f"gives {size} numbers; a metric must give one number (average='macro', say)")
    metric.reset_state()


def _resolve(name: str, prediction: tuple[int, ...], target: tuple[int, ...]) -> str:
    """Keras' rule for names that depend on the shapes (`compile`'s "accuracy" and "crossentropy")."""
    if name.lower() not in _RESOLVED:
        return name
    binary, categorical, sparse = _RESOLVED[name.lower()]
    if prediction[-1:] in ((), (1,)):
        return binary
    if len(target) < len(prediction) or target[-1] == 1:
        return sparse
    return categorical
