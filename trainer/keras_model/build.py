"""From a model and the arguments of `compile` to the functions that `fit` and `evaluate` call."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.src import backend

from trainer.common import schema
from trainer.common.durations import Timeline
from trainer.common.errors import ConfigError
from trainer.components.losses import NamedLoss
from trainer.components.optimizers import OptimizerGroup
from trainer.config import plan as plan_lib
from trainer.config.settings import LossConfig
from trainer.distributed import strategy as strategy_lib
from trainer.distributed.all_reduce import Reduction
from trainer.gradients.moving_average import GradientAverages
from trainer.gradients.reach import Reach
from trainer.keras_model import diagnostics, loop, optimization, outputs
from trainer.keras_model import losses as losses_lib
from trainer.keras_model.arguments import Compiled
from trainer.keras_model.element import symbolic
from trainer.keras_model.evaluation import Evaluation
from trainer.keras_model.loop import Logs, Memory
from trainer.keras_model.metrics import Metrics
from trainer.keras_model.totals import LossTotals
from trainer.step import build as step_build
from trainer.step import discovery
from trainer.step.objectives import Objectives
from trainer.step.solving import Solver
from trainer.step.step import Step
from trainer.step.values import Measurement

_NOMINAL_SIZE = 32  # of batches whose size nobody tells: a step's result does not depend on it


@dataclasses.dataclass(frozen=True)
class Training:
    """Functions that `fit` and `evaluate` call, and all that they read and change.

    Attributes:
      test_function: evaluates `steps_per_execution` batches of what an iterator of Keras' gives; returns the logs.
      metrics: trackers of `loss`, compiled metrics and `<output>_loss`, in Keras' order.
      state: name → variable that later steps read.
      optimizers: name of an optimizer group → its optimizer, built.
      epoch: int64 variable, the epoch of `fit`, which some combinations look at.
      training: takes as many steps, and returns the logs; or the reason why the model cannot be trained.
    """

    test_function: Callable[[Any], Logs]
    metrics: list[keras.metrics.Metric]
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


def build(model: keras.Model, compiled: Compiled, spec: tuple[Any, Any, Any], batch_size: int | None) -> Training:
    """Builds a training; call it in the scope of the model's strategy.

    Args:
      model: the model, built.
      compiled: the arguments of `compile`.
      spec: (inputs, targets, sample weights) of one replica's part of a batch, `tf.TensorSpec`s of unknown length.
      batch_size: examples of a whole global batch; None where that is not known.

    Raises:
      ConfigError: losses or metrics that do not fit the model and the data.
    """
    evaluation = _evaluation(model, compiled, spec)
    epoch = tf.Variable(0, trainable=False, dtype=tf.int64)
    batch_spec = evaluation.matching.batch(*spec)
    training: Callable[[Any], Logs] | ConfigError
    state, groups, memory = {}, (), None
    try:
        step, groups, averages = _step(model, compiled, evaluation, batch_spec, batch_size or _NOMINAL_SIZE, epoch)
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
    return Training(test_function, evaluation.metrics, state, optimizers, epoch, training)


def _evaluation(model: keras.Model, compiled: Compiled, spec: tuple[Any, Any, Any]) -> Evaluation:
    """The losses and metrics of `compile`."""
    x, y, _ = spec
    strategy, names = model.distribute_strategy, getattr(model, "output_names", None)
    y_pred = outputs.specs_of(backend.compute_output_spec(model, symbolic(x), training=False))
    matching = outputs.Matching(compiled.loss, compiled.loss_weights, names, y_pred, y)
    losses = losses_lib.build(matching.losses)
    regularized = [variable for variable in model.trainable_variables if variable.regularizer is not None]
    parts = strategy.num_replicas_in_sync * compiled.micro_batches
    metrics = None
    if compiled.metrics or compiled.weighted_metrics:
        targets = matching.batch(*spec)["targets"]
        heads = [matching.head_of[id(each)] for each in keras.tree.flatten(y_pred)]
        metrics = Metrics(compiled.metrics, compiled.weighted_metrics, names, y_pred, targets, losses, heads)
    totals = LossTotals(losses, [loss.weight for loss in matching.losses], regularized, parts)
    return Evaluation(strategy, model, matching, losses, totals, metrics, compiled.seed)


def _train_function(compiled: Compiled, evaluation: Evaluation, step: Step, memory: Memory) -> Callable[[Any], Logs]:
    def logs(measured: Measurement) -> Logs:
        found = evaluation.logs()
        return found | diagnostics.logs(measured, step.objectives.names) if compiled.diagnostics else found

    return loop.train_function(
        step,
        memory,
        evaluation.batch_of,
        evaluation.totals.failed,
        logs,
        measures=compiled.diagnostics,
        steps=compiled.steps_per_execution,
        eagerly=compiled.run_eagerly,
    )


def _step(
    model: keras.Model,
    compiled: Compiled,
    evaluation: Evaluation,
    batch_spec: Mapping[str, Any],
    batch_size: int,
    epoch: tf.Variable,
) -> tuple[Step, tuple[OptimizerGroup, ...], dict[str, tf.Variable]]:
    """The step, the optimizers, and by name the moving averages of gradients that it keeps."""
    strategy, losses = evaluation.strategy, evaluation.losses
    names = [loss.name for loss in losses]
    weights = [loss.weight for loss in evaluation.matching.losses]
    found = discovery.discover_reach(model, losses, batch_spec, strategy)
    combination = compiled.combine.of_losses(len(losses))
    averages = None if combination.keeps is None else GradientAverages(found.reach, names, combination.keeps)
    groups = optimization.groups(compiled, names, found.reach, combination, model)
    lacking = _can_lack_labels(losses, batch_spec, found.masked)
    plan = plan_lib.make(_settings(compiled, names, weights, batch_size, lacking, strategy))
    step = step_build.build(
        plan,
        step_build.Settings(
            every=compiled.combine.update_every,
            micro_batches=compiled.micro_batches,
            clip_norm=compiled.clip_norm,
            can_lack_labels=lacking,
            scales_losses=compiled.scales_losses,
            jit_compile=compiled.jit_compile,
        ),
        strategy=strategy,
        objectives=Objectives(
            model=model,
            losses=losses,
            loss_weights=weights,
            timeline=_EpochsOfFit(batch_size, batch_size, 0, epoch),
            seed=compiled.seed,
            masked=found.masked,
            varying=True,
            watch=evaluation.watch,
        ),
        reach=found.reach,
        solver=Solver(combination, strategy_lib.solver_device(strategy)),
        groups=groups,
        average=None,
        gradient_averages=averages,
        reduction=_reduction(found.reach, strategy),
    )
    return step, groups, {} if averages is None else averages.by_name


@dataclasses.dataclass(frozen=True)
class _EpochsOfFit(Timeline):
    """The epochs that `fit` counts.

    Attributes:
      current: the epoch, int64 variable.
    """

    current: tf.Variable

    def epoch(self, step: tf.Tensor) -> tf.Tensor:
        """The epoch in which a step is taken now."""
        del step
        return self.current.read_value()


def _settings(
    compiled: Compiled,
    names: Sequence[str],
    weights: Sequence[float],
    batch_size: int,
    lacking: Sequence[bool],
    strategy: tf.distribute.Strategy,
) -> plan_lib.StepSettings:
    """What the plan depends on; one backward pass for all losses where nothing forbids it and nothing is measured."""
    given = {name: {"loss": name, "weight": float(weight)} for name, weight in zip(names, weights, strict=True)}
    losses = {name: schema.record(LossConfig)(loss, f"loss_weights.{name}") for name, loss in given.items()}
    settings = compiled.settings(losses, batch_size)
    if compiled.diagnostics:
        return settings
    waits = any(lacking) and (strategy.num_replicas_in_sync > 1 or compiled.micro_batches > 1)
    return plan_lib.with_fewest_passes(settings, labels_can_be_missing=waits)


def _can_lack_labels(losses: Sequence[NamedLoss], spec: Mapping[str, Any], masked: Sequence[bool]) -> tuple[bool, ...]:
    """Whether labels of each loss may weigh less than 1, or it is a sum, whose divisor differs from the others'."""
    weighted = spec.get("weights", {})
    return tuple(
        loss.target in weighted or is_masked or loss.normalizer == "sum"
        for loss, is_masked in zip(losses, masked, strict=True)
    )


def _reduction(reach: Reach, strategy: tf.distribute.Strategy) -> Reduction:
    """The sum over replicas; raises ConfigError where these devices cannot sum a variable's gradients."""
    for name, variable in reach.by_name.items():
        instead = "give its layer float32 variables"
        strategy_lib.check_summed(strategy, tf.as_dtype(variable.dtype), "model", name, instead)
    return Reduction()
