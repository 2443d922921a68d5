"""Rows of a table, each with the picture and the masks that it names."""

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from input_pipelines.preparation.picture_operations import Resize
from input_pipelines.sources import pictures, source
from input_pipelines.sources.encoded_pictures import PictureOptions
from input_pipelines.sources.source import ABSENT_INTEGER, Arrays, Records

IMAGE = "image"  # the feature
_MIXED_FILES = 256  # read ahead together; their order is that of a permutation of all rows anyway


@dataclasses.dataclass(frozen=True)
class Stored:
    """A picture that each row names.

    Attributes:
      paths: (rows,) bytes objects; b"": there is none.
      spec: of a picture.
      indices: whether of one with a palette the indices count.
      stand_in: the path of one to decode where a row has none: its numbers are `ABSENT_INTEGER` then, and those of all
        int64, or NaN where they are interpolated. None: no row lacks it.
    """

    paths: np.ndarray
    spec: tf.TensorSpec
    indices: bool = False
    stand_in: bytes | None = None

    def sized(self, size: Resize | None) -> tf.TensorSpec:
        """The specification of one at a size."""
        spec = pictures.sized(self.spec, size)
        return tf.TensorSpec(spec.shape, tf.int64) if self.stand_in is not None and spec.dtype.is_integer else spec


@dataclasses.dataclass(frozen=True)
class TableOfImages:
    """One split (see `source.Source`).

    Attributes:
      table: its rows, those that have a picture.
      stored: feature → the pictures that they name.
      options: how pictures are read.
      sizes: feature → the size to bring its pictures to.
      notes: lines for the user.
      skipped: how many rows were left out because a picture does not decode.
    """

    table: Arrays
    stored: Mapping[str, Stored]
    options: PictureOptions
    sizes: Mapping[str, Resize] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    skipped: int = 0

    @functools.cached_property
    def features(self) -> Mapping[str, tf.TensorSpec]:
        """See `source.Source`."""
        return {
            **self.table.features,
            **{name: stored.sized(self.sizes.get(name)) for name, stored in self.stored.items()},
        }

    @property
    def classes(self) -> Mapping[str, Sequence[str]]:
        """See `source.Source`."""
        return self.table.classes

    @property
    def optional(self) -> frozenset[str]:
        """See `source.Source`."""
        own = {name for name, stored in self.stored.items() if stored.stand_in is not None}
        return frozenset(own | (self.table.optional - set(self.stored)))

    @property
    def records(self) -> Records:
        """See `source.Source`: a record is the path of a picture, a block a single one."""
        paths = tf.constant(self.stored[IMAGE].paths, tf.string)
        sizes = np.ones(len(self), np.int64)
        return Records(
            sizes, lambda block: tf.data.Dataset.from_tensors(paths[block]), self._decode, mixed_blocks=_MIXED_FILES
        )

    def __len__(self) -> int:
        return len(self.table)

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """See `source.Source`."""
        if set(names).isdisjoint(self.stored):
            return self.table.chunks(names)
        return self.records.chunks(names, self.where)

    def where(self, index: int) -> str:
        """See `source.Source`."""
        return f"{self.table.where(index)} ({os.fsdecode(self.stored[IMAGE].paths[index])})"

    def fingerprint(self) -> str:
        """See `source.Source`."""
        paths = [os.fsdecode(path) for each in self.stored.values() for path in each.paths if path]
        return f"{self.table.fingerprint()} {source.of_files(paths)}"

    def resized(self, sizes: Mapping[str, Resize]) -> "TableOfImages":
        """See `source.Source`."""
        return dataclasses.replace(self, sizes=sizes)

    def rows(self, chosen: np.ndarray) -> "TableOfImages":
        """The split of these rows alone, in this order."""
        stored = {name: dataclasses.replace(each, paths=each.paths[chosen]) for name, each in self.stored.items()}
        return dataclasses.replace(self, table=self.table.rows(chosen), stored=stored)

    def without_undecodable(self) -> "TableOfImages":
        """The split without the rows of which a picture does not decode."""
        decodes = np.ones(len(self), bool)
        for each in self.stored.values():
            for row, path in enumerate(each.paths):
                if path:
                    with open(path, "rb") as file:
                        decodes[row] &= pictures.decodes(file.read(), each.spec.shape[-1], self.options)
        return dataclasses.replace(self.rows(np.flatnonzero(decodes)), skipped=int(np.sum(~decodes)))

    def _decode(self, serialized: tf.Tensor, indices: tf.Tensor, names: Sequence[str]) -> dict[str, tf.Tensor]:
        del serialized
        found = {}
        for name in names:
            array = self.stored[name].paths if name in self.stored else self.table.arrays[name]
            with tf.init_scope():  # not a part of the graph, whose size is limited
                column = tf.constant(array, tf.string if array.dtype == object else None)
            values = tf.gather(column, indices)
            found[name] = self._pictures(name, values) if name in self.stored else values
        return found

    def _pictures(self, name: str, paths: tf.Tensor) -> tf.Tensor:
        stored, size = self.stored[name], self.sizes.get(name)
        there = paths if stored.stand_in is None else tf.where(paths == "", tf.constant(stored.stand_in), paths)
        decoded = pictures.decode(tf.map_fn(tf.io.read_file, there), stored.spec, size, self.options, stored.indices)
        if stored.stand_in is None:
            return decoded
        spec = stored.sized(size)
        absent = tf.constant(ABSENT_INTEGER if spec.dtype.is_integer else np.nan, spec.dtype)
        return tf.where((paths == "")[:, tf.newaxis, tf.newaxis, tf.newaxis], absent, tf.cast(decoded, spec.dtype))
