"""Operations whose results are real numbers: scaled, clipped, filled, standardised."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines.configuration import MEAN, filling
from input_pipelines.preparation.values import Learned, Shape, as_float64, real
from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.common.schema import setting


@dataclasses.dataclass(frozen=True)
class Scale:
    """`by` · value + `offset`; by default the 0 to 255 of an image become 0 to 1."""

    by: float = setting(schema.real, 1 / 255)
    offset: float = setting(schema.real, 0.0)

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        values = real(values)
        return values * tf.constant(self.by, values.dtype) + tf.constant(self.offset, values.dtype)

    def inverse(self, values: tf.Tensor, learned: Learned, shape: Shape) -> tf.Tensor:
        """(value - `offset`) / `by`."""
        values = real(values)
        return (values - tf.constant(self.offset, values.dtype)) / tf.constant(self.by, values.dtype)


@dataclasses.dataclass(frozen=True)
class Log:
    """log(1 + value), for numbers of at least 0 over many magnitudes."""

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        return tf.math.log1p(real(values))

    def inverse(self, values: tf.Tensor, learned: Learned, shape: Shape) -> tf.Tensor:
        """exp(value) - 1."""
        return tf.math.expm1(real(values))


@dataclasses.dataclass(frozen=True)
class Clip:
    """No smaller than `low` and no larger than `high`."""

    low: float = setting(schema.real)
    high: float = setting(schema.real)

    def check(self, field: str) -> None:
        """Raises ConfigError where nothing lies between."""
        if self.low > self.high:
            raise ConfigError(f"{field}.low", self.low, f"must be at most 'high', {self.high}")

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        return tf.clip_by_value(real(values), self.low, self.high)


@dataclasses.dataclass(frozen=True)
class Fill:
    """`value` in place of NaN; `"mean"`: the mean in the training split, per column as for `standardise`."""

    value: float | str = setting(filling, 0.0)

    def collect(self, so_far: Any, values: np.ndarray, present: np.ndarray) -> Any:
        """Gathers what the mean needs."""
        return _moments(so_far, values, present) if self.value == MEAN else None

    def learned(self, collected: Any) -> Learned:
        """`mean`, where it is the value; 0 of a column without a number."""
        return {"mean": np.asarray(collected[1]).tolist()} if self.value == MEAN else {}

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        values = real(values)
        return tf.where(tf.math.is_nan(values), tf.constant(learned.get("mean", self.value), values.dtype), values)

    def inverse(self, values: tf.Tensor, learned: Learned, shape: Shape) -> tf.Tensor:
        """The values: a label that is there is none that was filled in."""
        return values


@dataclasses.dataclass(frozen=True)
class Standardise:
    """Mean 0 and standard deviation 1 in the training split, per column; per channel where there are rows and columns.

    What does not vary in training becomes 0.
    """

    def collect(self, so_far: Any, values: np.ndarray, present: np.ndarray) -> Any:
        """Count, mean and sum of squared differences."""
        return _moments(so_far, values, present)

    def learned(self, collected: Any) -> Learned:
        """`mean` and `deviation`."""
        count, mean, squares = collected
        deviation = np.sqrt(squares / np.maximum(count, 1))
        # Rounding leaves a trace of deviation where all values are equal.
        deviation = np.where(deviation > 1e-12 * np.abs(mean), deviation, 0.0)
        return {"mean": np.asarray(mean).tolist(), "deviation": np.asarray(deviation).tolist()}

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        values = real(values)
        deviation = np.asarray(learned["deviation"])
        factor = np.where(deviation > 0, 1 / np.where(deviation > 0, deviation, 1), 0.0)
        return (values - tf.constant(learned["mean"], values.dtype)) * tf.constant(factor, values.dtype)

    def inverse(self, values: tf.Tensor, learned: Learned, shape: Shape) -> tf.Tensor:
        """value · deviation + mean; the mean where nothing varied."""
        values = real(values)
        return values * tf.constant(learned["deviation"], values.dtype) + tf.constant(learned["mean"], values.dtype)


def _moments(so_far: Any, values: np.ndarray, present: np.ndarray) -> Any:
    """Count, mean and sum of squared differences per column, merged chunk by chunk (Chan et al. 1983)."""
    axes = tuple(range(values.ndim - 1)) if values.ndim > 2 else (0,)
    numbers = as_float64(values)
    present = np.broadcast_to(present & np.isfinite(numbers), numbers.shape)
    count = present.sum(axis=axes)
    divisor = np.maximum(count, 1)
    mean = np.where(present, numbers, 0).sum(axis=axes) / divisor
    squares = np.where(present, np.square(numbers - mean), 0).sum(axis=axes)
    if so_far is None:
        return count, mean, squares
    count_before, mean_before, squares_before = so_far
    total, difference = count_before + count, mean - mean_before
    share = count / np.maximum(total, 1)
    squares += squares_before + np.square(difference) * count_before * share
    return total, mean_before + difference * share, squares
