"""Losses that compare examples with one another: noticed before the first step, refused where a batch is cut."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines.configuration import TRAIN
from input_pipelines.feed.splits import Split
from trainer.common import import_paths
from trainer.common.errors import ConfigError
from trainer.components import losses as losses_lib
from trainer.components.losses import NamedLoss
from trainer.config.settings import GLOBAL_BATCH, REPLICA, Config
from trainer.run.network import Network

_SOME_EXAMPLES = 32
# Relative to the largest value. The same numbers in smaller tensors may be rounded otherwise, by far less than this.
_SAME = 1e-4


def check(config: Config, network: Network, replicas: int) -> list[str]:
    """A line for every loss whose values depend on other examples of the batch, while its `over` says nothing of that.

    Args:
      config: the resolved configuration.
      network: the untrained model, its losses (functions of Keras' are known to compare examples or not to) and the
        data. Some examples of the first batch are tried; the first of the split would often be of a single class.
      replicas: number of devices.

    Raises:
      ConfigError: such a loss on several devices or with micro-batches, where it would be another loss than on one.
    """
    micro_batches = config.micro_batches
    asked = [loss for loss in network.losses if loss.may_compare and loss.over is None]
    if not asked:
        return []
    try:
        batch = _first_batch(network.data.splits[TRAIN], config.batch_size // micro_batches, config.seed)
        outputs = losses_lib.full_precision(network.model(batch["inputs"], training=False))
    except import_paths.USER_ERRORS:  # what cannot be read or computed is named where the run needs it
        return []
    lines = []
    for loss in asked:
        if not compares(loss, outputs, batch):
            continue
        what = f"{loss.function_name} gives an example another value where other examples of the batch are there"
        field = f"losses.{loss.name}.over"
        if micro_batches > 1:
            choice = f"leave micro_batches at 1, or set {REPLICA!r} to compare those of each part of a batch"
            raise ConfigError(field, None, f"{what}, and micro_batches cuts the batch in {micro_batches}: {choice}")
        if replicas > 1:
            choice = f"set {GLOBAL_BATCH!r} to compare all examples of a step, or {REPLICA!r} those of each device"
            raise ConfigError(field, None, f"{what}, and {replicas} devices share the batch: {choice}")
        lines.append(
            f"{field}: {what}; it is another loss on several devices, which are refused unless {field} is set to "
            f"{GLOBAL_BATCH!r} (it compares all labelled examples of a step on any number of devices) or {REPLICA!r} "
            "(those of each device); without it examples that lack a label are compared, too"
        )
    return lines


def compares(loss: NamedLoss, outputs: Mapping[str, Any], batch: Mapping[str, Any]) -> bool:
    """True where a loss gives labelled examples other values in two halves than together.

    False where that cannot be told: fewer than two examples have a label, the function fails on them, or it gives other
    values when it is called again.

    Args:
      loss: the loss.
      outputs: head name → predictions.
      batch: `targets` and perhaps `weights`.
    """
    prediction, target = loss.prediction(outputs), batch["targets"][loss.target]
    weights = batch.get("weights", {}).get(loss.target)
    if weights is not None:
        there = np.any(np.asarray(weights) != 0, axis=tuple(range(1, len(weights.shape))))
        prediction, target = tf.boolean_mask(prediction, there), tf.boolean_mask(target, there)
    half = int(prediction.shape[0]) // 2
    if half == 0:
        return False

    def values(part: slice) -> np.ndarray:
        return np.asarray(loss.function(target[part], prediction[part]), np.float64)

    try:
        together, again = values(slice(None)), values(slice(None))
        apart = np.concatenate([values(slice(half)), values(slice(half, None))])
    except import_paths.USER_ERRORS:
        return False
    if not np.array_equal(together, again, equal_nan=True) or together.shape != apart.shape:
        return False
    finite = np.isfinite(together) & np.isfinite(apart)
    if not np.array_equal(np.isfinite(together), np.isfinite(apart)):
        return True
    largest = np.max(np.abs([together[finite], apart[finite]]), initial=0)
    return bool(np.any(np.abs(together[finite] - apart[finite]) > _SAME * largest))


def _first_batch(train: Split, batch_size: int, seed: int) -> Mapping[str, Any]:
    """The first examples of the first batch of a run."""
    batches = train.training(batch_size=batch_size, seed=seed, first_step=0, ends=[0, batch_size])
    return tf.nest.map_structure(lambda values: values[:_SOME_EXAMPLES], next(iter(batches)))
