"""Evaluation: every loss and every metric over a whole split, every example once."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from trainer.components import comparisons
from trainer.components import losses as losses_lib
from trainer.components import metrics as metrics_lib
from trainer.components.losses import NamedLoss
from trainer.distributed import replica_state

Metrics = Mapping[str, Mapping[str, keras.metrics.Metric]]


class _Sums(NamedTuple):
    """(K,) each: Σ w·ℓ, Σ w and the number of values."""

    loss_sums: tf.Tensor
    weight_sums: tf.Tensor
    counts: tf.Tensor


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Evaluates a model on a split.

    Attributes:
      strategy: built the model and the metrics.
      model: the model.
      losses: its K losses.
      metrics: loss name → metric name → metric.
      batches: one pass over the split for the replicas of a `tf.distribute.InputContext`.
      steps: number of steps of that pass.
      largest_batch: the most examples that a step has, over all replicas.
    """

    strategy: tf.distribute.Strategy
    model: keras.Model
    losses: Sequence[NamedLoss]
    metrics: Metrics
    batches: Callable[[tf.distribute.InputContext], tf.data.Dataset]
    steps: int
    largest_batch: int

    def build(self) -> Callable[[], dict[str, float | None]]:
        """A function that evaluates and returns `loss/<loss>` and `<loss>/<metric>`; None where no label is there."""
        data = self.strategy.distribute_datasets_from_function(self.batches)
        average_statistics = replica_state.build_statistics_average(self.strategy, self.model)

        def on_replica(batch: Mapping[str, Any]) -> _Sums:
            outputs = losses_lib.full_precision(self.model(batch["inputs"], training=False))
            sums = comparisons.sums(self.losses, outputs, batch, batch_size=self.largest_batch, partial=True)
            for loss in self.losses:
                weights = batch.get("weights", {}).get(loss.target)
                for metric in self.metrics[loss.name].values():
                    metrics_lib.update(metric, batch["targets"][loss.target], loss.prediction(outputs), weights)
            examples = tf.shape(tf.nest.flatten(batch["inputs"])[0])[0]
            loss_sums, weight_sums, values_per_example = (tf.stack(column) for column in zip(*sums, strict=True))
            return _Sums(loss_sums, weight_sums, values_per_example * tf.cast(examples, values_per_example.dtype))

        @tf.function(autograph=False)
        def one_pass(iterator: Any) -> _Sums:
            def body(step: tf.Tensor, totals: _Sums) -> tuple[tf.Tensor, _Sums]:
                sums = self.strategy.run(on_replica, args=(next(iterator),))
                summed = (self.strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None) for value in sums)
                return step + 1, _Sums(*(total + value for total, value in zip(totals, summed, strict=True)))

            zeros = _Sums(*[tf.zeros([len(self.losses)], keras.config.floatx())] * 3)
            return tf.while_loop(lambda step, _: step < self.steps, body, (0, zeros))[1]

        one_pass.get_concrete_function(iter(data))  # whatever cannot be traced fails here, not in the first evaluation

        def evaluate() -> dict[str, float | None]:
            average_statistics()
            for metrics in self.metrics.values():
                for metric in metrics.values():
                    metric.reset_state()
            totals = one_pass(iter(data))
            return self._results(_Sums(*(column.numpy() for column in totals)))

        return evaluate

    def _results(self, totals: _Sums) -> dict[str, float | None]:
        results: dict[str, float | None] = {}
        for k, loss in enumerate(self.losses):
            denominator = totals.weight_sums[k] if loss.normalizer == "weights" else totals.counts[k]
            mean = float(totals.loss_sums[k] / denominator) if totals.weight_sums[k] > 0 else None
            results[f"loss/{loss.name}"] = mean
        for k, loss in enumerate(self.losses):
            for name, metric in self.metrics[loss.name].items():
                results[f"{loss.name}/{name}"] = metrics_lib.result(metric) if totals.weight_sums[k] > 0 else None
        return results
