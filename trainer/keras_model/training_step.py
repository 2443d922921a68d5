"""The step of a model and the arguments of `compile`, and its optimizers."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from trainer.common import schema
from trainer.common.durations import Timeline
from trainer.components.losses import NamedLoss
from trainer.components.optimizers import OptimizerGroup
from trainer.config import plan as plan_lib
from trainer.config.loss_settings import LossConfig
from trainer.config.plan import StepPlan
from trainer.config.step_settings import StepSettings
from trainer.distributed import strategy as strategy_lib
from trainer.distributed.all_reduce import Reduction
from trainer.gradients.moving_average import GradientAverages
from trainer.gradients.reach import Reach
from trainer.keras_model import optimization
from trainer.keras_model.arguments import Compiled
from trainer.keras_model.evaluation import Evaluation
from trainer.step import absence, discovery
from trainer.step import build as step_build
from trainer.step.objectives import Objectives
from trainer.step.solving import Solver
from trainer.step.step import Step


class TrainingStep(NamedTuple):
    """The step, its optimizers, and by name the moving averages of gradients that it keeps."""

    step: Step
    groups: tuple[OptimizerGroup, ...]
    averages: dict[str, tf.Variable]


def build(
    compiled: Compiled,
    evaluation: Evaluation,
    losses: Sequence[NamedLoss],
    batch_spec: Mapping[str, Any],
    batch_size: int,
    epoch: tf.Variable,
) -> TrainingStep:
    """Builds the step and the optimizers; call it in the scope of the model's strategy.

    Args:
      compiled: the arguments of `compile`.
      evaluation: is shown every batch.
      losses: the losses.
      batch_spec: `tf.TensorSpec`s of one replica's part of a batch.
      batch_size: a number of examples in a batch; others may come.
      epoch: int64 variable, the epoch of `fit`.

    Raises:
      ConfigError: the model cannot be trained with these arguments.
    """
    strategy, model = evaluation.strategy, evaluation.model
    names, weights = [loss.name for loss in losses], evaluation.loss_weights
    found = discovery.discover_reach(model, losses, batch_spec, strategy)
    combination = compiled.combine.of_losses(len(losses))
    averages = None if combination.keeps is None else GradientAverages(found.reach, names, combination.keeps)
    groups = optimization.groups(compiled, names, found.reach, combination, model)
    lacking = absence.can_lack_labels(losses, batch_spec, found.masked)
    waits = any(lacking) and (strategy.num_replicas_in_sync > 1 or compiled.micro_batches > 1)
    step = step_build.build(
        _plan(compiled.settings(_loss_settings(losses, weights), batch_size), labels_can_be_missing=waits),
        step_build.Settings(
            every=compiled.combine.update_every,
            micro_batches=compiled.micro_batches,
            clip_norm=compiled.clip_norm,
            can_lack_labels=lacking,
            scales_losses=compiled.scales_losses,
            compile=compiled.compile,
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
        layout=strategy_lib.layout(strategy),
    )
    return TrainingStep(step, groups, {} if averages is None else averages.by_name)


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


def _plan(settings: StepSettings, *, labels_can_be_missing: bool) -> StepPlan:
    """The plan of these settings; raises ConfigError where there is none, or labels are counted too late."""
    plan_lib.check_labels(settings, labels_can_be_missing=labels_can_be_missing)
    return plan_lib.make(settings, labels_can_be_missing=labels_can_be_missing)


def _loss_settings(losses: Sequence[NamedLoss], weights: Sequence[float]) -> dict[str, LossConfig]:
    """Name of a loss → its settings, as a configuration has them."""
    configs = {}
    for loss, weight in zip(losses, weights, strict=True):
        source = {"loss": loss.name} if loss.added_by is None else {"from": loss.added_by}
        if loss.reads is not None:
            source |= {
                "reads": {argument: str(path) for argument, path in loss.reads.items()},
                "over": loss.over,
                "variables": loss.variables and [*loss.variables],
            }
        configs[loss.name] = schema.record(LossConfig)(source | {"weight": float(weight)}, f"loss_weights.{loss.name}")
    return configs


def _reduction(reach: Reach, strategy: tf.distribute.Strategy) -> Reduction:
    """The sum over replicas; raises ConfigError where these devices cannot sum a variable's gradients."""
    for name, variable in reach.by_name.items():
        instead = "give its layer float32 variables"
        strategy_lib.check_summed(strategy, tf.as_dtype(variable.dtype), "model", name, instead)
    return Reduction()
