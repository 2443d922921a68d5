"""Means of the losses over an epoch or an evaluation: sums over its batches, divided when they are read."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.components import batch_sizes
from trainer.components.loss_sums import LossSums
from trainer.components.losses import NamedLoss


class LossTotals:
    """Σ w·ℓ of every loss and what it is divided by, over all batches and replicas; make it in the strategy's scope.

    Every example counts once, however batches and replicas divide them.

    Args:
      losses: the K losses.
      loss_weights: their weights in the total.
      regularized: variables with a regularizer, whose value is added to the total.

    Attributes:
      failed: bool variable, whether a step could not be taken: then the total is no number.
      batches: int64 variable, the number of batches, where somebody counts them.
      needs_batches: whether somebody must, as a loss is a mean over batches.
    """

    def __init__(
        self,
        losses: Sequence[NamedLoss],
        loss_weights: Sequence[float],
        regularized: Sequence[keras.Variable],
    ):
        self._losses, self._loss_weights = tuple(losses), tuple(loss_weights)
        self._regularized = tuple(regularized)
        self._over_batches = [*(loss.normalizer == "sum" for loss in losses), False]
        self.needs_batches = any(self._over_batches)
        self._sums = tf.Variable(
            tf.zeros([2, len(losses) + 1], tf.float64),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )
        self.failed = tf.Variable(False, trainable=False)
        self.batches = tf.Variable(0, trainable=False, dtype=tf.int64)

    def add(self, batch: Mapping[str, Any], sums: Sequence[LossSums]) -> None:
        """Adds a replica's part of a batch; call it in replica context."""
        dtype = keras.config.floatx()
        examples = tf.cast(batch_sizes.rows(batch), dtype)
        penalties = [tf.cast(variable.regularizer(variable), dtype) for variable in self._regularized]
        values = [of_loss.loss_sum for of_loss in sums]
        divisors = [self._divisor(*each, examples) for each in zip(self._losses, sums, strict=True)]
        penalty = tf.add_n(penalties) * examples if penalties else tf.zeros([], dtype)
        self._sums.assign_add(tf.cast(tf.stack([[*values, penalty], [*divisors, examples]]), tf.float64))

    def reset(self) -> None:
        """Starts anew."""
        self._sums.assign(tf.zeros_like(self._sums))
        self.failed.assign(False)
        self.batches.assign(0)

    def results(self) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The total and every loss's mean, NaN where no label was there; call it outside replica context."""
        sums, divisors = tf.unstack(tf.convert_to_tensor(self._sums))
        if self.needs_batches:
            divisors = tf.where(self._over_batches, tf.cast(self.batches, tf.float64), divisors)
        means = tf.where(divisors > 0, sums / tf.where(divisors > 0, divisors, 1), 0)
        total = tf.reduce_sum(means * tf.constant([*self._loss_weights, 1.0], tf.float64))
        nan = tf.constant(float("nan"), tf.float64)
        total = tf.where(self.failed, nan, total)
        dtype = keras.config.floatx()
        means = tf.unstack(tf.cast(tf.where(divisors > 0, means, nan), dtype))
        return tf.cast(total, dtype), means[:-1]

    def _divisor(self, loss: NamedLoss, sums: LossSums, examples: tf.Tensor) -> tf.Tensor:
        if loss.normalizer == "sum":
            return tf.zeros_like(examples)
        if loss.normalizer == "weights":
            return sums.weight_sum
        return sums.values_per_example * examples if sums.left is None else sums.left


class LossMean(keras.metrics.Metric):
    """The mean of one loss, or the total, as Keras reads its metrics.

    Args:
      totals: the sums.
      index: of the loss; None: the total.
      name: in logs.
    """

    def __init__(self, totals: LossTotals, index: int | None, name: str):
        super().__init__(name=name)
        self._totals, self._index = totals, index

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the step updates the sums."""

    def reset_state(self) -> None:
        """Resets all sums at once, for the total."""
        if self._index is None:
            self._totals.reset()

    def result(self) -> tf.Tensor:
        """The mean so far."""
        total, means = self._totals.results()
        return total if self._index is None else means[self._index]
