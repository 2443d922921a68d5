"""The protocol of examples that are read in order, beside columns that are kept as they are."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from input_pipelines.preparation.chain import Chain
from input_pipelines.preparation.number_operations import Clip, Fill, Log, Scale, Standardise
from input_pipelines.preparation.preparation import Preparation
from input_pipelines.preparation.vocabulary_operations import Categories
from input_pipelines.sources.arrow_columns import Column
from input_pipelines.sources.source import CHUNK, Source, files_in
from trainer.common.errors import ConfigError, listed, unknown

FIELD, KEEP = "--data", "--keep"
_CHUNK_BYTES = 2**25
_OF_NUMBERS = (Scale, Log, Clip, Fill, Standardise)


class Chunk(NamedTuple):
    """Some examples after one another.

    Attributes:
      features: feature → (examples, ...) array, as of `Source.chunks`.
      kept: column → (examples, ...) array, or Arrow's, as it is in the file.
    """

    features: dict[str, np.ndarray]
    kept: dict[str, Any]


class Rows(Protocol):
    """Examples to be read once, in order.

    Attributes:
      features: feature → `tf.TensorSpec` of one example.
      columns: those that can be kept.
      count: the number of examples; None: not known before they are read.
      records: None.
    """

    features: Mapping[str, tf.TensorSpec]
    columns: Sequence[str]
    count: int | None
    records: None

    def chunks(self, names: Sequence[str], kept: Sequence[str]) -> Iterator[Chunk]:
        """These features, and these columns beside them, of all examples in order.

        Raises:
          ConfigError: naming the file and the row that cannot be read.
        """

    def where(self, index: int) -> str:
        """The file and the row of an example that has been read, in words."""


@dataclasses.dataclass(frozen=True)
class OfSource:
    """The rows of a split of a source.

    Attributes:
      source: the split.
      records: none.
    """

    source: Source
    records: None = None

    @property
    def features(self) -> Mapping[str, tf.TensorSpec]:
        """See `Rows`."""
        return self.source.features

    @property
    def columns(self) -> Sequence[str]:
        """See `Rows`: the features."""
        return tuple(self.source.features)

    @property
    def count(self) -> int:
        """See `Rows`."""
        return len(self.source)

    def chunks(self, names: Sequence[str], kept: Sequence[str]) -> Iterator[Chunk]:
        """See `Rows`."""
        for arrays in self._arrays(list(dict.fromkeys([*names, *kept]))):
            yield Chunk({name: arrays[name] for name in names}, {name: arrays[name] for name in kept})

    def where(self, index: int) -> str:
        """See `Rows`."""
        return self.source.where(index)

    def _arrays(self, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """The source's chunks; of pictures, fewer at a time."""
        specs = [self.features[name] for name in names]
        if self.source.records is None or not any(spec.shape.rank == 3 for spec in specs):
            return self.source.chunks(names)
        of_example = sum(spec.dtype.size * (spec.shape.num_elements() or 1) for spec in specs)
        size = max(1, min(CHUNK, _CHUNK_BYTES // of_example))
        return self.source.records.chunks(names, self.source.where, size)


def for_inputs(preparation: Preparation) -> Preparation:
    """Returns the preparation of inputs alone, which takes any number where training had whole ones and so could be.

    Where an input's first operation makes real numbers of all that it gets, a fraction is as good.
    """
    chains = preparation.inputs.values()
    takers = {name: [chain for chain in chains if name in chain.features] for name in preparation.source}
    source = {
        name: tf.TensorSpec((), tf.float64)
        if spec == tf.TensorSpec((), tf.int64) and takers[name] and all(map(_takes_numbers, takers[name]))
        else spec
        for name, spec in preparation.source.items()
    }
    return dataclasses.replace(preparation, targets={}, source=source)


def _takes_numbers(chain: Chain) -> bool:
    return bool(chain.operations) and isinstance(chain.operations[0], _OF_NUMBERS)


def needed(preparation: Preparation) -> dict[str, Column]:
    """Returns feature → how its values are held, of those that a preparation is made of.

    A whole number may be absent where training lacked some, and where it becomes a category: one not seen in training.
    """
    chains = (*preparation.inputs.values(), *preparation.targets.values())
    optional = {
        name
        for chain in chains
        if chain.optional or (chain.operations and isinstance(chain.operations[0], Categories))
        for name in chain.features
    }
    found = {}
    for name in preparation.features:
        spec = preparation.source[name]
        dtype = np.dtype(object) if spec.dtype == tf.string else np.dtype(spec.dtype.as_numpy_dtype)
        found[name] = Column(dtype, tuple(spec.shape), name in optional and dtype == np.int64)
    return found


def files_at(path: str, default: str) -> list[str]:
    """The one file that a path is, or those in a folder that a pattern matches, sorted by name.

    Raises:
      ConfigError: there is none.
    """
    if not os.path.exists(path):
        raise ConfigError(FIELD, path, "does not exist")
    found = files_in(path, default) if os.path.isdir(path) else [path]
    if not found:
        raise ConfigError(FIELD, path, f"holds no file {default}; it holds: {listed(os.listdir(path), default)}")
    return found


def user_of(preparation: Preparation, feature: str) -> str:
    """The input or target that is made of a feature, in words."""
    for kind, chains in (("input", preparation.inputs), ("target", preparation.targets)):
        for name, chain in chains.items():
            if feature in (*chain.features, chain.weight):
                return f"{kind} {name!r}"
    return "nothing"


def check_there(preparation: Preparation, columns: Sequence[str], path: str) -> None:
    """Raises ConfigError for the first feature of a preparation that is none of a file's columns."""
    for name in preparation.features:
        if name not in columns:
            use = user_of(preparation, name)
            raise ConfigError(FIELD, path, f"lacks {name!r}, of which {use} is made; it has {listed(columns, name)}")


def check_kept(names: Sequence[str], rows: Rows) -> None:
    """Raises ConfigError for a column that rows do not have."""
    for name in names:
        if name not in rows.columns:
            raise unknown(KEEP, name, "column", rows.columns)
        if isinstance(rows, OfSource) and rows.features[name].shape.rank not in (0, 1):
            raise ConfigError(KEEP, name, "is a picture or an array; columns of numbers and text are kept")
