"""The protocol of one split of a source: named features of every example, before anything is made of them."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

from input_pipelines import part_settings
from input_pipelines.configuration import TRAIN, VALIDATION, SourceConfig
from input_pipelines.preparation.picture_operations import Resize
from input_pipelines.sources import file_samples, folders, repeated_files
from trainer.common import patterns
from trainer.common.errors import ConfigError, listed, reason_of

ABSENT_INTEGER = np.iinfo(np.int64).min
CHUNK = 4096  # examples that are read, prepared and learned from at a time
_OPENED = 1000


class Source(Protocol):
    """One split of a source.

    Attributes:
      features: feature → `tf.TensorSpec` of one example; nested ones as `a/b`.
      classes: feature → the names of its classes, where it has them.
      records: how to read it record by record; None: only as a whole.
      optional: features that an example may lack: NaN, `ABSENT_INTEGER` or no text.
      skipped: how many examples were left out because they do not decode.
      notes: lines for the user about how the split was read.
    """

    features: Mapping[str, tf.TensorSpec]
    classes: Mapping[str, Sequence[str]]
    records: "Records | None"
    optional: frozenset[str]
    skipped: int
    notes: tuple[str, ...]

    def __len__(self) -> int:
        """The number of examples."""

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """These features of all examples in order, some thousand examples at a time.

        Raises:
          ConfigError: naming the file and the record that cannot be read.
        """

    def where(self, index: int) -> str:
        """The file and the row or record of an example, in words."""

    def fingerprint(self) -> str:
        """Changes when the data do."""

    def resized(self, sizes: Mapping[str, Resize]) -> "Source":
        """The split with pictures of some features at a size of their own; for those whose size varies."""


@dataclasses.dataclass(frozen=True)
class Records:
    """Serialized examples in blocks that can be read one by one, in any order.

    Attributes:
      sizes: (blocks,) int64, examples of each block; in the order of the split.
      read: `read(block)`, a scalar int64 tensor → a dataset of its serialized examples, scalar strings, in order.
      decode: `decode(serialized, indices, names)`, (examples,) strings and their int64 places in the split → feature →
        tensor, batch first. Runs in a graph.
      mixed_blocks: how many blocks, drawn from all over the split, are shuffled together.
      explain: `explain(serialized, names)`, bytes that `decode` fails on → the reason; None where it has none to add.
    """

    sizes: np.ndarray
    read: Callable[[tf.Tensor], tf.data.Dataset]
    decode: Callable[[tf.Tensor, tf.Tensor, Sequence[str]], dict[str, tf.Tensor]]
    mixed_blocks: int
    explain: Callable[[bytes, Sequence[str]], str | None] = lambda serialized, names: None

    @property
    def starts(self) -> np.ndarray:
        """(blocks,) int64: the place in the split of each block's first example."""
        return np.cumsum(self.sizes) - self.sizes

    def in_order(self) -> tf.data.Dataset:
        """Every serialized example, in the order of the split."""
        return tf.data.Dataset.range(len(self.sizes)).flat_map(self.read)

    def keeping(self, kept: np.ndarray) -> "Records":
        """Returns these records without the examples for which `kept`, (examples,) bool, is False."""
        sizes = np.add.reduceat(kept.astype(np.int64), self.starts)
        blocks = np.flatnonzero(sizes)  # a window of nothing could not be read
        starts, keep, chosen = tf.constant(self.starts), tf.constant(kept), tf.constant(blocks)

        def read(block: tf.Tensor) -> tf.data.Dataset:
            before = chosen[block]
            remaining = self.read(before).enumerate(starts[before]).filter(lambda index, _: keep[index])
            return remaining.map(lambda _, serialized: serialized)

        return dataclasses.replace(self, sizes=sizes[blocks], read=read)

    def chunks(
        self, names: Sequence[str], where: Callable[[int], str], size: int = CHUNK
    ) -> Iterator[dict[str, np.ndarray]]:
        """As `Source.chunks`, with `size` examples at a time."""
        decode = tf.function(lambda serialized, indices: self.decode(serialized, indices, names), autograph=False)
        first = 0
        try:
            for serialized in self.in_order().batch(size).prefetch(1):
                indices = tf.range(first, first + len(serialized), dtype=tf.int64)
                yield {name: values.numpy() for name, values in decode(serialized, indices).items()}
                first += len(serialized)
        except tf.errors.OpError as error:
            found = self.first_unreadable(first, names)
            index, reason = (first, reason_of(error)) if found is None else found
            raise ConfigError(where(index), ConfigError.ABSENT, reason) from error

    def first_unreadable(self, start: int, names: Sequence[str]) -> tuple[int, str] | None:
        """(place in the split, reason) of the first example from `start` on that cannot be read or decoded."""
        decode = tf.function(lambda serialized, indices: self.decode(serialized, indices, names), autograph=False)
        block = int(np.searchsorted(self.starts, start, side="right")) - 1
        for each in range(block, len(self.sizes)):
            place, serialized = int(self.starts[each]), tf.constant(b"")
            try:
                # Within another dataset: one of TFRecords with an offset cannot be iterated by itself.
                for serialized in tf.data.Dataset.from_tensors(np.int64(each)).flat_map(self.read):
                    decode(serialized[tf.newaxis], tf.constant([place], tf.int64))
                    place, serialized = place + 1, tf.constant(b"")
            except (tf.errors.OpError, ValueError) as error:
                return place, self.reason(serialized, names, error)
        return None

    def reason(self, serialized: tf.Tensor, names: Sequence[str], error: Exception) -> str:
        """The reason why these features of a record, a string scalar, cannot be used; empty where it was not read."""
        record = serialized.numpy()
        return (self.explain(record, names) if record else None) or reason_of(error)


@dataclasses.dataclass(frozen=True)
class Arrays:
    """A split that is held as arrays, one entry per example: rows of a CSV file, the arrays of an NPZ file.

    Attributes:
      arrays: feature → array of numbers, or of text as bytes objects.
      row: `row(index)` → where an example stands, in words.
      classes: feature → the names of its classes.
      optional: features of whole numbers that an example may lack, `ABSENT_INTEGER` then.
      notes: lines for the user.
    """

    arrays: Mapping[str, np.ndarray]
    row: Callable[[int], str]
    classes: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    records: None = None
    optional: frozenset[str] = frozenset()
    skipped: int = 0
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def features(self) -> Mapping[str, tf.TensorSpec]:
        """Feature → specification of one example."""
        return {
            name: tf.TensorSpec(array.shape[1:], tf.string if array.dtype == object else tf.as_dtype(array.dtype))
            for name, array in self.arrays.items()
        }

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """As `Source.chunks`."""
        for first in range(0, len(self), CHUNK):
            yield {name: self.arrays[name][first : first + CHUNK] for name in names}

    def where(self, index: int) -> str:
        """As `Source.where`."""
        return self.row(index)

    def fingerprint(self) -> str:
        """As `Source.fingerprint`: of every value."""
        return of_arrays(self.arrays)

    def resized(self, sizes: Mapping[str, Resize]) -> "Arrays":
        """As `Source.resized`; arrays have one size."""
        return self

    def rows(self, chosen: np.ndarray) -> "Arrays":
        """The split of these rows alone, in this order."""
        arrays = {name: array[chosen] for name, array in self.arrays.items()}
        return dataclasses.replace(self, arrays=arrays, row=lambda index: self.row(int(chosen[index])))


def of_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """A fingerprint of every value of some arrays."""
    digest = hashlib.blake2b(digest_size=16)
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(b"\0".join(array.ravel()) if array.dtype == object else np.ascontiguousarray(array).data)
    return digest.hexdigest()


def of_files(paths: Sequence[str]) -> str:
    """A fingerprint of files: their names, sizes and samples of what they hold (all of it in files up to 1 MiB).

    Of more than a thousand files, names and sizes alone.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        size = os.path.getsize(path)
        digest.update(f"{os.path.basename(path)} {size}".encode())
        if len(paths) > _OPENED:
            continue
        for sample in file_samples.samples(path):
            digest.update(sample)
    return digest.hexdigest()


def find(config: SourceConfig, field: str, default: str) -> dict[str, list[str]]:
    """Split → its files, pattern by pattern, those of each sorted by name.

    Args:
      config: the source: a folder and, for each split, names or patterns (`train-*.csv`) of files in it. Without
        splits they go by their names, `train...` beside `validation...`, `val...` or `test...`; where none is so named,
        all of them, or the one file that `path` is, are the training split.
      field: the configuration's key of the source.
      default: a pattern.

    Raises:
      ConfigError: a pattern that no file has, with the files that are there; or a file that would be read twice.
    """
    if not tf.io.gfile.exists(config.path):
        raise ConfigError(f"{field}.path", config.path, "does not exist")
    if tf.io.gfile.isdir(config.path):
        wanted = config.splits or _by_name(config.path, default)
        found = {name: _matching(f"{field}.splits.{name}", config.path, names) for name, names in wanted.items()}
        if not config.may_overlap:
            parted = bool(part_settings.made(config.held_out, config.fold))
            repeated_files.refuse(found, field, parted=parted)
        return found
    if config.splits:
        raise ConfigError(f"{field}.path", config.path, "is a file; splits name files of a folder")
    return {TRAIN: [config.path]}


def splits_by_name(
    is_there: Callable[[str], object], meant_to_validate: Sequence[str] = (VALIDATION, "val", "test")
) -> dict[str, str]:
    """Split → name of what it is made of, where none is given: `train`, and the first that is there to validate on."""
    held_out = [name for name in meant_to_validate if is_there(name)]
    return {TRAIN: TRAIN} | ({VALIDATION: held_out[0]} if held_out else {})


def _by_name(path: str, default: str) -> dict[str, list[str]]:
    def is_there(start: str) -> bool:
        return bool(files_in(path, start + default))

    if not is_there(TRAIN):
        return {TRAIN: [default]}
    return {split: [start + default] for split, start in splits_by_name(is_there).items()}


def files_in(path: str, pattern: str) -> list[str]:
    """The files within a folder that a pattern matches; of a pattern that is a file's own name, that one alone."""
    exact = os.path.join(path, pattern)
    if tf.io.gfile.exists(exact):
        found = [exact]
    else:
        matching = tf.io.gfile.glob(os.path.join(patterns.escaped(path), pattern))
        found = [file for file in matching if not folders.is_hidden(os.path.basename(file))]
    return sorted(file for file in found if not tf.io.gfile.isdir(file))


def _matching(field: str, path: str, names: Sequence[str]) -> list[str]:
    root = tf.io.gfile
    files = []
    for pattern in names:
        matching = files_in(path, pattern)
        if not matching:
            there = listed(root.listdir(path), pattern)
            raise ConfigError(field, pattern, f"is no file in {path}; it holds: {there}")
        files += matching
    return list(dict.fromkeys(files))
