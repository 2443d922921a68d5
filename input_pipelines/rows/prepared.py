"""Rows as a model takes them, some at a time."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from input_pipelines.examples import Examples
from input_pipelines.feed import usable
from input_pipelines.feed.in_memory import InMemory
from input_pipelines.feed.in_order import InOrder
from input_pipelines.feed.splits import Split
from input_pipelines.rows import rows
from input_pipelines.rows.opening import Opened
from input_pipelines.sources.source import CHUNK
from trainer.common.durations import ENDLESS
from trainer.common.errors import ConfigError


class Prepared(NamedTuple):
    """Some rows after one another.

    Attributes:
      examples: `inputs` (and `targets` and `weights`, where they are read), batch first.
      kept: column → its values as they are in the source.
    """

    examples: dict[str, Any]
    kept: dict[str, Any]

    def __len__(self) -> int:
        return len(tf.nest.flatten(self.examples)[0])


def of_rows(opened: Opened, kept: Sequence[str] = ()) -> Iterator[Prepared]:
    """Yields all rows in order, and these columns beside them.

    Raises:
      ConfigError: a row cannot be read, or nothing can be computed from it, naming it.
    """
    rows.check_kept(kept, opened.rows)
    first = 0
    for chunk in opened.rows.chunks(opened.preparation.features, kept):
        examples = opened.preparation.of_arrays(chunk.features)
        usable.check(examples, opened.preparation, opened.rows, first, opened.field)
        prepared = Prepared(examples, chunk.kept)
        yield prepared
        first += len(prepared)


def of_split(split: Split, name: str) -> Iterator[Prepared]:
    """Yields the examples of a split that a function of the user's own gives, in its order.

    Raises:
      ConfigError: it never ends.
    """
    if isinstance(split, InOrder):
        if len(split) == ENDLESS:
            raise ConfigError("--split", name, "is a dataset that never ends")
        for batch in split.epoch():
            yield Prepared({"inputs": batch["inputs"]}, {})
        return
    for first in range(0, len(split), CHUNK):
        part = slice(first, first + CHUNK)
        yield Prepared({"inputs": tf.nest.map_structure(lambda each: each[part], split.examples.inputs)}, {})  # noqa: B023


def of_inputs(given: Any, spec: Any, name: str) -> Prepared:
    """Arrays that are inputs as a function of the user's own gives them, in the types of these.

    Args:
      given: an array, or a dictionary of arrays.
      spec: of one example.
      name: what errors call them.

    Raises:
      ConfigError: they are not of these names and shapes.
    """
    is_table = isinstance(spec, Mapping)
    if is_table and not (isinstance(given, Mapping) and spec.keys() <= given.keys()):
        raise ConfigError(name, type(given).__name__, f"must be a dictionary with the inputs {', '.join(spec)}")
    parts = {key: (given[key], spec[key]) for key in spec} if is_table else {"": (given, spec)}
    found = {key: _cast(array, leaf, f"{name}.{key}".rstrip(".")) for key, (array, leaf) in parts.items()}
    if len({len(array) for array in found.values()}) > 1:
        raise ConfigError(name, [len(array) for array in found.values()], "must have arrays of one length")
    return Prepared({"inputs": found if is_table else found[""]}, {})


def _cast(values: Any, spec: tf.TensorSpec, name: str) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim == 0 or array.shape[1:] != tuple(spec.shape) or array.dtype.kind not in "biuf":
        raise ConfigError(
            name, f"{array.dtype}{list(array.shape)}", f"must be numbers, {list(spec.shape)} for each row"
        )
    return array.astype(spec.dtype.as_numpy_dtype, copy=False)


def loaded(opened: Opened) -> InMemory:
    """All rows, with their targets, as a split that is held in memory."""
    parts = [tf.nest.map_structure(np.asarray, each.examples) for each in of_rows(opened)]
    if not parts:
        raise ConfigError(rows.FIELD, ConfigError.ABSENT, "holds no row")
    return InMemory(Examples(**tf.nest.map_structure(lambda *arrays: np.concatenate(arrays), *parts)))
