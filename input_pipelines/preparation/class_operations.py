"""Operations that make classes: of numbers, of chosen values, of other classes, and as vectors."""

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from input_pipelines.preparation.values import Learned, as_float64, real, unless_nan
from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.common.schema import setting


@dataclasses.dataclass(frozen=True)
class Bins:
    """The bin of a number, from 0: `count` bins equally frequent in the training split, or those between `edges`.

    NaN lies in -1, which is no bin.
    """

    count: int | None = setting(schema.optional(schema.integer(2)), None)
    edges: list[float] | None = setting(schema.optional(schema.sequence(schema.real)), None)

    def check(self, field: str) -> None:
        """Raises ConfigError unless either is given."""
        if (self.count is None) == (self.edges is None):
            raise ConfigError(field, ConfigError.ABSENT, "needs either 'count' or 'edges'")
        if self.edges is not None and sorted(set(self.edges)) != self.edges:
            raise ConfigError(f"{field}.edges", self.edges, "must grow from each to the next")

    def collect(self, so_far: Any, values: np.ndarray, present: np.ndarray) -> Any:
        """All numbers, which quantiles need."""
        numbers = as_float64(values)
        return [*(so_far or []), numbers[np.broadcast_to(present & np.isfinite(numbers), numbers.shape)]]

    def learned(self, collected: Any) -> Learned:
        """`edges`, between one bin and the next."""
        if self.edges is not None:
            return {"edges": self.edges}
        numbers = np.concatenate(collected)
        if not numbers.size:
            return {"edges": [0.0] * (self.count - 1)}
        return {"edges": np.quantile(numbers, np.arange(1, self.count) / self.count).tolist()}

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        edges = tf.constant(learned["edges"], tf.float64)
        flat = tf.searchsorted(edges, tf.reshape(tf.cast(values, tf.float64), [-1]), side="right", out_type=tf.int64)
        bins = tf.reshape(flat, tf.shape(values))
        return tf.where(tf.math.is_nan(tf.cast(values, tf.float64)), -tf.ones_like(bins), bins)

    def categories(self, learned: Learned, columns: int) -> tuple[int, ...]:
        """Returns the number of bins, for each column."""
        return (len(learned["edges"]) + 1,) * columns


@dataclasses.dataclass(frozen=True)
class Threshold:
    """1 above the number `above`, 0 otherwise."""

    above: float = setting(schema.real)

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        values = real(values)
        return unless_nan(values, tf.cast(values > self.above, keras.config.floatx()))


@dataclasses.dataclass(frozen=True)
class Equals:
    """1 where the value is one of `values` (numbers or text), 0 otherwise."""

    values: list[Any] = setting(schema.sequence(schema.scalar))

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        wanted = [str(value) for value in self.values] if values.dtype == tf.string else self.values
        equal = [tf.equal(values, tf.constant(value, values.dtype)) for value in wanted]
        return unless_nan(values, tf.cast(tf.reduce_any(tf.stack(equal), axis=0), keras.config.floatx()))


@dataclasses.dataclass(frozen=True)
class Groups:
    """The class of a class: `of` has the new class of each, in order; -1, no class, for those that it lacks."""

    of: list[int] = setting(schema.sequence(schema.integer(0)))

    def check(self, field: str) -> None:
        """Raises ConfigError where there is no class."""
        if not self.of:
            raise ConfigError(f"{field}.of", self.of, "needs the new class of each class")

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        if values.dtype.is_floating or values.dtype == tf.string:
            raise ValueError("holds no whole numbers; 'classes' or 'bins' makes classes of it")
        values = tf.cast(values, tf.int64)
        groups = tf.gather(tf.constant(self.of, tf.int64), tf.clip_by_value(values, 0, len(self.of) - 1))
        return tf.where(tf.logical_and(values >= 0, values < len(self.of)), groups, -tf.ones_like(groups))

    def categories(self, learned: Learned, columns: int) -> tuple[int, ...]:
        """Returns the number of new classes, for each column."""
        return (max(self.of) + 1,) * columns


@dataclasses.dataclass(frozen=True)
class OneHot:
    """A vector of `classes` numbers, 1 at the class's place; NaN, which is refused, for a class that has none."""

    classes: int = setting(schema.integer(1))

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        known = tf.logical_and(values >= 0, values < self.classes)
        vectors = tf.one_hot(values, self.classes, dtype=keras.config.floatx())
        return tf.where(known[..., tf.newaxis], vectors, tf.constant(np.nan, vectors.dtype))
