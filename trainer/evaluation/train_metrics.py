"""The losses' metrics on the batches of training, over the steps since the last report."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.components import comparisons
from trainer.components.loss_sums import LossSums
from trainer.components.losses import NamedLoss
from trainer.components.predictions import Predictions
from trainer.distributed.replica_state import LayerState
from trainer.evaluation.segments import Metrics, copied

_HOST = "CPU:0"


class TrainMetrics:
    """Metrics to which every training step adds, on every replica its part, and which every report reads and clears.

    A step's predictions are those from which its losses are computed: of the variables before the step, with dropout
    and the batch's own statistics.

    Args:
      strategy: built the model.
      losses: its losses.
      metrics: loss name → metric name → metric; copies of them are taken.
    """

    def __init__(self, strategy: tf.distribute.Strategy, losses: Sequence[NamedLoss], metrics: Metrics):
        self._losses = [loss for loss in losses if metrics[loss.name]]
        with strategy.scope():
            self._metrics = copied({loss.name: metrics[loss.name] for loss in self._losses})
            self._labels = {loss.name: keras.metrics.Sum(dtype="float64") for loss in self._losses}
        named = {f"labels/{loss}": count for loss, count in self._labels.items()}
        for loss, own in self._metrics.items():
            named |= {f"{loss}/{name}": metric.metric for name, metric in own.items()}
        self._all = tuple(named.values())
        variables = {f"{name}/{n}": each for name, metric in named.items() for n, each in enumerate(metric.variables)}
        self._state = LayerState(strategy, variables)
        self._replicas = strategy.num_replicas_in_sync

    def add(self, predictions: Predictions, batch: Mapping[str, Any], sums: Sequence[LossSums]) -> None:
        """Adds a replica's part of a micro-batch, as `Objectives.watch` has it."""
        del sums
        for loss in self._losses:
            target, prediction = batch["targets"][loss.target], loss.prediction(predictions.outputs)
            weights = comparisons.label_weights(loss, predictions, batch)
            count = tf.size(target) if weights is None else tf.math.count_nonzero(weights)
            self._labels[loss.name].update_state(tf.cast(count, tf.float64))
            for metric in self._metrics[loss.name].values():
                metric.update(target, prediction, weights)

    def report(self) -> dict[str, float | None]:
        """`<loss>/<metric>` since the last report, None where no label was there; clears them. All workers call it."""
        counts = {name: float(count.result()) for name, count in self._labels.items()}
        found = {
            f"{loss}/{name}": metric.result() if counts[loss] > 0 else None
            for loss, own in self._metrics.items()
            for name, metric in own.items()
        }
        self.clear()
        return found

    def clear(self) -> None:
        """Forgets all batches."""
        for metric in self._all:
            metric.reset_state()

    def of_replicas(self) -> dict[str, tf.Variable]:
        """Name → the values of all replicas, (replicas, ...), for a checkpoint; all workers call it."""
        with tf.device(_HOST):
            return {name: tf.Variable(values) for name, values in self._state.of_replicas().items()}

    def restored(self, saved: Mapping[str, np.ndarray]) -> dict[str, tf.Variable]:
        """As `of_replicas`, with the values of a checkpoint; those of another number of replicas are added up."""
        with tf.device(_HOST):
            return {name: tf.Variable(self._spread(values)) for name, values in saved.items()}

    def assign(self, values: Mapping[str, tf.Variable]) -> None:
        """Gives every replica its own of such values."""
        self._state.assign({name: tf.convert_to_tensor(variable) for name, variable in values.items()})

    def _spread(self, values: np.ndarray) -> np.ndarray:
        if len(values) == self._replicas:
            return values
        spread = np.zeros((self._replicas, *values.shape[1:]), values.dtype)
        spread[0] = values.sum(axis=0)
        return spread
