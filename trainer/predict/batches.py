"""Prepared rows cut into batches of one size."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow
import tensorflow as tf

from input_pipelines.rows.prepared import Prepared


class Batch(NamedTuple):
    """Rows after one another.

    Attributes:
      first: the place of the first of them.
      count: how many.
      inputs: a tensor's values or a dictionary of them, batch first.
      kept: column → its values.
    """

    first: int
    count: int
    inputs: Any
    kept: dict[str, Any]


def cut(parts: Iterable[Prepared], size: int) -> Iterator[Batch]:
    """Yields batches of `size` rows in their order, the last one of what is left."""
    waiting: list[tuple[Any, dict[str, Any], int]] = []
    first, held = 0, 0
    for part in parts:
        inputs = tf.nest.map_structure(np.asarray, part.examples["inputs"])
        count, start = len(part), 0
        while held + count - start >= size:
            stop = start + size - held
            batch = _joined([*waiting, _sliced(inputs, part.kept, start, stop)], first)
            yield batch
            waiting, held, first, start = [], 0, first + size, stop
        if start < count:
            waiting.append(_sliced(inputs, part.kept, start, count))
            held += count - start
    if waiting:
        yield _joined(waiting, first)


def _sliced(inputs: Any, kept: dict[str, Any], start: int, stop: int) -> tuple[Any, dict[str, Any], int]:
    cut_kept = {name: values[start:stop] for name, values in kept.items()}
    return tf.nest.map_structure(lambda values: values[start:stop], inputs), cut_kept, stop - start


def _joined(parts: list[tuple[Any, dict[str, Any], int]], first: int) -> Batch:
    inputs, kept, counts = zip(*parts, strict=True)
    if len(parts) == 1:
        return Batch(first, counts[0], inputs[0], kept[0])
    joined = tf.nest.map_structure(lambda *values: np.concatenate(values), *inputs)
    return Batch(first, sum(counts), joined, {name: _concatenated([part[name] for part in kept]) for name in kept[0]})


def _concatenated(values: list[Any]) -> Any:
    if isinstance(values[0], pyarrow.Array):
        return pyarrow.concat_arrays(values)
    return np.concatenate(values)
