"""Each loss's own Keras metrics, resolved from the configuration as `compile` does.

A missing label, a masked step and an ignored class have weight 0 in every metric. Where a loss takes logits, metrics
that take probabilities are given probabilities.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from input_pipelines.preparation.inverses import Inverse
from trainer.common import import_paths
from trainer.common.errors import ConfigError, first_line
from trainer.components import keras_objects, labels, metric_names, original_units, own_loss
from trainer.components import metric_inputs as inputs_lib
from trainer.components.losses import NamedLoss
from trainer.components.mean_over_examples import MeanOverExamples
from trainer.components.metric_inputs import MetricInputs
from trainer.config.loss_settings import LossConfig, MetricsConfig

# Metrics that are a mean over the last axis first, so that every number of a target can have a weight.
_POINTWISE = (
    keras.metrics.MeanSquaredError,
    keras.metrics.MeanAbsoluteError,
    keras.metrics.MeanAbsolutePercentageError,
    keras.metrics.MeanSquaredLogarithmicError,
    keras.metrics.LogCoshError,
    keras.metrics.Poisson,
    keras.metrics.BinaryAccuracy,
    keras.metrics.BinaryCrossentropy,
)
_FEW = 3  # examples with which a metric is tried; one would broadcast


@dataclasses.dataclass(frozen=True)
class LossMetric:
    """A metric of one loss.

    Attributes:
      metric: Keras' metric.
      weighted: whether labels count by their weights; else every label counts 1.
      inputs: how the head's output becomes what the metric takes.
      takes_weights: whether its `update_state` takes weights of labels.
      make: makes another one, as ready to be updated as this one; None: there can be no other.
    """

    metric: keras.metrics.Metric
    weighted: bool
    inputs: MetricInputs
    takes_weights: bool
    make: Callable[[], "LossMetric"] | None = None

    @property
    def direction(self) -> str | None:
        """The direction of better values, "up" or "down", by which Keras' own callbacks go; None: it does not say."""
        return getattr(self.metric, "_direction", None)

    def update(self, target: tf.Tensor, prediction: tf.Tensor, weights: tf.Tensor | None) -> None:
        """Adds a batch; one in original units in float64, as squares of large numbers would lose their digits.

        A target of one number per example gets the axis that the prediction has: Keras' metrics differ in whether they
        add it themselves. A function of the user's own gets the target as it is.

        Args:
          target: the target.
          prediction: what the loss reads of the model's output.
          weights: the weight of every label, 0 where there is none (`LossValues.labels`); None: all 1.
        """
        with original_units.in_float64(self.inputs.inverse is not None):
            self._update(target, prediction, weights)

    def _update(self, target: tf.Tensor, prediction: tf.Tensor, weights: tf.Tensor | None) -> None:
        metric = self.metric
        if weights is not None and not self.weighted:
            weights = tf.cast(weights > 0, weights.dtype)
        own_function = type(metric) in (keras.metrics.MeanMetricWrapper, MeanOverExamples)
        target, prediction = self.inputs.pair(target, prediction, weights)
        if not own_function and target.shape.rank == prediction.shape.rank - 1 and prediction.shape[-1] == 1:
            target = target[..., tf.newaxis]
        target, prediction = self.inputs.of(target, prediction, weights)
        if weights is not None:
            weights, target, prediction = _fitted(metric, weights, target, prediction)
        if self.takes_weights:
            metric.update_state(target, prediction, sample_weight=weights)
        else:
            metric.update_state(target, prediction)

    def result(self) -> float:
        """The result so far."""
        return np.asarray(self.metric.result()).item()


def build(
    loss: NamedLoss,
    config: LossConfig | MetricsConfig,
    *,
    prediction: Any,
    target: Any,
    weights: Any | None = None,
    inverse: Inverse | None = None,
    within: str = "losses",
) -> Mapping[str, LossMetric]:
    """The metrics of one loss, by the names they were given.

    A weighted metric whose name another metric has is called `weighted_...`, as Keras calls it.

    Args:
      loss: the loss.
      config: its configuration.
      prediction: `.shape` (batch first) and `.dtype` of what it reads of its head's output.
      target: the same of its target.
      weights: the same of its target's weights, where there are any.
      inverse: of its target, for metrics in original units; None: nothing is undone.
      within: the configuration's key in which `config` stands under its name.

    Raises:
      ConfigError: a metric that does not exist, does not fit, is given twice, has more than one number as its result,
        or is a function that returns one number for a whole batch.
    """
    metrics: dict[str, LossMetric] = {}
    compared = own_loss.metric_specs(loss.function, target, prediction)
    for key, specs in (("metrics", config.metrics), ("weighted_metrics", config.weighted_metrics)):
        weighted = key == "weighted_metrics"
        for index, spec in enumerate(specs):
            field = f"{within}.{loss.name}.{key}.{index}"
            given, arguments = keras_objects.split(spec)
            name = metric_names.of(arguments.pop("as", given.rpartition(":")[2]), field, metrics, given, weighted)
            found = keras_objects.find(
                metric_names.resolve(given, loss, *(tuple(spec.shape[1:]) for spec in reversed(compared))),
                keras.metrics,
                keras.metrics.Metric,
                kind="metric",
                field=field,
                also=tuple(metric_names.RESOLVED),
            )
            one = functools.partial(_one, loss, found, arguments, name, field, weighted, compared, inverse or Inverse())
            metric = one()
            function = _function(metric.metric) if import_paths.is_path(given) else None
            _try_once(metric, function, field, given, (target, prediction, weights))
            make = functools.partial(_another, one, (target, prediction, weights))
            metrics[name] = dataclasses.replace(metric, make=make)
    return metrics


def _one(
    loss: NamedLoss,
    found: Any,
    arguments: Mapping[str, Any],
    name: str,
    field: str,
    weighted: bool,
    specs: tuple[Any, Any],
    inverse: Inverse,
) -> LossMetric:
    target, prediction = specs
    arguments = dict(arguments)
    units = arguments.pop("units", None)
    if not inspect.isclass(found):
        import_paths.check_arguments(found, arguments, field=field, positional=2)
        inputs = inputs_lib.in_units(inputs_lib.as_they_are(loss), units, field, loss, inverse, specs)
        with original_units.in_float64(units is not None):
            metric = keras.metrics.MeanMetricWrapper(found, name=name, **arguments)
        return LossMetric(metric, weighted, inputs, takes_weights=True)
    if arguments.get("axis") == 0:
        raise ConfigError(f"{field}.axis", 0, "is that of the examples, of which a batch has only some")
    inputs, implied = inputs_lib.resolve(loss, found, arguments, field, target, prediction)
    inputs = inputs_lib.in_units(inputs, units, field, loss, inverse, specs)
    if issubclass(found, keras.metrics.IoU):
        implied = {"dtype": "float64"} | implied  # Keras counts in whole numbers, of which weights are none
    with original_units.in_float64(units is not None):
        metric = keras_objects.build(found, arguments, field=field, base=keras.metrics.Metric, implied=implied)
    return LossMetric(metric, weighted, inputs, takes_weights=takes_weights(metric))


def takes_weights(metric: keras.metrics.Metric) -> bool:
    """Returns True where a metric's `update_state` takes weights of labels."""
    parameters = inspect.signature(metric.update_state).parameters
    return "sample_weight" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _fitted(
    metric: keras.metrics.Metric, weights: tf.Tensor, target: tf.Tensor, prediction: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Weights, target and prediction in the shapes in which a metric of Keras weighs what it should."""
    if labels.are_of_every_number(weights, target, prediction):
        if isinstance(metric, _POINTWISE):
            return weights, target[..., tf.newaxis], prediction[..., tf.newaxis]
        if isinstance(metric, keras.metrics.FBetaScore):
            # It takes a weight per example; where both are 0, a label enters none of its counts.
            return tf.ones(tf.shape(weights)[:1], weights.dtype), *(
                tf.cast(each, weights.dtype) * tf.cast(weights > 0, weights.dtype) for each in (target, prediction)
            )
    while weights.shape.rank > 1 and weights.shape[-1] == 1:
        weights = tf.squeeze(weights, -1)
    if isinstance(metric, keras.metrics.IoU):  # of a flat list of labels, each with its own weight
        weights = labels.broadcast(weights, target)
    while weights.shape.rank < prediction.shape.rank - 1:  # some align weights at the last axis but one
        weights = weights[..., tf.newaxis]
    return weights, target, prediction


def _try_once(
    metric: LossMetric,
    function: Callable[[tf.Tensor, tf.Tensor], Any] | None,
    field: str,
    name: str,
    specs: tuple[Any, Any, Any | None],
) -> None:
    """Refuses a metric that fails on a few examples, mixes them, or gives anything but one number."""
    *pair, weights = specs
    shapes = [tuple(spec.shape[1:]) for spec in pair]
    try:
        _update_once(metric, specs)
        result = metric.metric.result()
        values = None if function is None else [function(*_examples(pair, n)) for n in (_FEW, _FEW + 1)]
    except Exception as error:
        reason = f"does not fit a target of shape {shapes[0]} and predictions of shape {shapes[1]}: {first_line(error)}"
        raise ConfigError(field, name, reason) from error
    every_number = labels.are_of_every_number(weights, *pair)
    if metric.weighted and every_number and isinstance(metric.metric, keras.metrics.FBetaScore):
        raise ConfigError(field, name, "takes a weight per example, but every number of the target has its own")
    if not metric.takes_weights and weights is not None:
        raise ConfigError(field, name, "takes no sample_weight in its update_state, but labels have weights")
    if values is not None and [tuple(np.shape(each))[:1] for each in values] != [(_FEW,), (_FEW + 1,)]:
        raise ConfigError(
            field,
            name,
            f"returns shape {tuple(np.shape(values[0]))} for {_FEW} examples; a function must return one value per "
            "example, of which the mean is taken (a number of a whole split needs a keras.metrics.Metric)",
        )
    _check_result(result, field, name)
    metric.metric.reset_state()


def _another(one: Callable[[], LossMetric], specs: tuple[Any, Any, Any | None]) -> LossMetric:
    """A metric like one that was tried; updated once, as some make their variables only then."""
    metric = one()
    _update_once(metric, specs)
    metric.metric.reset_state()
    return metric


def _update_once(metric: LossMetric, specs: tuple[Any, Any, Any | None]) -> None:
    *pair, weights = specs
    given = None if weights is None else tf.ones_like(_examples([weights], _FEW)[0])
    metric.update(*_examples(pair, _FEW), given)


def _examples(specs: Sequence[Any], count: int) -> list[tf.Tensor]:
    """Zeros for each of some specifications, which are batch first."""
    return [tf.zeros((count, *(size or 1 for size in spec.shape[1:])), spec.dtype) for spec in specs]


def _function(metric: keras.metrics.Metric) -> Callable[[tf.Tensor, tf.Tensor], Any] | None:
    """The function of which a metric is the mean; None where it is no such metric."""
    if not isinstance(metric, keras.metrics.MeanMetricWrapper):
        return None
    return functools.partial(metric._fn, **metric._fn_kwargs)


def _check_result(result: Any, field: str, name: str) -> None:
    if isinstance(result, Mapping):
        raise ConfigError(field, name, f"gives {len(result)} results by name; a metric must give one number")
    number = np.asarray(result)
    if number.size != 1:
        hint = " (average='macro', say)"
        raise ConfigError(field, name, f"gives {number.size} numbers; a metric must give one number{hint}")
    if number.dtype.kind not in "biuf":
        raise ConfigError(field, name, f"gives {number.dtype.name}; a metric must give one number")
