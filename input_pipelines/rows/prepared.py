"""Rows as a model takes them, some at a time."""

from collections.abc import Iterator, Sequence
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


def loaded(opened: Opened) -> InMemory:
    """All rows, with their targets, as a split that is held in memory."""
    parts = [tf.nest.map_structure(np.asarray, each.examples) for each in of_rows(opened)]
    if not parts:
        raise ConfigError(rows.FIELD, ConfigError.ABSENT, "holds no row")
    return InMemory(Examples(**tf.nest.map_structure(lambda *arrays: np.concatenate(arrays), *parts)))
