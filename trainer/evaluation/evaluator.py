"""Evaluation: every loss and every metric over a whole split, every example once."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from trainer.components import comparisons, labels, reading, scalars
from trainer.components.losses import NamedLoss
from trainer.components.metrics import LossMetric
from trainer.components.predictions import Predictions
from trainer.distributed import replica_state
from trainer.distributed.replica_state import LayerState
from trainer.models import forward_pass

Metrics = Mapping[str, Mapping[str, LossMetric]]


class _Sums(NamedTuple):
    """(K,) each: Σ w·ℓ, Σ w, the number of values, and of those that have a label (of what is measured, too)."""

    loss_sums: tf.Tensor
    weight_sums: tf.Tensor
    counts: tf.Tensor
    labels: tf.Tensor


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Evaluates a model on a split.

    Attributes:
      strategy: built the model and the metrics.
      model: the model.
      losses: its K losses.
      metrics: loss name → metric name → metric; of `measured`, too.
      measured: heads and targets that have metrics without a loss, as losses without a function.
      batches: one pass over the split for the replicas of a `tf.distribute.InputContext`.
      steps: number of steps of that pass.
      largest_batch: the most examples that a step has, over all replicas.
      layer_state: what the model's layers change by themselves.
      seed: of what random layers draw.
    """

    strategy: tf.distribute.Strategy
    model: keras.Model
    losses: Sequence[NamedLoss]
    metrics: Metrics
    measured: Sequence[NamedLoss]
    batches: Callable[[tf.distribute.InputContext], tf.data.Dataset]
    steps: int
    largest_batch: int
    layer_state: LayerState
    seed: int = 0

    def build(self) -> Callable[..., dict[str, float | None]]:
        """A function that evaluates a split with the average of what replicas keep for themselves, and changes nothing.

        Returns:
          A function of the number of steps that the model has been trained for, from which random layers draw. It gives
          `loss/<loss>` and `<loss>/<metric>`, None where no label is there; `labels/<loss>`, the number of labels.
          Metrics without a loss are reported as those of a loss.
        """
        data = self.strategy.distribute_datasets_from_function(self.batches)

        def on_replica(batch: Mapping[str, Any], trained: tf.Tensor, number: tf.Tensor) -> _Sums:
            replica_state.seed_evaluation(self.model, seed=self.seed, step=trained, batch=number)
            predictions = forward_pass.predict(self.model, self.losses, batch["inputs"], training=False)
            found = comparisons.evaluated(self.losses, predictions, batch, self.largest_batch)
            for loss, of_loss in zip(self.losses, found, strict=True):
                if self.metrics[loss.name]:
                    target, prediction = batch["targets"][loss.target], loss.prediction(predictions.outputs)
                for metric in self.metrics[loss.name].values():
                    metric.update(target, prediction, of_loss.labels)
            counts = [self._measure(each, predictions, batch) for each in self.measured]
            return _Sums(
                tf.stack([of_loss.sums.loss_sum for of_loss in found]),
                tf.stack([of_loss.sums.weight_sum for of_loss in found]),
                tf.stack([of_loss.count for of_loss in found]),
                tf.stack([of_loss.label_count for of_loss in found] + counts),
            )

        @tf.function(autograph=False)
        def one_pass(iterator: Any, trained: tf.Tensor) -> _Sums:
            def body(step: tf.Tensor, totals: _Sums) -> tuple[tf.Tensor, _Sums]:
                sums = self.strategy.run(on_replica, args=(next(iterator), trained, step))
                summed = (self.strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None) for value in sums)
                return step + 1, _Sums(*(total + value for total, value in zip(totals, summed, strict=True)))

            zeros = tf.zeros([len(self.losses)], keras.config.floatx())
            zeros = _Sums(zeros, zeros, zeros, tf.zeros([len(self.losses) + len(self.measured)], tf.int64))
            return tf.while_loop(lambda step, _: step < self.steps, body, (0, zeros))[1]

        # Whatever cannot be traced fails here, not in the first evaluation.
        one_pass.get_concrete_function(iter(data), scalars.int64(0))

        def evaluate(trained: int = 0) -> dict[str, float | None]:
            for metrics in self.metrics.values():
                for metric in metrics.values():
                    metric.metric.reset_state()
            with self.layer_state.averaged():
                totals = one_pass(iter(data), scalars.int64(trained))
            return self._results(_Sums(*(column.numpy() for column in totals)))

        return evaluate

    def _results(self, totals: _Sums) -> dict[str, float | None]:
        results: dict[str, float | None] = {}
        for k, loss in enumerate(self.losses):
            denominator = totals.weight_sums[k] if loss.normalizer == "weights" else totals.counts[k]
            mean = float(totals.loss_sums[k] / denominator) if totals.weight_sums[k] > 0 else None
            results[f"loss/{loss.name}"] = mean
        for k, loss in enumerate((*self.losses, *self.measured)):
            for name, metric in self.metrics[loss.name].items():
                results[f"{loss.name}/{name}"] = metric.result() if totals.labels[k] > 0 else None
        counted = enumerate((*self.losses, *self.measured))
        return results | {f"labels/{each.name}": int(totals.labels[k]) for k, each in counted}

    def _measure(self, read: NamedLoss, predictions: Predictions, batch: Mapping[str, Any]) -> tf.Tensor:
        """Updates metrics without a loss; returns the number of labels, scalar int64."""
        target, prediction = batch["targets"][read.target], read.prediction(predictions.outputs)
        weights = labels.product((reading.weight(read.paths, batch), read.mask(predictions)), keras.config.floatx())
        for metric in self.metrics[read.name].values():
            metric.update(target, prediction, weights)
        return tf.shape(target, tf.int64)[0] if weights is None else tf.math.count_nonzero(weights)
