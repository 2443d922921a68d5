"""Evaluation: every loss and every metric over a whole split, every example once."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from input_pipelines.configuration import VALIDATION
from trainer.components import comparisons, labels, reading, scalars
from trainer.components.losses import NamedLoss
from trainer.components.predictions import Predictions
from trainer.distributed import replica_state
from trainer.distributed.replica_state import LayerState
from trainer.evaluation.segments import Metrics, Segments
from trainer.models import forward_pass

__all__ = ["Evaluate", "EvaluatedSplit", "Evaluator", "Metrics"]

Evaluate = Callable[..., dict[str, float | None]]  # of the number of steps trained for and a split, as `build` has it


class EvaluatedSplit(NamedTuple):
    """A split to evaluate.

    Attributes:
      batches: one pass over it for the replicas of a `tf.distribute.InputContext`.
      steps: number of steps of that pass.
    """

    batches: Callable[[tf.distribute.InputContext], tf.data.Dataset]
    steps: int


class _Sums(NamedTuple):
    """(K,) each: Σ w·ℓ, Σ w, the number of values, and of those that have a label (of what is measured, too).

    Then those of segments, or nothing where there are none.
    """

    loss_sums: tf.Tensor
    weight_sums: tf.Tensor
    counts: tf.Tensor
    labels: tf.Tensor
    of_segments: tuple[tf.Tensor, ...]


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Evaluates a model on splits.

    Attributes:
      strategy: built the model and the metrics.
      model: the model.
      losses: its K losses.
      metrics: loss name → metric name → metric; of `measured`, too.
      measured: heads and targets that have metrics without a loss, as losses without a function.
      splits: split → its examples.
      largest_batch: the most examples that a step has, over all replicas.
      layer_state: what the model's layers change by themselves.
      seed: of what random layers draw.
      segments: groups of examples for which everything is found by itself, too; None: there are none.
    """

    strategy: tf.distribute.Strategy
    model: keras.Model
    losses: Sequence[NamedLoss]
    metrics: Metrics
    measured: Sequence[NamedLoss]
    splits: Mapping[str, EvaluatedSplit]
    largest_batch: int
    layer_state: LayerState
    seed: int = 0
    segments: Segments | None = None

    def only(self, split: str) -> "Evaluator":
        """An evaluator of one of these splits alone."""
        return dataclasses.replace(self, splits={split: self.splits[split]})

    def build(self) -> Evaluate:
        """A function that evaluates a split with the average of what replicas keep for themselves, and changes nothing.

        Returns:
          A function of the number of steps that the model has been trained for, from which random layers draw, and of
          the split. It gives `loss/<loss>` and `<loss>/<metric>`, None where no label is there; `labels/<loss>`, the
          number of labels. Metrics without a loss are reported as those of a loss. With segments there are also those
          of each and the worst, as `Segments.results` has them.
        """
        data = {
            name: self.strategy.distribute_datasets_from_function(split.batches) for name, split in self.splits.items()
        }

        @tf.function(autograph=False)
        def one_pass(iterator: Any, steps: tf.Tensor, trained: tf.Tensor) -> _Sums:
            def body(step: tf.Tensor, totals: _Sums) -> tuple[tf.Tensor, _Sums]:
                sums = self.strategy.run(self._add, args=(next(iterator), trained, step))
                summed = tf.nest.map_structure(self._summed, sums)
                return step + 1, tf.nest.map_structure(tf.add, totals, summed)

            return tf.while_loop(lambda step, _: step < steps, body, (0, self._zeros()))[1]

        def arguments(split: str, trained: int) -> tuple[Any, tf.Tensor, tf.Tensor]:
            return iter(data[split]), tf.constant(self.splits[split].steps), scalars.int64(trained)

        for split in self.splits:  # whatever cannot be traced fails here, not in the first evaluation
            one_pass.get_concrete_function(*arguments(split, 0))

        def evaluate(trained: int = 0, split: str = VALIDATION) -> dict[str, float | None]:
            self._reset()
            with self.layer_state.averaged():
                totals = one_pass(*arguments(split, trained))
            return self._results(tf.nest.map_structure(lambda column: column.numpy(), totals), split)

        return evaluate

    def directions(self, splits: Sequence[str] = ()) -> dict[str, str | None]:
        """Name → "up" or "down", the direction of better values, None where it is not known; of losses and metrics.

        Args:
          splits: whose values are named `<split>/<name>`, beside those of `validation`.
        """
        found: dict[str, str | None] = {f"loss/{loss.name}": "down" for loss in self.losses}
        for loss, metrics in self.metrics.items():
            found |= {f"{loss}/{name}": metric.direction for name, metric in metrics.items()}
        others = {
            f"{split}/{name}": direction
            for split in splits
            for name, direction in (found | self._directions_of_segments(split)).items()
        }
        return found | self._directions_of_segments(VALIDATION) | others

    def _directions_of_segments(self, split: str) -> dict[str, str]:
        return {} if self.segments is None else self.segments.directions(self._read, split)

    def _add(self, batch: Mapping[str, Any], trained: tf.Tensor, number: tf.Tensor) -> _Sums:
        """Adds a replica's part of a batch to the metrics, and returns its sums."""
        replica_state.seed_evaluation(self.model, seed=self.seed, step=trained, batch=number)
        predictions = forward_pass.predict(self.model, self.losses, batch["inputs"], training=False)
        found = comparisons.evaluated(self.losses, predictions, batch, self.largest_batch)
        weights = {loss.name: of_loss.labels for loss, of_loss in zip(self.losses, found, strict=True)}
        weights |= {read.name: self._weights(read, predictions, batch) for read in self.measured}
        for read in self._read:
            if self.metrics[read.name]:
                target, prediction = batch["targets"][read.target], read.prediction(predictions.outputs)
            for metric in self.metrics[read.name].values():
                metric.update(target, prediction, weights[read.name])
        counts = [_count(batch["targets"][read.target], weights[read.name]) for read in self.measured]
        of_segments = ()
        if self.segments is not None:
            values = {loss.name: of_loss.values for loss, of_loss in zip(self.losses, found, strict=True)}
            of_segments = (self.segments.add(self._read, predictions, batch, weights, values),)
        return _Sums(
            tf.stack([of_loss.sums.loss_sum for of_loss in found]),
            tf.stack([of_loss.sums.weight_sum for of_loss in found]),
            tf.stack([of_loss.count for of_loss in found]),
            tf.stack([of_loss.label_count for of_loss in found] + counts),
            of_segments,
        )

    @property
    def _read(self) -> tuple[NamedLoss, ...]:
        """The losses, and what has metrics without one."""
        return (*self.losses, *self.measured)

    def _weights(self, read: NamedLoss, predictions: Predictions, batch: Mapping[str, Any]) -> tf.Tensor | None:
        """The weight of every label of metrics without a loss; None: all 1."""
        return labels.product((reading.weight(read.paths, batch), read.mask(predictions)), keras.config.floatx())

    def _summed(self, value: Any) -> tf.Tensor:
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)

    def _zeros(self) -> _Sums:
        zeros, count = tf.zeros([len(self.losses)], keras.config.floatx()), len(self._read)
        of_segments = () if self.segments is None else (self.segments.zeros(count),)
        return _Sums(zeros, zeros, zeros, tf.zeros([count], tf.int64), of_segments)

    def _reset(self) -> None:
        for metrics in self.metrics.values():
            for metric in metrics.values():
                metric.metric.reset_state()
        if self.segments is not None:
            self.segments.reset()

    def _results(self, totals: _Sums, split: str) -> dict[str, float | None]:
        results: dict[str, float | None] = {}
        for k, loss in enumerate(self.losses):
            denominator = totals.weight_sums[k] if loss.normalizer == "weights" else totals.counts[k]
            mean = float(totals.loss_sums[k] / denominator) if totals.weight_sums[k] > 0 else None
            results[f"loss/{loss.name}"] = mean
        for k, read in enumerate(self._read):
            for name, metric in self.metrics[read.name].items():
                results[f"{read.name}/{name}"] = metric.result() if totals.labels[k] > 0 else None
        results |= {f"labels/{read.name}": int(totals.labels[k]) for k, read in enumerate(self._read)}
        if self.segments is not None:
            results |= self.segments.results(self._read, split, *totals.of_segments)
        return results


def _count(target: tf.Tensor, weights: tf.Tensor | None) -> tf.Tensor:
    """The number of labels, scalar int64."""
    return tf.shape(target, tf.int64)[0] if weights is None else tf.math.count_nonzero(weights)
