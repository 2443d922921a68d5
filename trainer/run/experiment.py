"""From a configuration to everything a run is made of; whatever cannot work is found here, before the first step."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf
from absl import logging

from input_pipelines import data as data_lib
from input_pipelines.configuration import TRAIN, VALIDATION
from input_pipelines.data import Data, Saved
from input_pipelines.feed import splits
from input_pipelines.feed.splits import Split, WrongClassError
from trainer.combine import combination as combination_lib
from trainer.common import durations, import_paths
from trainer.common.errors import ConfigError, first_line, reason_of, unknown
from trainer.components import loss_checks, metrics, optimizers, schedules
from trainer.components import losses as losses_lib
from trainer.components.losses import NamedLoss
from trainer.config import plan as plan_lib
from trainer.config.plan import Plan, Way
from trainer.config.rules import check_heads
from trainer.config.settings import Config, EarlyStoppingConfig, MonitorConfig, method_options
from trainer.distributed import strategy as strategy_lib
from trainer.distributed.all_reduce import Reduction
from trainer.evaluation.evaluator import Evaluator
from trainer.gradients import reach as reach_lib
from trainer.gradients.moving_average import MovingRows
from trainer.models import embeddings, trunk_and_heads
from trainer.output import checkpoint
from trainer.step import build as build_step
from trainer.step import discovery
from trainer.step.objectives import Objectives
from trainer.step.solving import Solver
from trainer.step.step import Step
from trainer.step.weight_average import WeightAverage

_SOME_EXAMPLES = 32
_LARGE_TABLE_BYTES = 2**26


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A configuration made real on a strategy.

    Attributes:
      config: the resolved configuration.
      strategy: where it runs.
      data: the splits, and what the run keeps of them.
      model: the model.
      losses: the losses, in the configuration's order.
      step: the training step.
      evaluator: evaluates the validation split.
      steps: length of the run.
      cadences: steps between reports, between evaluations and between checkpoints.
      best: what tells which checkpoint is the best.
      early_stopping: when to end before the last step.
      notes: lines for the user.
    """

    config: Config
    strategy: tf.distribute.Strategy
    data: Data
    model: keras.Model
    losses: tuple[NamedLoss, ...]
    step: Step
    evaluator: Evaluator
    steps: int
    cadences: tuple[int, int, int]
    best: MonitorConfig | None
    early_stopping: EarlyStoppingConfig | None
    notes: tuple[str, ...]

    @property
    def train(self) -> Split:
        """The training split."""
        return self.data.splits[TRAIN]

    def wrong_example(self, step: int | None) -> str | None:
        """Where an example that cannot be read is, and why, if there is one.

        Args:
          step: training goes on from here; None: in the validation split.
        """
        micro = self.config.micro_batches
        split, first = (self.train, step * micro) if step is not None else (self.data.splits[VALIDATION], 0)
        return split.reason(first, self.config.batch_size // micro, self.config.seed)

    def batches(self, first_step: int) -> Iterable[Any]:
        """The training data from a step on: one element per micro-batch."""
        return strategy_lib.feed(self.strategy, functools.partial(self._pipeline, first_step))

    def _pipeline(self, first_step: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
        batch_size = self.config.batch_size // self.config.micro_batches
        return self.train.training(
            batch_size=batch_size,
            seed=self.config.seed,
            first_step=first_step * self.config.micro_batches,
            ends=splits.ends(context, batch_size),
        )


def build(config: Config, strategy: tf.distribute.Strategy, saved: Saved | None = None) -> Experiment:
    """Builds data, model, losses, optimizers and the step.

    Args:
      config: the resolved configuration.
      strategy: where it is to run.
      saved: what an earlier process of the same run kept of its data.

    Raises:
      ConfigError: anything in the configuration that cannot be used with this data, model or number of replicas.
    """
    mixed = config.precision.startswith("mixed_")
    keras.config.set_floatx("float32" if mixed else config.precision)
    keras.config.set_dtype_policy(config.precision)
    if warning := strategy_lib.half_precision_warning(strategy, config.precision):
        logging.warning("%s", warning)
    data = data_lib.build(config.dataset, saved)
    train = data.splits[TRAIN]
    _check_batch_size(config, train, strategy.num_replicas_in_sync)
    for name, loss in config.losses.items():
        for split, examples in data.splits.items():
            targets = examples.spec["targets"]
            if loss.target not in targets:
                raise unknown(f"losses.{name}.target", loss.target, f"target (in the {split} split)", targets)

    # Layers without a seed of their own draw one from here, so the same configuration starts from the same variables.
    keras.utils.set_random_seed(config.seed % 2**32)
    micro_batch = config.batch_size // config.micro_batches
    spec = batch_spec(train, -(-micro_batch // strategy.num_replicas_in_sync))
    with strategy.scope():
        named = tuple(losses_lib.build(name, loss) for name, loss in config.losses.items())
        model = trunk_and_heads.build(config.model, spec["inputs"], train.categories)
        checkpoint.model_state(model)  # names every variable apart
        outputs = _output_spec(model, spec["inputs"], config.model.name)
        check_heads(config.losses, outputs)
        loss_checks.check_shapes(named, outputs, spec["targets"])
        data = _with_classes_checked(config, named, outputs, data)
        train = data.splits[TRAIN]
        built_metrics = {
            loss.name: metrics.build(
                loss.name,
                config.losses[loss.name],
                prediction=loss.prediction(outputs),
                target=spec["targets"][loss.target],
                weights=spec.get("weights", {}).get(loss.target),
            )
            for loss in named
        }
    reach = discovery.discover_reach(model, named, spec, strategy)
    if reach.unreached:
        logging.warning(
            "No loss reaches %s; they stay as they are.", ", ".join(variable.path for variable in reach.unreached)
        )
    if any(loss.takes_probabilities for loss in named):
        for line in loss_checks.logits_taken_for_probabilities(named, _outputs_of_some(model, train)):
            logging.warning("%s", line)
    plan = plan_lib.of(config)
    combination = _combination(config)
    moving_rows = None
    with strategy.scope():
        if combination.keeps is not None:
            moving_rows = MovingRows(reach, list(config.losses), combination.keeps)
        updates = optimizers.build_updates(config, reach, combination, examples=len(train))
        average = None if config.ema is None else WeightAverage(strategy, reach.variables, config.ema)
    to_steps = functools.partial(durations.to_steps, batch_size=config.batch_size, examples=len(train))
    steps = to_steps(config.steps)
    weighted = train.spec.get("weights", {})
    plan = plan_lib.of(config)
    every = to_steps(config.probe_every or config.report_every) if plan.probes else config.combine.update_every
    step = build_step.build(
        plan,
        build_step.Settings(
            every=every,
            micro_batches=config.micro_batches,
            clip_norm=config.clip_norm,
            weighted_targets=set(weighted),
            scales_losses=config.precision == "mixed_float16",
            jit_compile=config.jit_compile,
        ),
        strategy=strategy,
        objectives=Objectives(
            model=model,
            losses=named,
            weights=_weights(config, examples=len(train), steps=steps),
            batch_size=config.batch_size,
            examples=len(train),
            seed=config.seed,
        ),
        reach=reach,
        solver=Solver(combination, strategy_lib.solver_device(strategy)),
        optimizers=updates,
        average=average,
        moving_rows=moving_rows,
        reduction=Reduction(config.reduce_dtype and tf.as_dtype(config.reduce_dtype), config.bytes_per_pack),
    )
    plan_lib.check_labels(config, labels_can_be_missing=any(loss.target in weighted for loss in named))
    validation = data.splits[VALIDATION]
    return Experiment(
        config=config,
        strategy=strategy,
        data=data,
        model=model,
        losses=named,
        step=step,
        evaluator=Evaluator(
            strategy,
            model,
            named,
            built_metrics,
            lambda context: validation.evaluation(batch_size=config.batch_size, context=context),
            validation.evaluation_steps(config.batch_size, strategy.num_replicas_in_sync),
        ),
        steps=steps,
        cadences=tuple(
            to_steps(every)
            for every in (config.report_every, config.eval_every, config.checkpoint_every or config.eval_every)
        ),
        best=_resolve_mode(config.best, "best", built_metrics),
        early_stopping=_resolve_mode(config.early_stopping, "early_stopping", built_metrics),
        notes=(*data.notes, *_dense_tables(plan, model, reach)),
    )


def _dense_tables(plan: Plan, model: keras.Model, reach: reach_lib.Reach) -> list[str]:
    """A line for each large table of an embedding of which every loss's gradient is kept whole, zeros and all."""
    if plan.probes or plan.way is Way.FEATURES:
        return []
    tables = {id(table): table for table in embeddings.tables(model)}
    lines = []
    for variable, losses_of in zip(reach.variables, reach.losses, strict=True):
        size = len(losses_of) * math.prod(variable.shape) * tf.as_dtype(variable.dtype).size
        if id(variable) in tables and size > _LARGE_TABLE_BYTES:
            lines.append(
                f"the gradients of {len(losses_of)} losses for the table {variable.path} are dense: "
                f"{size / 2**20:,.0f} MiB in every step, of which a batch touches a few rows; reduction='fused' keeps "
                "one of them, model.embedding_units or the operation 'categories' with a 'minimum' make it smaller"
            )
    return lines


def _combination(config: Config) -> combination_lib.Combination:
    return combination_lib.build(
        config.combine.name,
        method_options(config.combine),
        len(config.losses),
        use_weights=config.combine.use_weights,
        log_losses=config.combine.log_losses,
        smoothing=config.combine.smoothing,
    )


def _weights(config: Config, *, examples: int, steps: int) -> tuple[float | schedules.LearningRateSchedule, ...]:
    build_schedule = functools.partial(
        schedules.build, batch_size=config.batch_size, examples=examples, total_steps=steps
    )
    return tuple(
        build_schedule(loss.weight, f"losses.{name}.weight") if isinstance(loss.weight, dict) else loss.weight
        for name, loss in config.losses.items()
    )


def _resolve_mode(
    config: MonitorConfig | None, field: str, built_metrics: Mapping[str, Mapping[str, keras.metrics.Metric]]
) -> MonitorConfig | None:
    """`config` with "min" or "max" for "auto"; raises ConfigError where no evaluation gives such a metric."""
    if config is None:
        return None
    directions: dict[str, str | None] = {f"loss/{loss}": "down" for loss in built_metrics}
    for loss, own in built_metrics.items():
        # What Keras' own callbacks go by where their mode is "auto".
        directions |= {f"{loss}/{name}": getattr(metric, "_direction", None) for name, metric in own.items()}
    if config.metric not in directions:
        raise unknown(f"{field}.metric", config.metric, "validation metric", directions)
    if config.mode != "auto":
        return config
    if directions[config.metric] is None:
        raise ConfigError(f"{field}.mode", "auto", f"must be 'min' or 'max': {config.metric!r} does not say")
    return dataclasses.replace(config, mode="max" if directions[config.metric] == "up" else "min")


def _check_batch_size(config: Config, train: Split, replicas: int) -> None:
    if config.batch_size < replicas:
        raise ConfigError("batch_size", config.batch_size, f"must be at least the number of replicas, {replicas}")
    part = config.batch_size // config.micro_batches
    if part < replicas:
        raise ConfigError(
            "micro_batches",
            config.micro_batches,
            f"leaves {part} examples in a part, fewer than the {replicas} replicas",
        )
    if config.batch_size > train.largest_batch:
        raise ConfigError(
            "batch_size",
            config.batch_size,
            f"must be at most the size of the training split, {train.largest_batch} examples",
        )


def batch_spec(split: Split, batch_size: int) -> dict[str, Any]:
    """`tf.TensorSpec`s of so many examples: `inputs`, `targets` and, where given, `weights`."""
    return tf.nest.map_structure(lambda leaf: tf.TensorSpec((batch_size, *leaf.shape), leaf.dtype), split.spec)


def _output_spec(model: keras.Model, inputs: Any, name: str) -> Mapping[str, Any]:
    tensors = tf.nest.map_structure(lambda spec: keras.KerasTensor(tuple(spec.shape), spec.dtype.name), inputs)
    try:
        outputs = model.compute_output_spec(tensors)
    except Exception as error:
        shapes = tf.nest.map_structure(lambda spec: tuple(spec.shape), inputs)
        raise ConfigError(
            "model.name", name, f"does not take the inputs, of shape {shapes}: {first_line(error)}"
        ) from error
    if not isinstance(outputs, Mapping) or not all(hasattr(output, "shape") for output in outputs.values()):
        raise ConfigError("model.name", name, "must return a dictionary from head names to one output each")
    return outputs


def _with_classes_checked(config: Config, named: tuple[NamedLoss, ...], outputs: Mapping[str, Any], data: Data) -> Data:
    """Class indices lie within the head's classes: a GPU would give NaN, a CPU fail somewhere in the run."""
    checked = dict(data.splits)
    for loss in named:
        classes = loss.prediction(outputs).shape[-1]
        if not loss.targets_are_classes or "ignore_class" in config.losses[loss.name].loss:
            continue
        for split, examples in checked.items():
            try:
                checked[split] = examples.check_classes(loss.target, classes)
            except WrongClassError as error:
                raise ConfigError(
                    f"losses.{loss.name}.target",
                    loss.target,
                    f"holds the class {error.value} in the {split} split, but {loss.source} has {classes} classes, "
                    f"{error.allowed}",
                ) from error
    return dataclasses.replace(data, splits=checked)


def _outputs_of_some(model: keras.Model, train: Split) -> Mapping[str, tf.Tensor]:
    """What the untrained model gives for the first training examples."""
    inputs = tf.nest.map_structure(tf.constant, train.first(_SOME_EXAMPLES)["inputs"])
    try:
        return losses_lib.full_precision(model(inputs, training=False))
    except import_paths.USER_ERRORS as error:
        raise ConfigError("model", model.name, f"fails on training examples: {reason_of(error)}") from error
