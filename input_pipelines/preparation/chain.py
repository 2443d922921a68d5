"""The operations that make one input or target of a source's features, and the mask of its missing labels."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from input_pipelines.preparation import operations as operations_lib
from input_pipelines.sources.source import ABSENT_INTEGER, Source
from trainer.common.errors import ConfigError, first_line

Batch = Mapping[str, tf.Tensor]
_FAILURES = (ValueError, TypeError, tf.errors.OpError)


@dataclasses.dataclass(frozen=True)
class Chain:
    """The features of one input or target and the operations on them.

    Attributes:
      field: the configuration's key.
      features: the features it is made of; more than one are put side by side.
      operations: what is done to them, in order.
      missing: value that means that there is no label.
      weight: feature of weights per example.
      is_target: whether labels may be missing.
      optional: whether a feature may be absent; whole numbers of an input are NaN then.
    """

    field: str
    features: tuple[str, ...]
    operations: tuple[Any, ...]
    missing: Any = None
    weight: str | None = None
    is_target: bool = False
    optional: bool = False

    def values(self, batch: Batch) -> tf.Tensor:
        """The features as they are, side by side on the last axis if there are several."""
        return tf.convert_to_tensor(self.arrays(batch))

    def arrays(self, batch: Mapping[str, np.ndarray | tf.Tensor]) -> np.ndarray | tf.Tensor:
        """As `values`; of plain columns of numbers, or of text, an array, which is made much faster."""
        columns = [batch[name] for name in self.features]
        kinds = {tf.as_dtype(column.dtype) for column in columns}
        plain = all(isinstance(column, np.ndarray) and column.ndim == 1 for column in columns)
        if plain:
            if tf.string in kinds:
                columns = [each if each.dtype == object else _as_text(each) for each in columns]
            elif self._mixes(kinds):
                columns = [real_numbers(each) for each in columns]
            return columns[0] if len(columns) == 1 else np.stack(columns, axis=-1)
        tensors = [tf.convert_to_tensor(column) for column in columns]
        if tf.string in kinds:
            tensors = [each if each.dtype == tf.string else tf.strings.as_string(each) for each in tensors]
        elif self._mixes(kinds):
            tensors = [real_numbers(each) for each in tensors]
        if len(tensors) == 1:
            return tensors[0]
        return tf.concat([each if each.shape.rank > 1 else each[:, tf.newaxis] for each in tensors], axis=-1)

    def _mixes(self, kinds: Collection[tf.DType]) -> bool:
        """Returns whether only real numbers hold all numbers of these kinds, and NaN for absent ones of an input."""
        return len(kinds) > 1 or (self.optional and not self.is_target and tf.int64 in kinds)

    def present(self, values: tf.Tensor) -> tf.Tensor | None:
        """Returns the mask of labels, bool, of the values' shape; None where none can be missing."""
        missing = []
        if values.dtype.is_floating:
            missing.append(tf.math.is_nan(values))
        if values.dtype == tf.string:
            missing.append(tf.equal(values, ""))
        if self.optional and values.dtype == tf.int64:
            missing.append(tf.equal(values, ABSENT_INTEGER))
        if self.missing is not None:
            missing.append(tf.equal(values, tf.constant(self.missing, values.dtype)))
        return tf.logical_not(tf.reduce_any(tf.stack(missing), axis=0)) if missing else None

    def steps(
        self, values: tf.Tensor, learned: Sequence[dict[str, Any]], present: tf.Tensor | None = None
    ) -> Iterator[tuple[tf.Tensor, tf.Tensor | None]]:
        """Yields the values before the first operation and after each one that has an entry in `learned`.

        With them the mask of labels, which begins as `present` and fits the values from the left (None: no mask).
        """
        yield values, present
        for index, (operation, of_operation) in enumerate(zip(self.operations, learned, strict=False)):
            before = values
            try:
                values = operation(before, of_operation)
            except _FAILURES as error:
                raise self._failure(index, before, error) from error
            if present is not None:
                moves = hasattr(operation, "labelled") and present.shape.as_list() == before.shape.as_list()
                present = fitted(operation.labelled(present) if moves else present, values)
            yield values, present

    def collect(self, so_far: Any, values: np.ndarray, present: np.ndarray, learned: Sequence[dict[str, Any]]) -> Any:
        """Adds a chunk to what the first operation without an entry in `learned` has gathered so far.

        Args:
          so_far: what it gathered from earlier chunks; None for the first.
          values: the chunk, after the operations before this one.
          present: bool, of the values' shape: the values that count.
          learned: of the operations before this one.
        """
        try:
            return self.operations[len(learned)].collect(so_far, values, present)
        except _FAILURES as error:
            raise self._failure(len(learned), values, error) from error

    def learned(self, collected: Any, learned: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Returns what the first operation without an entry in `learned` makes of all that it gathered."""
        index = len(learned)
        try:
            return self.operations[index].learned(collected)
        except ValueError as error:
            at = f"{self.field}.prepare.{index}"
            reason = f"does not fit {', '.join(self.features[:3])}: {first_line(error)}"
            raise ConfigError(at, operations_lib.name_of(self.operations[index]), reason) from error

    def place(self, source: Source, example: int) -> str:
        """The file and row of an example, in words; with the column, where it is made of a single one of numbers."""
        where, own = source.where(example), self.features
        if len(own) > 1 or source.records is not None or source.features[own[0]].shape.rank:
            return where
        return f"{where}, column {own[0]!r}"

    def _failure(self, index: int, values: np.ndarray | tf.Tensor, error: Exception) -> ConfigError:
        given = f"{tf.as_dtype(values.dtype).name}{list(values.shape[1:])}"
        return ConfigError(
            f"{self.field}.prepare.{index}",
            operations_lib.name_of(self.operations[index]),
            f"fails on {', '.join(self.features[:3])} ({given}): {first_line(error)}",
        )

    def prepared(
        self, values: tf.Tensor, learned: Sequence[dict[str, Any]], present: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns the values after all operations, real numbers in the run's precision, and the mask of labels then."""
        *_, (result, present) = self.steps(values, learned, present)
        if result.dtype == tf.string:
            raise ConfigError(
                self.field,
                ", ".join(self.features[:3]),
                "holds text; prepare it with 'categories', 'classes' or 'equals'",
            )
        real = result.dtype.is_floating or result.dtype == tf.bool
        return tf.cast(result, keras.config.floatx()) if real else result, present


def real_numbers(values: np.ndarray | tf.Tensor) -> np.ndarray | tf.Tensor:
    """The numbers in float64, NaN where a whole number is absent."""
    if isinstance(values, np.ndarray):
        real = values.astype(np.float64)
        return np.where(values == ABSENT_INTEGER, np.nan, real) if values.dtype == np.int64 else real
    real = tf.cast(values, tf.float64)
    return tf.where(tf.equal(values, ABSENT_INTEGER), np.float64(np.nan), real) if values.dtype == tf.int64 else real


def _as_text(values: np.ndarray) -> np.ndarray:
    """Numbers as bytes objects, as TensorFlow writes them."""
    distinct, indices = np.unique(values, return_inverse=True)
    if np.issubdtype(values.dtype, np.integer):  # much faster than a call of TensorFlow
        return np.array([b"%d" % number for number in distinct.tolist()], object)[indices]
    return tf.strings.as_string(distinct).numpy()[indices]


def fitted(present: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """`present` where it fits the values from the left, else whether all of an example is present: (examples,)."""
    shape, own = present.shape[1:], values.shape[1:]
    if shape.rank and shape.as_list() != own.as_list()[: shape.rank]:
        return tf.reduce_all(tf.reshape(present, [tf.shape(present)[0], -1]), axis=1)
    return present


def as_wide(present: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """`present`, which fits the values from the left, for every one of them."""
    extra = (tf.newaxis,) * (values.shape.rank - present.shape.rank)
    return tf.broadcast_to(present[(..., *extra)], tf.shape(values))
