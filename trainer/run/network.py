"""The first stages of an experiment: its data; its model, losses and metrics. What evaluates them is made here too."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from absl import logging

from input_pipelines import data as data_lib
from input_pipelines.configuration import TRAIN, VALIDATION, DatasetConfig
from input_pipelines.data import Data
from input_pipelines.feed import splits
from input_pipelines.feed.splits import Split
from input_pipelines.saved_data import SavedData
from trainer.common.trust import Trust
from trainer.components import loss_checks, metrics
from trainer.components import losses as losses_lib
from trainer.components.losses import NamedLoss
from trainer.components.metrics import LossMetric
from trainer.config.evaluations import SegmentsConfig
from trainer.config.loss_settings import LossConfig, MetricsConfig
from trainer.config.rules import check_heads
from trainer.config.settings import ModelConfig
from trainer.distributed import strategy as strategy_lib
from trainer.distributed.replica_state import LayerState
from trainer.evaluation import segments as segments_lib
from trainer.evaluation.evaluator import EvaluatedSplit, Evaluator, Metrics
from trainer.models import forward_pass, freezing, names, trunk_and_heads
from trainer.output import checkpoint
from trainer.run import checks, class_weights


def set_arithmetic(
    precision: str, tensor_float_32: bool, deterministic: bool, strategy: tf.distribute.Strategy
) -> None:
    """Tells Keras and TensorFlow how to compute, before anything else: all that is built after this reads it from them.

    Args:
      precision: of data, layers and losses.
      tensor_float_32: as the setting of this name.
      deterministic: as the setting of this name; it cannot be taken back in this process.
      strategy: the devices; a line warns where they gain nothing by the precision.
    """
    strategy_lib.set_kernels(tensor_float_32=tensor_float_32, deterministic=deterministic)
    mixed = precision.startswith("mixed_")
    keras.config.set_floatx("float32" if mixed else precision)
    keras.config.set_dtype_policy(precision)
    if warning := strategy_lib.half_precision_warning(strategy, precision):
        logging.warning("%s", warning)


def read_data(
    config: DatasetConfig,
    saved: SavedData | None,
    trust: Trust,
    losses: Mapping[str, LossConfig],
    metrics: Mapping[str, MetricsConfig],
    *,
    segments: SegmentsConfig | None,
    batch_size: int,
    micro_batches: int,
    replicas: int,
) -> Data:
    """Reads the data and checks that they give every replica its part of a batch and every loss what it reads."""
    data = data_lib.build(config, saved, trust, None if segments is None else segments.by)
    checks.batch_size(batch_size, micro_batches, data.splits[TRAIN], replicas)
    checks.what_is_read(losses, metrics, data.splits)
    return data


def batch_spec(split: Split, batch_size: int) -> dict[str, Any]:
    """`tf.TensorSpec`s of `batch_size` examples: `inputs`, `targets` and, where given, `weights`."""
    return tf.nest.map_structure(lambda leaf: tf.TensorSpec((batch_size, *leaf.shape), leaf.dtype), split.spec)


@dataclasses.dataclass(frozen=True)
class Network:
    """A model and what it is trained for.

    Attributes:
      model: the model.
      losses: the losses, in the configuration's order.
      measured: what metrics without a loss read, as losses without a function.
      metrics: of every loss, and of each of these, for evaluations.
      data: the data, with class indices checked against the heads' classes.
    """

    model: keras.Model
    losses: tuple[NamedLoss, ...]
    measured: tuple[NamedLoss, ...]
    metrics: Metrics
    data: Data


def build(
    config: ModelConfig,
    losses: Mapping[str, LossConfig],
    without_loss: Mapping[str, MetricsConfig],
    seed: int,
    spec: Mapping[str, Any],
    data: Data,
    strategy: tf.distribute.Strategy,
    freeze: Sequence[str] = (),
) -> Network:
    """Builds losses, model and metrics; `spec` is of one replica's part of a batch, `freeze` the setting."""
    # Layers without a seed of their own draw one from here, so the same configuration starts from the same variables.
    keras.utils.set_random_seed(seed % 2**32)
    with strategy.scope():
        named = tuple(losses_lib.build(name, loss) for name, loss in losses.items())
        model = trunk_and_heads.build(config, spec["inputs"], data.splits[TRAIN].categories)
        checks.variables(checkpoint.model_state(model), config.name)  # by names that are all different
        freezing.freeze(model, freeze)
        outputs = checks.outputs(model, spec["inputs"], config.name)
        check_heads(losses, without_loss, outputs)
        forward_pass.check_layers(model, named)
        loss_checks.check_shapes(named, outputs, spec["targets"])
        measured = tuple(losses_lib.measured(name, each, named) for name, each in without_loss.items())
        data = checks.classes(named, outputs, data)
        found = _metrics("losses", losses, named, outputs, spec, data)
        of_validation = batch_spec(data.splits[VALIDATION], 1)
        found |= _metrics("metrics", without_loss, measured, outputs, of_validation, data)
    named, data = class_weights.resolved(losses, named, outputs, spec["targets"], data)
    return Network(model, named, measured, found, data)


def _metrics(
    within: str,
    configs: Mapping[str, LossConfig | MetricsConfig],
    losses: Sequence[NamedLoss],
    outputs: Mapping[str, Any],
    spec: Mapping[str, Any],
    data: Data,
) -> dict[str, Mapping[str, LossMetric]]:
    return {
        loss.name: {}
        if loss.head is None
        else metrics.build(
            loss,
            configs[loss.name],
            prediction=loss.prediction(outputs),
            target=spec["targets"][loss.target],
            weights=spec.get("weights", {}).get(loss.target),
            inverse=data.inverses.get(loss.target),
            within=within,
        )
        for loss in losses
    }


def build_evaluator(
    network: Network, segments: SegmentsConfig | None, batch_size: int, seed: int, strategy: tf.distribute.Strategy
) -> Evaluator:
    """Builds what evaluates all splits but that of training; random layers draw from `seed`.

    Raises:
      ConfigError: these splits have no such segments.
    """
    replicas = strategy.num_replicas_in_sync
    evaluated = {name: split for name, split in network.data.splits.items() if name != TRAIN}
    with strategy.scope():
        of_segments = (
            None if segments is None else segments_lib.build(segments.by, evaluated, network.metrics, network.losses)
        )
    return Evaluator(
        strategy=strategy,
        model=network.model,
        losses=network.losses,
        metrics=network.metrics,
        measured=network.measured,
        splits={
            name: EvaluatedSplit(
                functools.partial(_one_pass, split, batch_size), split.evaluation_steps(batch_size, replicas)
            )
            for name, split in evaluated.items()
        },
        largest_batch=splits.largest_evaluation_batch(batch_size, replicas),
        layer_state=LayerState(strategy, names.layer_state_by_name(network.model)),
        seed=seed,
        segments=of_segments,
    )


def _one_pass(split: Split, batch_size: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
    return split.evaluation(batch_size=batch_size, context=context)
