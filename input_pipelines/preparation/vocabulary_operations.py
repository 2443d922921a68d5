"""Operations that number text or whole numbers by a vocabulary, which the training split or the configuration gives."""

import collections
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines.preparation.values import Learned, as_held, tensor_type
from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.common.schema import setting

_Table = tf.lookup.StaticHashTable


@dataclasses.dataclass(frozen=True)
class Categories:
    """Text or whole numbers as indices for an embedding: 1, 2, ... the most frequent in training first, 0 for others.

    Those seen fewer than `minimum` times in training count among the others.
    """

    minimum: int = setting(schema.integer(1), 1)

    def collect(self, so_far: Any, values: np.ndarray, present: np.ndarray) -> Any:
        """Counts the present values: one counter per column, those of `so_far` where earlier chunks were counted."""
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

    def tables(self, learned: Learned) -> tuple[_Table, ...]:
        """The tables that a graph with this operation reads."""
        return _tables_of(learned["names"], first=1, default=0)


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
        """The labels' type, and every label."""
        _, before = so_far or (None, set())
        return tensor_type(values), before.union(values[np.broadcast_to(present, values.shape)].tolist())

    def learned(self, collected: Any) -> Learned:
        """`names`, by class."""
        dtype, labels = collected
        names = sorted(labels) if self.names is None else [as_held(name, dtype) for name in self.names]
        return {"names": [_text(name) for name in names]}

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        return _looked_up(values, [learned["names"]], first=0, default=-1)

    def labels(self, learned: Learned, dtype: tf.DType) -> list[str] | list[int]:
        """Returns the label of each class as a feature of `dtype` holds it: whole numbers, or text."""
        return [int(name) if dtype.is_integer else name for name in learned["names"]]

    def tables(self, learned: Learned) -> tuple[_Table, ...]:
        """The tables that a graph with this operation reads."""
        return _tables_of([learned["names"]], first=0, default=-1)


def _text(value: Any) -> str:
    """Returns a value as text, as `tf.strings.as_string` writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return value.decode() if isinstance(value, bytes) else str(value)


def _looked_up(values: tf.Tensor, names: Sequence[Sequence[str]], *, first: int, default: int) -> tf.Tensor:
    """The place of each value among its column's names, counted from `first`."""
    if values.dtype.is_floating:
        raise ValueError("holds numbers with fractions; 'bins' makes classes of them")
    text = values if values.dtype == tf.string else tf.strings.as_string(values)
    columns = tf.reshape(text, [-1, len(names)])
    numbers, places = _tables_of(names, first=first, default=default)
    pairs = numbers.lookup(columns) * len(names) + tf.range(len(names), dtype=tf.int64)
    return tf.reshape(places.lookup(pairs), tf.shape(values))


def _tables_of(names: Sequence[Sequence[str]], *, first: int, default: int) -> tuple[_Table, _Table]:
    return _tables(tuple(map(tuple, names)), first, default)


@functools.cache  # and so kept as long as any graph that uses it
def _tables(names: tuple[tuple[str, ...], ...], first: int, default: int) -> tuple[_Table, _Table]:
    """A table from text to a number, the same in all columns; one from number · columns + column to a place.

    Two for all columns: thousands of tables would take long to make and to look up.
    """
    numbers: dict[str, int] = {}
    for of_column in names:
        for name in of_column:
            numbers.setdefault(name, len(numbers))
    pairs = [numbers[name] * len(names) + column for column, of_column in enumerate(names) for name in of_column]
    places = [first + place for of_column in names for place in range(len(of_column))]
    with tf.init_scope(), tf.device("CPU:0"):
        # A table cannot be empty.
        texts = tf.constant(list(numbers) or [""], tf.string)
        of_text = _table(texts, tf.range(len(texts), dtype=tf.int64), -1)
        of_pair = _table(tf.constant(pairs or [0], tf.int64), tf.constant(places or [default], tf.int64), default)
    return of_text, of_pair


def _table(keys: tf.Tensor, values: tf.Tensor, default: int) -> _Table:
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), default)
