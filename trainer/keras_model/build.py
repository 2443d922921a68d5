"""From a model and the arguments of `compile` to the functions that `fit` and `evaluate` call."""

import dataclasses
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf
from keras.src import backend

from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.components import observed_layers
from trainer.config.paths import TARGETS
from trainer.keras_model import diagnostics, loop, reading_losses, training_step
from trainer.keras_model import losses as losses_lib
from trainer.keras_model import outputs as outputs_lib
from trainer.keras_model.arguments import Compiled
from trainer.keras_model.element import symbolic
from trainer.keras_model.evaluation import Evaluation
from trainer.keras_model.loop import Logs, Memory
from trainer.keras_model.metrics import Metrics
from trainer.keras_model.outputs import CompiledLoss
from trainer.keras_model.reading_losses import ReadingLoss
from trainer.keras_model.totals import LossTotals
from trainer.step.step import Step
from trainer.step.values import Measurement

_NOMINAL_SIZE = 32  # of batches whose size nobody tells: a step's result does not depend on it


@dataclasses.dataclass(frozen=True)
class Training:
    """Functions that `fit` and `evaluate` call, and all that they read and change.

    Attributes:
      test_function: evaluates `steps_per_execution` batches of what an iterator of Keras' gives; returns the logs.
      metrics: trackers of `loss`, compiled metrics and `<output>_loss`, in Keras' order.
      logs: returns the results of these and of metrics that the model's layers keep, by name.
      state: name → variable that later steps read.
      optimizers: name of an optimizer group → its optimizer, built.
      epoch: int64 variable, the epoch of `fit`, which some combinations look at.
      training: takes as many steps, and returns the logs; or the reason why the model cannot be trained.
    """

    test_function: Callable[[Any], Logs]
    metrics: list[keras.metrics.Metric]
    logs: Callable[[], Logs]
    state: Mapping[str, Any]
    optimizers: Mapping[str, keras.optimizers.Optimizer]
    epoch: tf.Variable
    training: Callable[[Any], Logs] | ConfigError

    @property
    def train_function(self) -> Callable[[Any], Logs]:
        """Takes `steps_per_execution` steps on what an iterator of Keras' gives; returns the logs.

        Raises:
          ConfigError: the model can be evaluated, but not trained.
        """
        if isinstance(self.training, ConfigError):
            raise self.training
        return self.training


def build(
    model: keras.Model,
    compiled: Compiled,
    spec: tuple[Any, Any, Any],
    batch_size: int | None,
    class_weights: Mapping[str, Mapping[int, float]] | None = None,
) -> Training:
    """Builds a training; call it in the scope of the model's strategy.

    Args:
      model: the model, built.
      compiled: the arguments of `compile`.
      spec: (inputs, targets, sample weights) of one replica's part of a batch, `tf.TensorSpec`s of unknown length.
      batch_size: examples of a whole global batch; None where that is not known.
      class_weights: name of an output → class → weight of it in training.

    Raises:
      ConfigError: losses or metrics that do not fit the model and the data.
    """
    evaluation = _evaluation(model, compiled, spec)
    epoch = tf.Variable(0, trainable=False, dtype=tf.int64)
    batch_spec, outputs = evaluation.matching.batch(*spec), evaluation.matching.outputs
    losses = losses_lib.with_class_weights(evaluation.losses, class_weights or {}, outputs, batch_spec["targets"])
    training: Callable[[Any], Logs] | ConfigError
    state, groups, memory = {}, (), None
    try:
        with reading_losses.fields_as_given(losses):
            step, groups, averages = training_step.build(
                compiled, evaluation, losses, batch_spec, batch_size or _NOMINAL_SIZE, epoch
            )
    except ConfigError as error:
        training = error
    else:
        memory = Memory(step)
        state = memory.variables | averages
        training = _train_function(compiled, evaluation, step, memory)
    test_function = loop.test_function(
        evaluation.add,
        evaluation.batch_of,
        evaluation.logs,
        None if memory is None else memory.variables["step"],
        steps=compiled.steps_per_execution,
        eagerly=compiled.run_eagerly,
    )
    optimizers = {group.name: group.optimizer for group in groups}
    return Training(test_function, evaluation.metrics, evaluation.logs, state, optimizers, epoch, training)


def _evaluation(model: keras.Model, compiled: Compiled, spec: tuple[Any, Any, Any]) -> Evaluation:
    """The losses and metrics of `compile`."""
    x, y, _ = spec
    strategy, names = model.distribute_strategy, getattr(model, "output_names", None)
    with observed_layers.observed() as seen:
        y_pred = outputs_lib.specs_of(backend.compute_output_spec(model, symbolic(x), training=True))
    further = [path.name for loss in compiled.reading for path in loss.paths.values() if path.kind == TARGETS]
    matching = outputs_lib.Matching(compiled.loss, compiled.loss_weights, names, y_pred, y, further)
    losses = losses_lib.build(matching.losses)
    losses += reading_losses.build(compiled.reading, matching, model, spec, strategy)
    losses += tuple(losses_lib.added(model, seen.added, [loss.name for loss in losses]))
    if not losses:
        raise ConfigError("loss", None, "must be given: no layer adds a loss of its own")
    weights = [_weight(loss) for loss in (*matching.losses, *compiled.reading)]
    weights += [1.0] * (len(losses) - len(weights))
    regularized = [variable for variable in model.trainable_variables if variable.regularizer is not None]
    metrics = None
    if compiled.metrics or compiled.weighted_metrics:
        targets = matching.batch(*spec)["targets"]
        heads = [matching.head_of[id(each)] for each in keras.tree.flatten(y_pred)]
        metrics = Metrics(compiled.metrics, compiled.weighted_metrics, names, y_pred, targets, losses, heads)
    totals = LossTotals(losses, weights, regularized)
    return Evaluation(strategy, model, matching, losses, weights, totals, metrics, compiled.seed)


def _weight(loss: CompiledLoss | ReadingLoss) -> float:
    """The weight of a loss; raises ConfigError for what is no number, as a variable, which would be read once only."""
    is_number = isinstance(loss.weight, numbers.Real)
    return schema.number()(float(loss.weight) if is_number else loss.weight, f"loss_weights.{loss.name}")


def _train_function(compiled: Compiled, evaluation: Evaluation, step: Step, memory: Memory) -> Callable[[Any], Logs]:
    def logs(*measured: Measurement) -> Logs:
        found = evaluation.logs()
        for each in measured:
            found |= diagnostics.logs(each, step.objectives.names)
        return found

    return loop.train_function(
        step,
        memory,
        evaluation.training_batch_of,
        evaluation.totals.failed,
        logs,
        measures=compiled.diagnostics,
        steps=compiled.steps_per_execution,
        eagerly=compiled.run_eagerly,
    )
