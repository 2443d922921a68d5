"""Losses and metrics of `compile` over batches: those of training, which the step shows, and those of an evaluation."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.components import comparisons
from trainer.components.loss_sums import LossSums
from trainer.components.losses import NamedLoss
from trainer.components.predictions import Predictions
from trainer.distributed import replica_state
from trainer.keras_model.metrics import Metrics
from trainer.keras_model.outputs import Matching
from trainer.keras_model.totals import LossMean, LossTotals
from trainer.models import forward_pass
from trainer.step import backward, parts


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Evaluates batches, and keeps the sums and metrics of training and evaluation alike.

    Attributes:
      strategy: where.
      model: the model.
      matching: which output and target each loss reads.
      losses: the losses of `compile`, then those that layers add.
      loss_weights: their weights.
      totals: their sums.
      compiled_metrics: the metrics; None where there are none.
      seed: of what random layers draw in an evaluation.
    """

    strategy: tf.distribute.Strategy
    model: keras.Model
    matching: Matching
    losses: Sequence[NamedLoss]
    loss_weights: Sequence[float]
    totals: LossTotals
    compiled_metrics: Metrics | None
    seed: int

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Everything that is reported, in Keras' order: the total, compiled metrics, losses."""
        means = [LossMean(self.totals, k, f"{self.losses[k].name}_loss") for k in self._reported]
        compiled = [] if self.compiled_metrics is None else [self.compiled_metrics]
        return [LossMean(self.totals, None, "loss"), *compiled, *means]

    def logs(self) -> dict[str, tf.Tensor]:
        """The results so far, by name, in the order of `metrics`; call it outside replica context."""
        total, means = self.totals.results()
        logs = {"loss": total}
        if self.compiled_metrics is not None:
            logs |= self.compiled_metrics.result()
        logs |= {f"{self.losses[k].name}_loss": means[k] for k in self._reported}
        for metric in self.model.metrics:
            if not isinstance(metric, LossMean | Metrics):  # one that a layer, or the model, updates when it is called
                result = metric.result()
                logs |= result if isinstance(result, Mapping) else {metric.name: result}
        return logs

    @property
    def _reported(self) -> list[int]:
        """Indices of the losses that are reported: a single one of an output is not, as in Keras."""
        single = sum(loss.added_by is None for loss in self.losses) == 1
        return [k for k, loss in enumerate(self.losses) if loss.head is None or not single]

    def batch_of(self, element: Any) -> dict[str, Any]:
        """Returns what Keras feeds as the step takes it."""
        absent = tf.experimental.Optional  # in the place of None
        element = keras.tree.map_structure(lambda each: None if isinstance(each, absent) else each, element)
        return self.matching.batch(*keras.utils.unpack_x_y_sample_weight(element))

    def training_batch_of(self, element: Any) -> dict[str, Any]:
        """Returns what `batch_of` does, and counts the batch where that is needed."""
        if self.totals.needs_batches:
            self.totals.batches.assign_add(1)
        return self.batch_of(element)

    def watch(self, predictions: Predictions, batch: Mapping[str, Any], sums: Sequence[LossSums]) -> None:
        """Adds a replica's part of a batch; call it in replica context."""
        self.totals.add(batch, sums)
        for metrics in () if self.compiled_metrics is None else self.compiled_metrics.of_outputs:
            metrics.update(predictions, batch)

    def add(self, batch: Mapping[str, Any], trained: tf.Tensor) -> None:
        """Evaluates a batch of all replicas.

        Args:
          batch: as `batch_of` gives it.
          trained: number of steps that the model has been trained for, scalar int64.
        """
        self.strategy.run(self._on_replica, args=(batch, trained, self.totals.batches.read_value()))
        self.totals.batches.assign_add(1)

    def _on_replica(self, batch: Mapping[str, Any], trained: tf.Tensor, number: tf.Tensor) -> None:
        replica_state.seed_evaluation(self.model, seed=self.seed, step=trained, batch=number)
        batch = parts.counted(batch, self.model)
        predictions = forward_pass.predict(self.model, self.losses, batch["inputs"], training=False)
        sums = comparisons.sums(self.losses, predictions, batch)
        backward.show(self.watch, predictions, batch, sums, len(self.losses))
