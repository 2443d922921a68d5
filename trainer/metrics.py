"""Each loss's own Keras metrics, resolved from the configuration as `compile` does."""

import inspect
from collections.abc import Mapping

import keras

from trainer import imports, keras_objects
from trainer.configuration import LossConfig
from trainer.errors import ConfigError

_RESOLVED = {
    "accuracy": ("BinaryAccuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy"),
    "acc": ("BinaryAccuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy"),
    "crossentropy": ("BinaryCrossentropy", "CategoricalCrossentropy", "SparseCategoricalCrossentropy"),
    "ce": ("BinaryCrossentropy", "CategoricalCrossentropy", "SparseCategoricalCrossentropy"),
}


def build(
    name: str, config: LossConfig, *, prediction: tuple[int, ...], target: tuple[int, ...]
) -> Mapping[str, keras.metrics.Metric]:
    """The metrics of one loss, by the names they were given.

    Args:
      name: the loss's name.
      config: its configuration.
      prediction: shape of its head's output per example.
      target: shape of its target per example.

    Raises:
      ConfigError: a metric or one of its arguments does not exist, or the same name is given twice.
    """
    metrics = {}
    for index, spec in enumerate(config.metrics):
        field = f"losses.{name}.metrics.{index}"
        given, arguments = keras_objects.split(spec)
        key = given.rpartition(":")[2] if imports.is_path(given) else given
        if key in metrics:
            raise ConfigError(field, given, "is given twice")
        resolved = _resolve(given, prediction, target)
        found = keras_objects.find(resolved, keras.metrics, keras.metrics.Metric, kind="metric", field=field)
        if inspect.isclass(found):
            metrics[key] = keras_objects.build(found, arguments, field=field)
        else:
            metrics[key] = keras.metrics.MeanMetricWrapper(found, name=key, **arguments)
    return metrics


def _resolve(name: str, prediction: tuple[int, ...], target: tuple[int, ...]) -> str:
    """Keras' rule for names that depend on the shapes (`compile`'s "accuracy" and "crossentropy")."""
    if name not in _RESOLVED:
        return name
    binary, categorical, sparse = _RESOLVED[name]
    if prediction[-1:] in ((), (1,)):
        return binary
    if len(target) < len(prediction) or target[-1] == 1:
        return sparse
    return categorical
