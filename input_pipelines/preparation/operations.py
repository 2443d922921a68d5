"""What prepares inputs and targets: named operations on a batch of one feature.

An operation is a dataclass of its options. Called with values, batch first, and with what it learned, it returns new
values. Those that learn (statistics, vocabularies) see the training split alone, a chunk at a time, and keep what they
learned as plain values, which the run saves.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.common import import_paths, schema
from trainer.common.errors import ConfigError, unknown
from trainer.common.schema import setting

Learned = dict[str, Any]
_TEXT = "holds text, not numbers; 'categories', 'classes' or 'equals' make numbers of it"


@dataclasses.dataclass(frozen=True)
class Scale:
    """`by` · value + `offset`; by default the 0 to 255 of an image become 0 to 1."""

    by: float = setting(schema.real, 1 / 255)
    offset: float = setting(schema.real, 0.0)

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        values = _real(values)
        return values * tf.constant(self.by, values.dtype) + tf.constant(self.offset, values.dtype)


@dataclasses.dataclass(frozen=True)
class Log:
    """log(1 + value), for numbers of at least 0 over many magnitudes."""

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        return tf.math.log1p(_real(values))


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
        return tf.clip_by_value(_real(values), self.low, self.high)


@dataclasses.dataclass(frozen=True)
class Fill:
    """`value` in place of NaN."""

    value: float = setting(schema.real, 0.0)

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        values = _real(values)
        return tf.where(tf.math.is_nan(values), tf.constant(self.value, values.dtype), values)


@dataclasses.dataclass(frozen=True)
class Standardise:
    """Mean 0 and standard deviation 1 in the training split, per column; per channel where there are rows and columns.

    What does not vary in training becomes 0.
    """

    def collect(self, so_far: Any, values: np.ndarray, present: np.ndarray) -> Any:
        """Count, mean and sum of squared differences, merged chunk by chunk (Chan et al. 1983)."""
        axes = tuple(range(values.ndim - 1)) if values.ndim > 2 else (0,)
        numbers = _as_float64(values)
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

    def learned(self, collected: Any) -> Learned:
        """`mean` and `deviation`."""
        count, mean, squares = collected
        deviation = np.sqrt(squares / np.maximum(count, 1))
        # Rounding leaves a trace of deviation where all values are equal.
        deviation = np.where(deviation > 1e-12 * np.abs(mean), deviation, 0.0)
        return {"mean": np.asarray(mean).tolist(), "deviation": np.asarray(deviation).tolist()}

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        values = _real(values)
        deviation = np.asarray(learned["deviation"])
        factor = np.where(deviation > 0, 1 / np.where(deviation > 0, deviation, 1), 0.0)
        return (values - tf.constant(learned["mean"], values.dtype)) * tf.constant(factor, values.dtype)


@dataclasses.dataclass(frozen=True)
class Bins:
    """Which bin a number lies in, from 0: `count` bins equally frequent in the training split, or between `edges`.

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
        numbers = _as_float64(values)
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
        """As many of each column as there are bins."""
        return (len(learned["edges"]) + 1,) * columns


@dataclasses.dataclass(frozen=True)
class Threshold:
    """1 above the number `above`, 0 otherwise."""

    above: float = setting(schema.real)

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        values = _real(values)
        return _unless_nan(values, tf.cast(values > self.above, keras.config.floatx()))


@dataclasses.dataclass(frozen=True)
class Equals:
    """1 where the value is one of `values` (numbers or text), 0 otherwise."""

    values: list[Any] = setting(schema.sequence(schema.scalar))

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        wanted = [str(value) for value in self.values] if values.dtype == tf.string else self.values
        equal = [tf.equal(values, tf.constant(value, values.dtype)) for value in wanted]
        return _unless_nan(values, tf.cast(tf.reduce_any(tf.stack(equal), axis=0), keras.config.floatx()))


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
        """As many of each column as there are new classes."""
        return (max(self.of) + 1,) * columns


@dataclasses.dataclass(frozen=True)
class Categories:
    """Text or whole numbers as indices for an embedding: 1, 2, ... the most frequent in training first, 0 for others.

    Those seen fewer than `minimum` times in training count among the others.
    """

    minimum: int = setting(schema.integer(1), 1)

    def collect(self, so_far: Any, values: np.ndarray, present: np.ndarray) -> Any:
        """How often each value of each column was seen."""
        columns = values.reshape(len(values), -1).T
        shown = np.broadcast_to(present, values.shape).reshape(len(values), -1).T
        counters = so_far or [collections.Counter() for _ in columns]
        for counter, column, there in zip(counters, columns, shown, strict=True):
            counter.update(column[there].tolist())
        return counters

    def learned(self, collected: Any) -> Learned:
        """`names` of each column."""
        return {"names": [self._kept(counter) for counter in collected]}

    def _kept(self, counter: collections.Counter) -> list[str]:
        kept = [(-count, _text(value)) for value, count in counter.items() if count >= self.minimum]
        return [name for _, name in sorted(kept)]

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        return _looked_up(values, learned["names"], first=1, default=0)

    def categories(self, learned: Learned, columns: int) -> tuple[int, ...]:
        """One more than there are names."""
        return tuple(len(names) + 1 for names in learned["names"])


@dataclasses.dataclass(frozen=True)
class Classes:
    """Labels (text or whole numbers) as classes 0, 1, ...: in the order of `names`, or sorted as seen in training.

    A label that is not among them is an error.
    """

    names: list[Any] | None = setting(schema.optional(schema.sequence(schema.scalar)), None)

    def check(self, field: str) -> None:
        """Raises ConfigError where two classes have one name."""
        for index, name in enumerate(self.names or []):
            if _text(name) in map(_text, self.names[:index]):
                raise ConfigError(f"{field}.names", name, "is the name of two classes")

    def collect(self, so_far: Any, values: np.ndarray, present: np.ndarray) -> Any:
        """Every label."""
        return (so_far or set()).union(values[np.broadcast_to(present, values.shape)].tolist())

    def learned(self, collected: Any) -> Learned:
        """`names`, by class."""
        names = sorted(collected) if self.names is None else self.names
        return {"names": [_text(name) for name in names]}

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        return _looked_up(values, [learned["names"]], first=0, default=-1)


@dataclasses.dataclass(frozen=True)
class OneHot:
    """A vector of `classes` numbers, 1 at the class's place; NaN, which is refused, for a class that has none."""

    classes: int = setting(schema.integer(1))

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        known = tf.logical_and(values >= 0, values < self.classes)
        vectors = tf.one_hot(values, self.classes, dtype=keras.config.floatx())
        return tf.where(known[..., tf.newaxis], vectors, tf.constant(np.nan, vectors.dtype))


@dataclasses.dataclass(frozen=True)
class Resize:
    """An image of `height` x `width` pixels."""

    height: int = setting(schema.integer(1))
    width: int = setting(schema.integer(1))
    method: str = setting(
        schema.choice("method", ("area", "bicubic", "bilinear", "gaussian", "lanczos3", "nearest")), "bilinear"
    )

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        # Reducing without smoothing would leave a grain that depends on where pixels fall.
        antialias = self.method != "nearest"
        return tf.image.resize(_pictures(values), (self.height, self.width), self.method, antialias=antialias)


@dataclasses.dataclass(frozen=True)
class CentralCrop:
    """The middle of an image, `height` x `width` pixels."""

    height: int = setting(schema.integer(1))
    width: int = setting(schema.integer(1))

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        values = _pictures(values)
        top, left = (values.shape[1] - self.height) // 2, (values.shape[2] - self.width) // 2
        return tf.image.crop_to_bounding_box(values, top, left, self.height, self.width)


@dataclasses.dataclass(frozen=True)
class Grayscale:
    """One channel of a picture with three."""

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        if _pictures(values).shape[-1] != 3:
            raise ValueError(f"needs three channels, not {values.shape[-1]}")
        return tf.image.rgb_to_grayscale(values)


@dataclasses.dataclass(frozen=True)
class Reshape:
    """The same numbers in another `shape`; one of its entries may be -1."""

    shape: list[int] = setting(schema.sequence(schema.integer(-1)))

    def check(self, field: str) -> None:
        """Raises ConfigError for an axis of no length, or more than one whose length is left open."""
        if 0 in self.shape or self.shape.count(-1) > 1:
            raise ConfigError(f"{field}.shape", self.shape, "must be lengths of at least 1, one of them -1 at most")

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        count = int(np.prod(values.shape[1:]))
        known = int(np.prod([length for length in self.shape if length != -1]))
        shape = [count // known if length == -1 else length for length in self.shape]
        if np.prod(shape) != count:
            raise ValueError(f"cannot give {count} numbers the shape {self.shape}")
        return tf.reshape(values, [-1, *shape])


OPERATIONS: Mapping[str, type] = {
    "scale": Scale,
    "log": Log,
    "clip": Clip,
    "fill": Fill,
    "standardise": Standardise,
    "bins": Bins,
    "threshold": Threshold,
    "equals": Equals,
    "groups": Groups,
    "categories": Categories,
    "classes": Classes,
    "one_hot": OneHot,
    "resize": Resize,
    "central_crop": CentralCrop,
    "grayscale": Grayscale,
    "reshape": Reshape,
}


@dataclasses.dataclass(frozen=True)
class Own:
    """A function of the user's own: `function(values, **arguments)` → values, on a batch of tensors."""

    function: Callable[..., Any]
    arguments: Mapping[str, Any]

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        return tf.convert_to_tensor(self.function(values, **self.arguments))


def build(specs: Sequence[Mapping[str, Any]], field: str, registered: Mapping[str, type] = OPERATIONS) -> list[Any]:
    """The operations of a configuration, in order.

    Args:
      specs: each a `name` (registered, or an import path) and options.
      field: the configuration's key, for errors.
      registered: name → dataclass of its options.

    Raises:
      ConfigError: an operation or an option that does not exist.
    """
    built = []
    for index, spec in enumerate(specs):
        at = f"{field}.{index}"
        options = {key: value for key, value in spec.items() if key != "name"}
        if import_paths.is_path(spec["name"]):
            function = import_paths.load(spec["name"], f"{at}.name")
            import_paths.check_arguments(function, options, field=at, positional=1 if registered is OPERATIONS else 2)
            built.append(Own(function, options))
            continue
        if spec["name"] not in registered:
            raise unknown(f"{at}.name", spec["name"], "operation", [*registered, "package.module:function"])
        operation = schema.record(registered[spec["name"]])(options, at)
        if hasattr(operation, "check"):
            operation.check(at)
        built.append(operation)
    return built


def name_of(operation: Any) -> str:
    """The name by which a configuration asks for an operation."""
    if isinstance(operation, Own):
        return getattr(operation.function, "__name__", "function")
    return next(name for name, kind in OPERATIONS.items() if isinstance(operation, kind))


def learns(operation: Any) -> bool:
    """Whether an operation must see the training split first."""
    return hasattr(operation, "collect")


def _real(values: tf.Tensor) -> tf.Tensor:
    """Floating-point numbers: pictures in the run's precision, single numbers in float64 until they are prepared."""
    if values.dtype == tf.string:
        raise ValueError(_TEXT)
    return tf.cast(values, keras.config.floatx() if values.shape.rank > 2 else tf.float64)


def _unless_nan(values: tf.Tensor, result: tf.Tensor) -> tf.Tensor:
    if not values.dtype.is_floating:
        return result
    return tf.where(tf.math.is_nan(values), tf.constant(np.nan, result.dtype), result)


def _as_float64(values: np.ndarray) -> np.ndarray:
    if values.dtype == object:
        raise ValueError(_TEXT)
    return values.astype(np.float64)


def _pictures(values: tf.Tensor) -> tf.Tensor:
    # TensorFlow takes three axes for a single picture's.
    if values.shape.rank != 4:
        raise ValueError("holds no pictures of rows, columns and channels; 'reshape' makes them of flat numbers")
    return values


def _text(value: Any) -> str:
    """As `tf.strings.as_string` has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return value.decode() if isinstance(value, bytes) else str(value)


def _looked_up(values: tf.Tensor, names: Sequence[Sequence[str]], *, first: int, default: int) -> tf.Tensor:
    """The place of each value among its column's names, counted from `first`."""
    if values.dtype.is_floating:
        raise ValueError("holds numbers with fractions; 'bins' makes classes of them")
    text = values if values.dtype == tf.string else tf.strings.as_string(values)
    columns = tf.unstack(tf.reshape(text, [-1, len(names)]), axis=1)
    found = [
        _table(tuple(of_column), first, default).lookup(column)
        for of_column, column in zip(names, columns, strict=True)
    ]
    return tf.reshape(tf.stack(found, axis=1), tf.shape(values))


@functools.cache  # and so kept as long as any graph that uses it
def _table(names: tuple[str, ...], first: int, default: int) -> tf.lookup.StaticHashTable:
    with tf.init_scope(), tf.device("CPU:0"):
        # A table cannot be empty.
        keys = tf.constant(names or ("",), tf.string)
        values = tf.range(first, first + len(names), dtype=tf.int64) if names else tf.constant([default], tf.int64)
        return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), default)
