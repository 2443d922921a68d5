"""The inputs of Keras' metrics: probabilities where they take those and a head gives logits."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from input_pipelines.preparation.inverses import Inverse
from trainer.common.errors import ConfigError
from trainer.components import labels, original_units, own_loss
from trainer.components.loss_functions import Kind
from trainer.components.losses import NamedLoss

_metrics = keras.metrics
_OF_PROBABILITIES = (
    _metrics.BinaryAccuracy,
    _metrics.AUC,
    _metrics.Precision,
    _metrics.Recall,
    _metrics.PrecisionAtRecall,
    _metrics.RecallAtPrecision,
    _metrics.SensitivityAtSpecificity,
    _metrics.SpecificityAtSensitivity,
    _metrics.TruePositives,
    _metrics.TrueNegatives,
    _metrics.FalsePositives,
    _metrics.FalseNegatives,
    _metrics.FBetaScore,
    _metrics.BinaryIoU,
    _metrics.KLDivergence,
)
_CROSSENTROPIES = (
    _metrics.BinaryCrossentropy,
    _metrics.CategoricalCrossentropy,
    _metrics.SparseCategoricalCrossentropy,
)
_ACTIVATIONS = {Kind.LABELS: tf.sigmoid, Kind.MARGINS: tf.sigmoid, Kind.CLASSES: tf.nn.softmax}


@dataclasses.dataclass(frozen=True)
class MetricInputs:
    """The way from a target and a prediction to what a metric takes.

    Attributes:
      kind: what the predictions are scores of, to make probabilities of them; None: they are taken as they are.
      ignores: whether a class is ignored, which no metric knows; class 0 with weight 0 stands for it.
      of_probabilities: whether the metric takes what the head gives for probabilities.
      pair_of: the loss's function from target and prediction to what metrics compare (`own_loss.pair_of`), or None.
      inverse: the way from these to the target's own units; None: they stay as they are.
    """

    kind: Kind | None
    ignores: bool
    of_probabilities: bool = False
    pair_of: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]] | None = None
    inverse: Inverse | None = None

    def pair(
        self, target: tf.Tensor, prediction: tf.Tensor, weights: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the pair that the metric compares, before probabilities are made; `weights` are those of labels."""
        target, prediction = (target, prediction) if self.pair_of is None else self.pair_of(target, prediction)
        if self.inverse is None:
            return target, prediction
        return original_units.pair(self.inverse, target, prediction, weights)

    def of(self, target: tf.Tensor, prediction: tf.Tensor, weights: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the target and the prediction; `weights` are those of labels, of the first axes of the target."""
        if self.ignores and weights is not None:
            there = labels.broadcast(weights > 0, target)
            target = tf.where(there, target, tf.zeros_like(target))
        if self.kind is not None:
            prediction = _ACTIVATIONS[self.kind](prediction)
        if self.kind is Kind.MARGINS:  # whose targets may be -1 and 1
            target = tf.cast(target > 0, target.dtype)
        return target, prediction


def as_they_are(loss: NamedLoss) -> MetricInputs:
    """The inputs of a function of the user's own: what the head gives."""
    return MetricInputs(None, loss.ignored_class is not None)


def resolve(
    loss: NamedLoss, found: type, arguments: Mapping[str, Any], field: str, target: Any, prediction: Any
) -> tuple[MetricInputs, dict[str, Any]]:
    """The inputs of a metric of a loss, and the arguments that it takes besides those that are given.

    Args:
      loss: the loss.
      found: the metric's class.
      arguments: those of the configuration.
      field: the configuration's key, for errors.
      target: `.shape` (batch first) of the loss's target, as metrics compare it.
      prediction: the same of what it reads of its head.

    Raises:
      ConfigError: the metric takes probabilities, and what the head's numbers are cannot be told; or it takes the
        index of a class and the head gives one number.
    """
    pair_of = own_loss.pair_of(loss.function)
    inputs, implied = dataclasses.replace(as_they_are(loss), pair_of=pair_of), {}
    kind = _kind(loss, target, prediction)
    of_labels = prediction.shape[-1] == 1 or kind in (Kind.LABELS, Kind.MARGINS)
    if issubclass(found, _metrics.FBetaScore) and of_labels:
        implied["threshold"] = 0.5  # without one it takes the largest of the outputs for the only positive one
    if issubclass(found, _metrics.IoU) and not issubclass(found, _metrics.BinaryIoU | _metrics.OneHotIoU):
        implied |= _of_classes(found, arguments, field, target, prediction)
    of_probabilities = issubclass(found, _OF_PROBABILITIES + _CROSSENTROPIES) and not _is_for_logits(arguments)
    if loss.scores.are_probabilities:
        return dataclasses.replace(inputs, of_probabilities=of_probabilities and pair_of is None), implied
    if issubclass(found, _CROSSENTROPIES):
        return inputs, implied | {"from_logits": True}
    if not of_probabilities:
        return inputs, implied
    if kind is Kind.OTHER:
        raise ConfigError(
            field,
            found.__name__,
            f"takes probabilities, but whether {loss.source} gives logits of labels or of classes cannot be told from "
            f"{loss.function_name}; let the head end with a sigmoid or softmax",
        )
    return dataclasses.replace(inputs, kind=kind), implied


def in_units(
    inputs: MetricInputs, units: Any, field: str, loss: NamedLoss, inverse: Inverse, specs: tuple[Any, Any]
) -> MetricInputs:
    """The inputs of a metric in the units that its configuration asks for.

    Args:
      inputs: those of the metric in the units of prepared targets.
      units: what the configuration says of them; None: nothing.
      field: the metric's key.
      loss: its loss.
      inverse: of the loss's target.
      specs: `.shape` (batch first) of target and prediction as metrics compare them.

    Raises:
      ConfigError: there are no such units.
    """
    if units is None:
        return inputs
    of_values = inputs.kind is None and not inputs.of_probabilities
    way = original_units.check(units, f"{field}.units", loss, inverse, *specs, of_values=of_values)
    return dataclasses.replace(inputs, pair_of=own_loss.pair_of(loss.function), inverse=way)


def of_object(loss: NamedLoss, metric: keras.metrics.Metric, target: Any, prediction: Any) -> MetricInputs:
    """The inputs of a metric that is an object already; where it cannot be told what a head gives, that as it is.

    Args:
      loss: the loss.
      metric: the metric.
      target: `.shape` (batch first) of the loss's target.
      prediction: the same of what it reads of its head.
    """
    inputs = dataclasses.replace(as_they_are(loss), pair_of=own_loss.pair_of(loss.function))
    kind = _kind(loss, target, prediction)
    of_probabilities = isinstance(metric, _OF_PROBABILITIES + _CROSSENTROPIES)
    if of_probabilities:  # a function's description would warn of a lambda
        of_probabilities = not _is_for_logits(getattr(metric, "_fn_kwargs", {}) | metric.get_config())
    if not of_probabilities or loss.scores.are_probabilities or kind is Kind.OTHER:
        return dataclasses.replace(inputs, of_probabilities=of_probabilities)
    return dataclasses.replace(inputs, kind=kind)


def _kind(loss: NamedLoss, target: Any, prediction: Any) -> Kind:
    """The kind of targets that a head's numbers are scores of: by the loss, or where it is the user's by the shapes."""
    if loss.scores.kind is not Kind.OTHER:
        return loss.scores.kind
    if prediction.shape[-1] == 1:
        return Kind.LABELS
    of_target = tuple(target.shape)
    return Kind.CLASSES if of_target in (tuple(prediction.shape[:-1]), (*prediction.shape[:-1], 1)) else Kind.OTHER


def _is_for_logits(arguments: Mapping[str, Any]) -> bool:
    """True where a metric is set to take logits: `from_logits`, or a threshold of 0."""
    if arguments.get("from_logits"):
        return True
    thresholds = arguments.get("threshold", arguments.get("thresholds"))
    return thresholds in (0, [0], [0.0]) and not isinstance(thresholds, bool)


def _of_classes(found: type, arguments: Mapping[str, Any], field: str, target: Any, prediction: Any) -> dict[str, Any]:
    """The arguments of an intersection over union of classes that read a class from scores, one for each."""
    if "sparse_y_pred" in arguments or issubclass(found, _metrics.OneHotMeanIoU):
        return {}
    if prediction.shape[-1] == 1:
        raise ConfigError(
            field, found.__name__, "takes one score for each class, but the head gives one number: use 'binary_io_u'"
        )
    same = tuple(target.shape) == tuple(prediction.shape)
    sparse_target = {} if "sparse_y_true" in arguments else {"sparse_y_true": not same}
    return {"sparse_y_pred": False} | sparse_target
