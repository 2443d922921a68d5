"""From a configuration to everything a run is made of; whatever cannot work is found here, before the first step."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf
from absl import logging

from input_pipelines import examples as examples_lib
from input_pipelines import in_memory
from input_pipelines.examples import TRAIN, VALIDATION, Examples
from trainer import checkpoint, durations, features, imports, jacobian, losses, metrics, optimizers, schedules
from trainer import strategy as strategy_lib
from trainer.averaging import WeightAverage
from trainer.combine import combination as combination_lib
from trainer.configuration import Config, EarlyStoppingConfig, MonitorConfig, check_heads, method_options
from trainer.errors import ConfigError, first_line, reason_of, unknown
from trainer.evaluation import Evaluator
from trainer.losses import NamedLoss
from trainer.models import trunk_and_heads
from trainer.moving_rows import MovingRows
from trainer.reduction import Reduction
from trainer.step import Step

_SOME_EXAMPLES = 32


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A configuration made real on a strategy.

    Attributes:
      config: the resolved configuration.
      strategy: where it runs.
      train: the training split.
      model: the model.
      losses: the losses, in the configuration's order.
      step: the training step.
      evaluator: evaluates the validation split.
      steps: length of the run.
      cadences: steps between reports, between evaluations and between checkpoints.
      best: what tells which checkpoint is the best.
      early_stopping: when to end before the last step.
    """

    config: Config
    strategy: tf.distribute.Strategy
    train: Examples
    model: keras.Model
    losses: tuple[NamedLoss, ...]
    step: Step
    evaluator: Evaluator
    steps: int
    cadences: tuple[int, int, int]
    best: MonitorConfig | None
    early_stopping: EarlyStoppingConfig | None

    def batches(self, first_step: int) -> Iterable[Any]:
        """The training data from a step on: one element per micro-batch."""
        return strategy_lib.feed(self.strategy, functools.partial(self._pipeline, first_step))

    def _pipeline(self, first_step: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
        return in_memory.training_batches(
            self.train,
            batch_size=self.config.batch_size // self.config.micro_batches,
            seed=self.config.seed,
            first_step=first_step * self.config.micro_batches,
            context=context,
        )


def build(config: Config, strategy: tf.distribute.Strategy) -> Experiment:
    """Builds data, model, losses, optimizers and the step.

    Raises:
      ConfigError: anything in the configuration that cannot be used with this data, model or number of replicas.
    """
    mixed = config.precision.startswith("mixed_")
    keras.config.set_floatx("float32" if mixed else config.precision)
    keras.config.set_dtype_policy(config.precision)
    if warning := strategy_lib.half_precision_warning(strategy, config.precision):
        logging.warning("%s", warning)
    splits = examples_lib.load(config.dataset, floatx=keras.config.floatx())
    train = splits[TRAIN]
    _check_batch_size(config, train, strategy.num_replicas_in_sync)
    for name, loss in config.losses.items():
        for split, examples in splits.items():
            if loss.target not in examples.targets:
                raise unknown(f"losses.{name}.target", loss.target, f"target (in the {split} split)", examples.targets)

    # Layers without a seed of their own draw one from here, so the same configuration starts from the same variables.
    keras.utils.set_random_seed(config.seed % 2**32)
    micro_batch = config.batch_size // config.micro_batches
    spec = batch_spec(train, -(-micro_batch // strategy.num_replicas_in_sync))
    with strategy.scope():
        named = tuple(losses.build(name, loss) for name, loss in config.losses.items())
        model = trunk_and_heads.build(config.model, spec["inputs"])
        checkpoint.model_state(model)  # names every variable apart
        outputs = _output_spec(model, spec["inputs"], config.model.name)
        check_heads(config.losses, outputs)
        losses.check_shapes(named, outputs, spec["targets"])
        _check_classes(config, named, outputs, splits)
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
    reach = jacobian.discover_reach(model, named, spec, strategy)
    if reach.unreached:
        logging.warning(
            "No loss reaches %s; they stay as they are.", ", ".join(variable.path for variable in reach.unreached)
        )
    if any(loss.takes_probabilities for loss in named):
        for line in losses.logits_taken_for_probabilities(named, _outputs_of_some(model, train)):
            logging.warning("%s", line)
    combination = _combination(config)
    moving_rows = None
    with strategy.scope():
        if combination.keeps is not None:
            moving_rows = MovingRows(reach, list(config.losses), combination.keeps)
        updates = optimizers.build_updates(config, reach, combination, examples=len(train))
        average = None if config.ema is None else WeightAverage(strategy, reach.variables, config.ema)
    to_steps = functools.partial(durations.to_steps, batch_size=config.batch_size, examples=len(train))
    steps = to_steps(config.steps)
    step = Step(
        strategy=strategy,
        model=model,
        losses=named,
        weights=_weights(config, examples=len(train), steps=steps),
        reach=reach,
        combination=combination,
        updates=updates,
        per_loss=config.combine.apply == "per_loss",
        can_rest=tuple(loss.target in train.weights or loss.every > 1 for loss in named),
        batch_size=config.batch_size,
        examples=len(train),
        seed=config.seed,
        clip_norm=config.clip_norm,
        average=average,
        moving_rows=moving_rows,
        fused=config.reduction == "fused",
        probe_every=to_steps(config.probe_every or config.report_every),
        update_every=config.combine.update_every,
        features=_features(config, model, reach),
        micro_batches=config.micro_batches,
        labels_can_be_missing=any(loss.target in train.weights for loss in named),
        scales_losses=config.precision == "mixed_float16",
        reduction=Reduction(config.reduce_dtype and tf.as_dtype(config.reduce_dtype), config.bytes_per_pack),
        jit_compile=config.jit_compile,
        solver_device=strategy_lib.solver_device(strategy),
    )
    _check_one_pass(config, step)
    validation = functools.partial(_evaluation_pipeline, splits[VALIDATION], config.batch_size)
    validation_steps = in_memory.evaluation_steps(
        len(splits[VALIDATION]), config.batch_size, strategy.num_replicas_in_sync
    )
    return Experiment(
        config=config,
        strategy=strategy,
        train=train,
        model=model,
        losses=named,
        step=step,
        evaluator=Evaluator(strategy, model, named, built_metrics, validation, validation_steps),
        steps=steps,
        cadences=tuple(
            to_steps(every)
            for every in (config.report_every, config.eval_every, config.checkpoint_every or config.eval_every)
        ),
        best=_resolve_mode(config.best, "best", built_metrics),
        early_stopping=_resolve_mode(config.early_stopping, "early_stopping", built_metrics),
    )


def _check_one_pass(config: Config, step: Step) -> None:
    """What must be known before a weighted sum's backward pass begins: numbers of labels, or the losses' values."""
    if config.reduction == "fused":
        field, value = "reduction", "fused"
    else:
        field, value = "combine.update_every", config.combine.update_every
    if value == 1 or not step.counts_first:
        return
    if step.labels_can_be_missing:
        reason = "counts a batch's labels before its backward pass where a target has weights"
    else:
        reason = "needs the losses of the whole batch before its backward pass"
    if config.micro_batches > 1:
        raise ConfigError(field, value, f"{reason}; leave micro_batches at 1")
    if config.jit_compile:
        raise ConfigError(field, value, f"{reason}, summed across replicas; leave jit_compile False")


def _features(config: Config, model: keras.Model, reach: jacobian.Reach) -> features.Split | None:
    if config.gradients != "features":
        return None
    if not reach.shared:
        raise ConfigError("gradients", "features", "is for losses that share variables; these share none")
    return features.split(model)


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


def _check_batch_size(config: Config, train: Examples, replicas: int) -> None:
    if config.batch_size < replicas:
        raise ConfigError("batch_size", config.batch_size, f"must be at least the number of replicas, {replicas}")
    part = config.batch_size // config.micro_batches
    if part < replicas:
        raise ConfigError(
            "micro_batches",
            config.micro_batches,
            f"leaves {part} examples in a part, fewer than the {replicas} replicas",
        )
    if config.batch_size > len(train):
        raise ConfigError(
            "batch_size", config.batch_size, f"must be at most the size of the training split, {len(train)} examples"
        )


def batch_spec(examples: Examples, batch_size: int) -> dict[str, Any]:
    """`tf.TensorSpec`s of so many examples: `inputs`, `targets` and, where given, `weights`."""
    return tf.nest.map_structure(
        lambda array: tf.TensorSpec((batch_size, *array.shape[1:]), tf.as_dtype(array.dtype)), examples.structure
    )


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


def _check_classes(
    config: Config, named: tuple[NamedLoss, ...], outputs: Mapping[str, Any], splits: Mapping[str, Examples]
) -> None:
    """Class indices lie within the head's classes: a GPU would give NaN, a CPU fail somewhere in the run."""
    for loss in named:
        classes = loss.prediction(outputs).shape[-1]
        if not loss.targets_are_classes or "ignore_class" in config.losses[loss.name].loss:
            continue
        for split, examples in splits.items():
            labels = examples.targets[loss.target]
            wrong = labels[(labels < 0) | (labels >= classes) | (labels % 1 != 0)]
            if wrong.size:
                raise ConfigError(
                    f"losses.{loss.name}.target",
                    loss.target,
                    f"holds the class {wrong[0]} in the {split} split, but {loss.source} has {classes} classes, "
                    f"0 to {classes - 1}",
                )


def _outputs_of_some(model: keras.Model, train: Examples) -> Mapping[str, tf.Tensor]:
    """What the untrained model gives for the first training examples."""
    inputs = tf.nest.map_structure(lambda array: tf.constant(array[:_SOME_EXAMPLES]), train.structure["inputs"])
    try:
        return losses.full_precision(model(inputs, training=False))
    except imports.USER_ERRORS as error:
        raise ConfigError("model", model.name, f"fails on training examples: {reason_of(error)}") from error


def _evaluation_pipeline(examples: Examples, batch_size: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
    return in_memory.evaluation_batches(examples, batch_size=batch_size, context=context)
