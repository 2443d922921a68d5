"""Reading that passes over what cannot be read, and says what that is."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from input_pipelines.sources.source import CHUNK, Records, Source
from trainer.common.errors import ConfigError, reason_of

Report = Callable[[int, str], None]
Result = TypeVar("Result")
_FAILURES = (tf.errors.OpError, ValueError)
_BYTES = 2**26  # of decoded examples at a time


def succeeding(
    count: int, attempt: Callable[[slice], Result], failed: Callable[[int, Exception], None]
) -> Iterator[tuple[slice, Result]]:
    """Yields slices of `count` examples, in order, with what `attempt` makes of them; halves those for which it raises.

    Args:
      count: how many examples there are.
      attempt: raises ValueError or an error of TensorFlow where it cannot use one of them.
      failed: gets each example for which it raises by itself, with the error.
    """
    waiting = [(0, count)] if count else []
    while waiting:
        start, stop = waiting.pop()
        try:
            result = attempt(slice(start, stop))
        except _FAILURES as error:
            if stop - start == 1:
                failed(start, error)
            else:
                middle = (start + stop) // 2
                waiting += [(middle, stop), (start, middle)]
            continue
        yield slice(start, stop), result


def pieces(source: Source, names: Sequence[str], report: Report) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Yields places in the split, (examples,) int64, and these features of the examples there, some thousand at a time.

    Args:
      source: the split.
      names: features.
      report: gets the place of each example that cannot be read or decoded, and the reason.
    """
    if source.records is not None:
        yield from _of_records(source.records, names, report, _at_once(source, names))
        return
    first = 0
    for chunk in source.chunks(names):
        count = len(next(iter(chunk.values())))
        yield np.arange(first, first + count), chunk
        first += count


def _of_records(
    records: Records, names: Sequence[str], report: Report, at_once: int
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    signature = [tf.TensorSpec((None,), tf.string), tf.TensorSpec((None,), tf.int64)]
    decode = tf.function(lambda *given: records.decode(*given, names), input_signature=signature, autograph=False)
    for places, serialized in _serialized(records, report, at_once):

        def decoded(part: slice, places: np.ndarray = places, serialized: tf.Tensor = serialized) -> Any:
            return {name: values.numpy() for name, values in decode(serialized[part], places[part]).items()}

        def failed(
            number: int, error: Exception, places: np.ndarray = places, serialized: tf.Tensor = serialized
        ) -> None:
            report(int(places[number]), records.reason(serialized[number], names, error))

        for part, features in succeeding(len(places), decoded, failed):
            yield places[part], features


def _at_once(source: Source, names: Sequence[str]) -> int:
    """Returns how many examples may be decoded together."""
    specs = [source.features[name] for name in names]
    size = sum(spec.dtype.size * (spec.shape.num_elements() or 1) for spec in specs)
    return max(1, min(CHUNK, _BYTES // max(1, size)))


def _serialized(records: Records, report: Report, at_once: int) -> Iterator[tuple[np.ndarray, tf.Tensor]]:
    """Yields places and serialized examples, `at_once` of them at most."""
    for first, last in itertools.pairwise(_bounds(records.sizes, at_once)):
        places = np.arange(records.starts[first], records.starts[first] + records.sizes[first:last].sum())
        together = tf.data.Dataset.range(first, last).flat_map(records.read).batch(len(places))
        try:
            blocks = [(places, together.get_single_element())]
        except tf.errors.OpError:
            blocks = [_of_block(records, block, report) for block in range(first, last)]
        for places, serialized in blocks:
            for start in range(0, len(places), at_once):
                yield places[start : start + at_once], serialized[start : start + at_once]


def _bounds(sizes: np.ndarray, at_once: int) -> list[int]:
    """Returns where groups of blocks begin, and the last one ends; each of `at_once` examples, or a single block."""
    bounds, held = [0], 0
    for block, size in enumerate(sizes.tolist()):
        if held and held + size > at_once:
            bounds.append(block)
            held = 0
        held += size
    return [*bounds, len(sizes)]


def _of_block(records: Records, block: int, report: Report) -> tuple[np.ndarray, tf.Tensor]:
    """The examples of a block up to the first that cannot be read."""
    start, size, found = int(records.starts[block]), int(records.sizes[block]), []
    try:
        # Within another dataset: one of TFRecords with an offset cannot be iterated by itself.
        for serialized in tf.data.Dataset.from_tensors(np.int64(block)).flat_map(records.read):
            found.append(serialized.numpy())
    except tf.errors.OpError as error:
        after = size - len(found) - 1
        rest = f"; {after:,} records after it cannot be reached" if after else ""
        report(start + len(found), f"{reason_of(error)}{rest}")
    return np.arange(start, start + len(found)), tf.constant(found, tf.string)


@dataclasses.dataclass(frozen=True)
class Readable:
    """The examples of a split that can be read, to learn from (see `source.Source`).

    Attributes:
      source: the split, which is read record by record.
      field: the configuration's key of the split.
    """

    source: Source
    field: str

    @property
    def features(self) -> Mapping[str, tf.TensorSpec]:
        """See `source.Source`."""
        return self.source.features

    @property
    def classes(self) -> Mapping[str, Sequence[str]]:
        """See `source.Source`."""
        return self.source.classes

    @property
    def optional(self) -> frozenset[str]:
        """See `source.Source`."""
        return self.source.optional

    @property
    def records(self) -> Records | None:
        """See `source.Source`."""
        return self.source.records

    def where(self, index: int) -> str:
        """See `source.Source`."""
        return self.source.where(index)

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """See `source.Source`; raises ConfigError where no example can be read."""
        is_empty = True
        for _, features in pieces(self.source, names, lambda place, reason: None):
            is_empty = False
            yield features
        if is_empty:
            raise ConfigError(self.field, ConfigError.ABSENT, "holds no example that can be read")
