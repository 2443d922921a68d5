"""The last stage of an experiment: its step. Of a run, this file alone knows how one is made."""

from collections.abc import Mapping

import keras
import tensorflow as tf

from input_pipelines.configuration import TRAIN
from trainer.common.durations import Timeline
from trainer.common.errors import ConfigError
from trainer.components import schedules
from trainer.config.settings import Config, LossConfig
from trainer.distributed import strategy as strategy_lib
from trainer.distributed.all_reduce import Reduction
from trainer.gradients.reach import Reach
from trainer.run.network import Network
from trainer.run.optimization import Optimization
from trainer.step import features
from trainer.step.step import Step


def build(
    config: Config,
    network: Network,
    reach: Reach,
    optimization: Optimization,
    timeline: Timeline,
    strategy: tf.distribute.Strategy,
) -> Step:
    """The step of an experiment; raises ConfigError where it cannot be computed in the way that is configured."""
    weighted = network.data.splits[TRAIN].spec.get("weights", {})
    step = Step(
        strategy=strategy,
        model=network.model,
        losses=network.losses,
        weights=_weights(config.losses, timeline),
        reach=reach,
        combination=optimization.combination,
        updates=optimization.updates,
        per_loss=config.combine.apply == "per_loss",
        can_rest=tuple(loss.target in weighted or loss.every > 1 for loss in network.losses),
        batch_size=timeline.batch_size,
        examples=timeline.examples,
        seed=config.seed,
        clip_norm=config.clip_norm,
        average=optimization.average,
        moving_rows=optimization.moving_rows,
        fused=config.reduction == "fused",
        probe_every=timeline.to_steps(config.probe_every or config.report_every),
        update_every=config.combine.update_every,
        features=_features(config, network.model, reach),
        micro_batches=config.micro_batches,
        labels_can_be_missing=any(loss.target in weighted for loss in network.losses),
        scales_losses=config.precision == "mixed_float16",
        reduction=Reduction(config.reduce_dtype and tf.as_dtype(config.reduce_dtype), config.bytes_per_pack),
        jit_compile=config.jit_compile,
        solver_device=strategy_lib.solver_device(strategy),
    )
    _check_one_pass(config, step)
    return step


def _weights(
    losses: Mapping[str, LossConfig], timeline: Timeline
) -> tuple[float | schedules.LearningRateSchedule, ...]:
    return tuple(
        schedules.build(loss.weight, f"losses.{name}.weight", timeline)
        if isinstance(loss.weight, dict)
        else loss.weight
        for name, loss in losses.items()
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


def _features(config: Config, model: keras.Model, reach: Reach) -> features.Split | None:
    if config.gradients != "features":
        return None
    if not reach.shared:
        raise ConfigError("gradients", "features", "is for losses that share variables; these share none")
    return features.split(model)
