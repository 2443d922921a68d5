"""From a configuration to the parts of a run; whatever cannot work is found here, before the first step."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from input_pipelines.configuration import TRAIN
from input_pipelines.data import Data
from input_pipelines.feed import in_order, splits, unlabelled
from input_pipelines.feed.splits import Split
from input_pipelines.saved_data import SavedData
from trainer.common.durations import Timeline
from trainer.common.trust import NOBODY, Trust
from trainer.components.losses import NamedLoss
from trainer.components.optimizers import OptimizerGroup
from trainer.components.rates import RateScale
from trainer.config import monitors
from trainer.config import plan as plan_lib
from trainer.config.plan import StepPlan
from trainer.config.settings import LOOP, Config
from trainer.distributed import strategy as strategy_lib
from trainer.distributed.replica_state import LayerState
from trainer.evaluation.evaluator import Evaluator
from trainer.evaluation.train_metrics import TrainMetrics
from trainer.gradients.reach import Reach
from trainer.run import build_step, checks, comparing, monitor, on_device, watched
from trainer.run import evaluations as evaluations_lib
from trainer.run import network as network_lib
from trainer.run import optimization as optimization_lib
from trainer.run.evaluations import Evaluations
from trainer.run.monitor import Monitors
from trainer.run.network import batch_spec
from trainer.run.optimization import Optimization
from trainer.run.watched import Watched
from trainer.step.step import Step

__all__ = ["Experiment", "Intervals", "batch_spec", "build"]


_EARLY = (1, 10)  # steps after which there are reports already, where the first regular one comes later


class Intervals(NamedTuple):
    """Steps between reports, between evaluations and between checkpoints."""

    report: int
    evaluation: int
    checkpoint: int

    @property
    def early_reports(self) -> tuple[int, ...]:
        """Further numbers of steps taken at which there is a training report."""
        return _EARLY if self.report > _EARLY[-1] else ()


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A configuration made real on a strategy.

    Attributes:
      config: the resolved configuration.
      strategy: where it runs.
      data: the splits, and what the run keeps of them.
      model: the model.
      losses: the losses, in the configuration's order.
      reach: which of them reach which variable.
      optimizer_groups: the optimizers and what each of them updates.
      plan: how steps are computed.
      step: the training step.
      steps_of: plan and step of a configuration that differs in `compile` alone, on the same variables.
      train_metrics: metrics on the batches of training; None: the run has none.
      evaluator: evaluates all splits but that of training.
      evaluations: when those beside `validation` are due.
      timeline: how the run's steps lie among examples and epochs.
      intervals: how often something is due.
      monitors: what decides by validation reports, before the first one.
      rate_scale: of all learning rates, which one of them decides; None: there is none.
      watched: what monitors watch that no evaluation gives.
      draws: whether the model or a loss draws random numbers in training.
      repeatable: whether a checkpoint holds all that decides what is drawn next.
      remarks: lines for the user, but for those on how the steps are computed.
    """

    config: Config
    strategy: tf.distribute.Strategy
    data: Data
    model: keras.Model
    losses: tuple[NamedLoss, ...]
    reach: Reach
    optimizer_groups: tuple[OptimizerGroup, ...]
    plan: StepPlan
    step: Step
    steps_of: Callable[[Config], tuple[StepPlan, Step]]
    train_metrics: TrainMetrics | None
    evaluator: Evaluator
    evaluations: Evaluations
    timeline: Timeline
    intervals: Intervals
    monitors: Monitors
    rate_scale: RateScale | None
    watched: Watched
    draws: bool
    repeatable: bool
    remarks: tuple[str, ...]

    @property
    def train(self) -> Split:
        """The training split."""
        return self.data.splits[TRAIN]

    @property
    def heads(self) -> dict[str, str]:
        """Name of a loss, or of metrics without one, → head name, or what else is read of the model."""
        return {each.name: each.head or each.source for each in (*self.losses, *self.evaluator.measured)}

    @property
    def layer_state(self) -> LayerState:
        """The variables that the model's layers change by themselves."""
        return self.evaluator.layer_state

    @property
    def micro_batch_size(self) -> int:
        """Examples of a global batch that are computed at once."""
        return self.config.batch_size // self.config.micro_batches

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for the user."""
        dense = checks.dense_tables(self.model, self.reach) if self.plan.keeps_every_row else ()
        return (*self.remarks, *on_device.notes(self.config.compile, self.draws), *dense)

    def compiled(self, way: str) -> "Experiment":
        """Returns the experiment with its steps compiled as `way` says, on the same variables.

        Raises:
          ConfigError: they cannot be.
        """
        config = dataclasses.replace(self.config, compile=way)
        on_device.check(config, self.train, self.strategy)
        plan, step = self.steps_of(config)
        return dataclasses.replace(self, config=config, plan=plan, step=step)

    def wrong_example(self, split: str, step: int = 0) -> str | None:
        """Names an example that cannot be read and the reason; None where there is none.

        Args:
          split: the split whose examples are tried.
          step: the training step from which on they are; of `train`.
        """
        first = step * self.config.micro_batches
        return self.data.splits[split].reason(first, self.micro_batch_size, self.config.seed)

    def discarded(self, first_step: int) -> int:
        """The number of training examples that are read and thrown away before those of a step."""
        return in_order.discarded(self.train, first_step * self.config.micro_batches, self.micro_batch_size)

    def batches(self, first_step: int) -> Iterable[Any]:
        """The training data from a step on: one element per micro-batch."""
        return strategy_lib.feed(self.strategy, functools.partial(self._pipeline, first_step))

    def source(self, first_step: int) -> Any:
        """Returns an iterator over `batches`, or what is on the device, for the in-graph loop to read from a step."""
        if self.config.compile != LOOP and not on_device.is_faster(self.config, self.train, self.strategy):
            return iter(self.batches(first_step))
        return on_device.build(self.train, self.config, first_step, self.timeline, self.strategy)

    def _pipeline(self, first_step: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
        return self.train.training(
            batch_size=self.micro_batch_size,
            seed=self.config.seed,
            first_step=first_step * self.config.micro_batches,
            ends=splits.ends(context, self.micro_batch_size),
        )


def build(
    config: Config, strategy: tf.distribute.Strategy, saved: SavedData | None = None, trust: Trust = NOBODY
) -> Experiment:
    """Builds data, model, losses, optimizers and the step, each from its part of the configuration.

    The order is also that of what is refused first.

    Args:
      config: the resolved configuration.
      strategy: where it is to run.
      saved: what an earlier process of the same run kept of its data.
      trust: whose code may be called where the data name it.

    Raises:
      ConfigError: anything in the configuration that cannot be used with this data, model or number of replicas.
    """
    replicas = strategy.num_replicas_in_sync
    network_lib.set_arithmetic(config.precision, config.tensor_float_32, config.deterministic, strategy)
    plan_lib.of(config)  # imports a method of the user's own, whose module may look at the arithmetic
    data = _read_data(config, saved, trust, replicas)
    train = data.splits[TRAIN]
    on_device.check(config, train, strategy)
    spec = batch_spec(train, -(-(config.batch_size // config.micro_batches) // replicas))
    network = network_lib.build(
        config.model, config.losses, config.metrics, config.seed, spec, data, strategy, config.freeze
    )
    reach, masked, draws = optimization_lib.find_reach(network, spec, strategy)
    plan = build_step.plan(config, network, masked)
    compared = comparing.check(config, network, replicas)
    timeline = Timeline.of(config.steps, batch_size=config.batch_size, examples=len(train))
    optimization = _optimization(config, reach, timeline, strategy)
    train_metrics = TrainMetrics(strategy, network.losses, network.metrics) if config.train_metrics else None
    made = (network, reach, masked, optimization, timeline, strategy, train_metrics and train_metrics.add)
    step = build_step.build(config, plan, *made)
    evaluator = network_lib.build_evaluator(network, config.segments, config.batch_size, config.seed, strategy)
    evaluations = evaluations_lib.resolve(config.evaluate, data.splits, (*config.losses, *config.metrics), timeline)
    watchable = evaluator.directions(evaluations.at_every), evaluations.not_with_validation
    return Experiment(
        config=config,
        strategy=strategy,
        data=network.data,
        model=network.model,
        losses=network.losses,
        reach=reach,
        optimizer_groups=optimization.groups,
        plan=plan,
        step=step,
        steps_of=functools.partial(_steps_of, made),
        train_metrics=train_metrics,
        evaluator=evaluator,
        evaluations=evaluations,
        timeline=timeline,
        intervals=_intervals(config, timeline),
        monitors=monitor.build(monitors.of(config), *watchable),
        rate_scale=optimization.rate_scale,
        watched=watched.of(monitors.of(config).values(), build_step.loss_weights(config.losses, timeline)),
        draws=draws.any,
        repeatable=draws.repeatable,
        remarks=(*data.notes, *unlabelled.lines(train, data.names.columns), *draws.lines(), *compared),
    )


def _steps_of(made: tuple[Any, ...], config: Config) -> tuple[StepPlan, Step]:
    """The plan and the step of a configuration; `made` are the arguments of `build_step.build` beside these two."""
    network, _, masked, *_ = made
    plan = build_step.plan(config, network, masked)
    return plan, build_step.build(config, plan, *made)


def _read_data(config: Config, saved: SavedData | None, trust: Trust, replicas: int) -> Data:
    return network_lib.read_data(
        config.dataset,
        saved,
        trust,
        config.losses,
        config.metrics,
        segments=config.segments,
        batch_size=config.batch_size,
        micro_batches=config.micro_batches,
        replicas=replicas,
    )


def _optimization(config: Config, reach: Reach, timeline: Timeline, strategy: tf.distribute.Strategy) -> Optimization:
    return optimization_lib.build(
        config.combine,
        config.losses,
        config.optimizer,
        config.shared_optimizer,
        config.ema,
        reach,
        timeline,
        strategy,
        config.learning_rate_factors,
        config.reduce_on_plateau,
    )


def _intervals(config: Config, timeline: Timeline) -> Intervals:
    every = {
        "report_every": config.report_every,
        "eval_every": config.eval_every,
        "checkpoint_every": config.checkpoint_every or config.eval_every,
    }
    return Intervals(*(timeline.to_steps(duration, field) for field, duration in every.items()))
