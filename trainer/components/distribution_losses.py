"""Losses of what a target may be, not only of what it is on average: its variance, or its quantiles."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.components.own_loss import OwnLoss, like


@keras.saving.register_keras_serializable("trainer")
class GaussianNLL(OwnLoss):
    """Negative log-likelihood of a normal distribution whose mean and variance a head gives (Nix & Weigend 1994).

    For a target of d numbers the head gives 2 d: d means μ, then d logarithms s. With σ² = min_variance + exp(s) the
    value is the mean over the d numbers of

        (log 2π + log σ² + (y - μ)² / σ²) / 2

    It is negative where the density is above 1. Metrics compare the target with the means.
    https://doi.org/10.1109/ICNN.1994.374138

    Args:
      min_variance: keeps the loss finite where the head is sure and right; above 0.
      name, reduction, dtype: as of every Keras loss.
    """

    numbers_per_value = 2
    changes_metrics = True

    def __init__(
        self,
        min_variance: float = 1e-6,
        name: str = "gaussian_nll",
        reduction: str = "sum_over_batch_size",
        dtype: Any = None,
    ):
        self.min_variance = schema.number(positive=True)(min_variance, "min_variance")
        super().__init__(name, reduction, dtype, min_variance=self.min_variance)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """One value per example."""
        mean, log_variance = tf.split(y_pred, 2, axis=-1)
        log_variance = self._floored(log_variance)
        errors = tf.square(like(y_true, mean) - mean) * tf.exp(-log_variance)
        return tf.reduce_mean(math.log(2 * math.pi) + log_variance + errors, axis=-1) / 2

    def metric_prediction(self, y_pred: tf.Tensor) -> tf.Tensor:
        """The means."""
        return tf.split(y_pred, 2, axis=-1)[0]

    def deviation(self, y_pred: tf.Tensor) -> tf.Tensor:
        """The standard deviations σ."""
        return tf.exp(self._floored(tf.split(y_pred, 2, axis=-1)[1]) / 2)

    def _floored(self, log_variance: tf.Tensor) -> tf.Tensor:
        """log σ² of what the head gives for it, s."""
        least = math.log(self.min_variance)
        return least + tf.nn.softplus(log_variance - least)


@keras.saving.register_keras_serializable("trainer")
class Quantile(OwnLoss):
    """Pinball loss, which is least where the head gives quantiles of the target (Koenker & Bassett 1978).

    For a target of d numbers and Q quantiles the head gives Q d: d numbers for the first quantile, d for the next. The
    value is the mean over all of them of

        max(τ (y - q), (τ - 1) (y - q))

    Metrics compare the target with the quantile that is nearest to the median. https://doi.org/10.2307/1913643

    Args:
      quantiles: τ, above 0 and below 1, or a list of such.
      name, reduction, dtype: as of every Keras loss.
    """

    changes_metrics = True

    def __init__(
        self,
        quantiles: float | Sequence[float] = 0.5,
        name: str = "quantile",
        reduction: str = "sum_over_batch_size",
        dtype: Any = None,
    ):
        given = list(quantiles) if isinstance(quantiles, list | tuple) else [quantiles]
        if not given or not all(_is_inside(each) for each in given):
            raise ConfigError("quantiles", quantiles, "must be a number above 0 and below 1, or a list of such")
        self.quantiles = tuple(map(float, given))
        self.numbers_per_value = len(self.quantiles)
        super().__init__(name, reduction, dtype, quantiles=list(self.quantiles))

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """One value per example."""
        values = []
        for quantile, found in zip(self.quantiles, self._apart(y_pred), strict=True):
            errors = like(y_true, found) - found
            values.append(tf.reduce_mean(tf.maximum(quantile * errors, (quantile - 1) * errors), axis=-1))
        return tf.add_n(values) / len(values)

    def metric_prediction(self, y_pred: tf.Tensor) -> tf.Tensor:
        """The quantile nearest to the median."""
        distances = [abs(quantile - 0.5) for quantile in self.quantiles]
        return self._apart(y_pred)[distances.index(min(distances))]

    def _apart(self, y_pred: tf.Tensor) -> list[tf.Tensor]:
        return tf.split(y_pred, len(self.quantiles), axis=-1)


def _is_inside(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1
