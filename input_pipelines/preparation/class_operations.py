"""Operations that make classes: of numbers, of chosen values, of other classes, and as vectors."""

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from input_pipelines.preparation.values import (
    Learned,
    as_float64,
    as_held,
    distinct,
    real,
    some,
    tensor_type,
    unless_nan,
)
from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.common.schema import setting

_SHOWN = 100  # values that are gathered for an error
_NO_CLASSES = "holds no whole numbers; 'classes' or 'bins' makes classes of it"


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
    """1 where the value is one of `values` (numbers or text), 0 otherwise. Each must occur in the training split."""

    values: list[Any] = setting(schema.sequence(schema.scalar))

    def collect(self, so_far: Any, values: np.ndarray, present: np.ndarray) -> Any:
        """Gathers those of the values that occur not, and others that do."""
        lacking, others = so_far or (list(self.values), set())
        there = distinct(values, present)
        lacking = [value for value in lacking if as_held(value, tensor_type(values)) not in there]
        return lacking, others if len(others) >= _SHOWN else others | there

    def learned(self, collected: Any) -> Learned:
        """Nothing; raises ValueError for a value that does not occur."""
        lacking, others = collected
        if lacking:
            raise ValueError(f"the training split lacks {lacking[0]!r}; it has {some(others)}")
        return {}

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        wanted = [as_held(value, values.dtype) for value in self.values]
        equal = [tf.equal(values, tf.constant(value, values.dtype)) for value in wanted]
        return unless_nan(values, tf.cast(tf.reduce_any(tf.stack(equal), axis=0), keras.config.floatx()))


@dataclasses.dataclass(frozen=True)
class Groups:
    """The class of a class: `of` has the new class of each, in order; -1, no class, for those that it lacks.

    Every new class must occur in the training split.
    """

    of: list[int] = setting(schema.sequence(schema.integer(0)))

    def check(self, field: str) -> None:
        """Raises ConfigError where there is no class."""
        if not self.of:
            raise ConfigError(f"{field}.of", self.of, "needs the new class of each class")

    def collect(self, so_far: Any, values: np.ndarray, present: np.ndarray) -> Any:
        """Gathers the classes that occur."""
        if values.dtype == object or np.issubdtype(values.dtype, np.floating):
            raise ValueError(_NO_CLASSES)
        return (so_far or set()) | distinct(values, present)

    def learned(self, collected: Any) -> Learned:
        """Nothing; raises ValueError for a new class that does not occur."""
        there = {int(self.of[label]) for label in collected if label in range(len(self.of))}
        if lacking := sorted(set(self.of) - there):
            raise ValueError(f"no class of group {lacking[0]} is in the training split; it has {some(collected)}")
        return {}

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        if values.dtype.is_floating or values.dtype == tf.string:
            raise ValueError(_NO_CLASSES)
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
