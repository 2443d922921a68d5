"""The metrics of `compile`: named and given to outputs by Keras, updated as the command line updates its own."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.src.trainers.compile_utils import CompileMetrics
from keras.src.utils.naming import get_object_name

from trainer.common import import_paths
from trainer.common.errors import ConfigError, first_line, with_notes
from trainer.components import labels, metric_inputs
from trainer.components import losses as losses_lib
from trainer.components import metrics as metrics_lib
from trainer.components.losses import NamedLoss
from trainer.components.mean_over_examples import MeanOverExamples
from trainer.components.metric_inputs import MetricInputs
from trainer.components.metrics import LossMetric
from trainer.components.predictions import Predictions
from trainer.keras_model.outputs import MISMATCH

_FEW = 3  # examples on which a metric is tried


@dataclasses.dataclass(frozen=True)
class OutputMetrics:
    """The metrics of one output.

    Attributes:
      head: the output's name.
      loss: reads the same output; None where none does.
      metrics: the metrics.
    """

    head: str
    loss: NamedLoss | None
    metrics: Sequence[LossMetric]

    def update(self, predictions: Predictions, batch: Mapping[str, Any]) -> None:
        """Adds a replica's part of a batch."""
        prediction, target = predictions.outputs[self.head], batch["targets"][self.head]
        if self.loss is not None:
            of_labels = losses_lib.compute(self.loss, predictions, batch).labels
        else:
            given = (batch.get("weights", {}).get(self.head), predictions.masks.get(self.head))
            of_labels = labels.product(given, prediction.dtype)
        if target.dtype.is_floating:
            target, there = labels.without_nan(target)
            if self.loss is None:
                there = labels.of_first_axes(there, max(1, prediction.shape.rank - 1))
                of_labels = labels.product((of_labels, there), prediction.dtype)
        for metric in self.metrics:
            metric.update(target, prediction, of_labels)


class Metrics(CompileMetrics):
    """Keras' metrics of `compile`; make it in the strategy's scope.

    Args:
      metrics: as `compile` takes them.
      weighted_metrics: as `compile` takes them.
      output_names: the model's, where it has some.
      y_pred: `tf.TensorSpec`s of what the model returns.
      targets: name of an output → `tf.TensorSpec` of its target.
      losses: the losses of `compile`.
      heads: the names of the outputs, in the order in which Keras flattens them.

    Attributes:
      of_outputs: the metrics of every output that has some.

    Raises:
      ConfigError: Keras cannot give them to outputs, or an output has no target.
    """

    def __init__(
        self,
        metrics: Any,
        weighted_metrics: Any,
        output_names: Sequence[str] | None,
        y_pred: Any,
        targets: Mapping[str, Any],
        losses: Sequence[NamedLoss],
        heads: Sequence[str],
    ) -> None:
        super().__init__(_by_example(metrics), _by_example(weighted_metrics), output_names=output_names)
        field, given = ("metrics", metrics) if metrics is not None else ("weighted_metrics", weighted_metrics)
        specs = {head: targets.get(head) for head in heads}
        try:
            self.build(keras.tree.pack_sequence_as(y_pred, list(specs.values())), y_pred)
        except MISMATCH as error:
            raise ConfigError(field, given, f"cannot be matched to outputs and targets: {with_notes(error)}") from error
        in_order = self._flatten_y(keras.tree.pack_sequence_as(y_pred, list(heads)))
        outputs = dict(zip(in_order, self._flatten_y(y_pred), strict=True))
        self.of_outputs = []
        for head, *of_output in zip(outputs, self._flat_metrics, self._flat_weighted_metrics, strict=True):
            loss = next((loss for loss in losses if loss.head == head), None)
            if any(of_output) and specs[head] is None:
                raise ConfigError(field, given, f"gives metrics to the output {head!r}, for which there is no target")
            built = [
                _of_object(metric, loss, specs[head], outputs[head], is_weighted)
                for own, is_weighted in zip(of_output, (False, True), strict=True)
                for metric in (own.metrics if own else ())
            ]
            for metric in built:
                _build(metric, specs[head], outputs[head], field, given)
            if built:
                self.of_outputs.append(OutputMetrics(head, loss, built))


def _by_example(metrics: Any) -> Any:
    """The metrics, with functions as means over examples, whatever the shape of what they return."""

    def of_function(given: Any) -> Any:
        if not callable(given) or inspect.isclass(given) or isinstance(given, keras.metrics.Metric):
            return given
        return MeanOverExamples(given, name=get_object_name(given))

    return keras.tree.map_structure(of_function, metrics)


def _build(metric: LossMetric, target: Any, prediction: Any, field: str, given: Any) -> None:
    """Builds a metric on some zeros, as those build themselves whose shapes follow from the data."""
    zeros = [tf.zeros((_FEW, *(size or 1 for size in spec.shape[1:])), spec.dtype) for spec in (target, prediction)]
    try:
        metric.update(*zeros, None)
    except import_paths.USER_ERRORS as error:
        shapes = f"a target of shape {tuple(target.shape)} and an output of shape {tuple(prediction.shape)}"
        reason = f"{metric.metric.name!r} does not fit {shapes}: {first_line(error)}"
        raise ConfigError(field, given, reason) from error
    metric.metric.reset_state()


def _of_object(
    metric: keras.metrics.Metric, loss: NamedLoss | None, target: Any, prediction: Any, is_weighted: bool
) -> LossMetric:
    inputs = MetricInputs(None, ignores=False)
    if loss is not None:
        inputs = metric_inputs.of_object(loss, metric, target, prediction)
    return LossMetric(metric, is_weighted, inputs, takes_weights=metrics_lib.takes_weights(metric))
