"""Losses that compare examples with one another: noticed before the first step, refused where a batch is cut."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines.configuration import TRAIN
from input_pipelines.feed.splits import Split
from trainer.common import import_paths
from trainer.common.errors import ConfigError
from trainer.components import labels, reading
from trainer.components.loss_functions import PREDICTION, TARGET
from trainer.components.losses import NamedLoss
from trainer.config.loss_settings import GLOBAL_BATCH, REPLICA
from trainer.config.paths import TARGETS
from trainer.config.settings import Config
from trainer.models import forward_pass
from trainer.run.network import Network

_SOME_EXAMPLES, _LOOKED_AT = 32, 128  # that many with a label, among at least that many
# Relative to the largest value. The same numbers in smaller tensors may be rounded otherwise, by far less than this.
_SAME = 1e-4


def check(config: Config, network: Network, replicas: int) -> list[str]:
    """A line for every loss whose values depend on other examples of the batch, while its `over` says nothing of that.

    Args:
      config: the resolved configuration.
      network: the untrained model, its losses (functions of Keras' are known to compare examples or not to) and the
        data. Some examples of the first steps are tried; the first of the split would often be of a single class.
      replicas: number of devices.

    Raises:
      ConfigError: such a loss on several devices or with micro-batches, where it would be another loss than on one.
    """
    micro_batches, lines = config.micro_batches, []
    for loss in network.losses:
        if not loss.may_compare or loss.over is not None or loss.takes_derivative:
            continue
        if not _is_noticed(loss, network, config.batch_size // micro_batches, config.seed):
            continue
        what = f"{loss.function_name}'s value for an example depends on the other examples of its batch"
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


def compares(loss: NamedLoss, given: Mapping[str, tf.Tensor]) -> bool:
    """True where a loss gives examples other values in two halves than together.

    False where that cannot be told: there are fewer than two examples, the function fails on them, or it gives other
    values when it is called again.

    Args:
      loss: the loss.
      given: what its function is given, by argument (`NamedLoss.arguments`).
    """
    half = int(next(iter(given.values())).shape[0]) // 2
    if half == 0:
        return False

    def values(part: slice) -> np.ndarray:
        parts = {name: each[part] for name, each in given.items()}
        by_place = (parts[TARGET], parts[PREDICTION]) if loss.compares_a_pair else ()
        return np.asarray(loss.function(*by_place, **({} if by_place else parts)), np.float64)

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


def _is_noticed(loss: NamedLoss, network: Network, batch_size: int, seed: int) -> bool:
    """True where a loss compares examples; False also where what it reads cannot be computed, which a run names."""
    try:
        examples = _labelled_examples(network.data.splits[TRAIN], loss, batch_size, seed)
        predictions = forward_pass.predict(network.model, [loss], examples["inputs"], training=False)
    except import_paths.USER_ERRORS:
        return False
    return compares(loss, loss.arguments(predictions, examples))


def _labelled_examples(train: Split, loss: NamedLoss, batch_size: int, seed: int) -> dict[str, Any]:
    """`inputs` and `targets` of the first examples of a run that have a label for a loss."""
    batches = train.training(batch_size=batch_size, seed=seed, first_step=0, ends=[0, batch_size])
    found, count = [], 0
    for batch in batches.take(-(-_LOOKED_AT // batch_size)):
        targets = {name: batch["targets"][name] for name in loss.names(TARGETS)}
        examples = {"inputs": batch["inputs"], "targets": targets}
        if weights := reading.weights_of(loss.paths, batch):
            there = tf.reduce_all([labels.of_examples(each) for each in weights], axis=0)
            examples = tf.nest.map_structure(lambda values, there=there: tf.boolean_mask(values, there), examples)
        found.append(examples)
        count += int(tf.nest.flatten(examples)[0].shape[0])
        if count >= _SOME_EXAMPLES:
            break
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, 0)[:_SOME_EXAMPLES], *found)
