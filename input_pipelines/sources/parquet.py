"""Parquet files: a row is an example, a column a feature; read by row groups, so that they can be streamed.

Numbers are numbers (whole ones int64, absent ones NaN), text and categories are text, dates and times text as in ISO
8601, lists of numbers vectors, if all are of one length; columns in a structure `a` are features `a/b`.
"""

import collections
import dataclasses
import functools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from input_pipelines.configuration import TRAIN, SourceConfig
from input_pipelines.preparation.picture_operations import Resize
from input_pipelines.registry import FILES
from input_pipelines.sources import arrow_columns, packed_rows, row_groups, source
from input_pipelines.sources.arrow_columns import Column
from input_pipelines.sources.row_groups import Blocks, File
from input_pipelines.sources.source import CHUNK, Arrays, Records
from trainer.common import patterns
from trainer.common.errors import ConfigError, listed, unknown

_MIXED_BLOCKS = 16  # in a window


@dataclasses.dataclass(frozen=True)
class Parquet:
    """One split (see `source.Source`).

    Attributes:
      blocks: of its rows.
      columns: feature → how its values are held.
      used: features that are read while streaming.
      window: examples of a window.
      kept: (rows,) bool, those that are in the split; None: all.
      notes: lines for the user.
    """

    blocks: Blocks
    columns: Mapping[str, Column]
    used: tuple[str, ...]
    window: int
    kept: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    classes: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    skipped: int = 0

    @functools.cached_property
    def features(self) -> Mapping[str, tf.TensorSpec]:
        """See `source.Source`."""
        return {
            name: tf.TensorSpec(each.shape, tf.string if each.dtype.kind == "O" else tf.as_dtype(each.dtype))
            for name, each in self.columns.items()
        }

    @property
    def optional(self) -> frozenset[str]:
        """See `source.Source`."""
        return frozenset(name for name, each in self.columns.items() if each.optional)

    @functools.cached_property
    def records(self) -> Records:
        """See `source.Source`: a record is a row of the features that are used, a block some row groups."""
        columns = {name: self.columns[name] for name in self.used}
        layout = packed_rows.layout({name: (each.dtype, each.shape) for name, each in columns.items()})

        def packed(block: np.ndarray) -> np.ndarray:
            return layout.pack(self.blocks.read(int(block), columns))

        def read(block: tf.Tensor) -> tf.data.Dataset:
            # It holds no state, so that steps may share and drop it.
            rows = tf.numpy_function(packed, [block], tf.string, stateful=False)
            return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(rows, [None]))

        def decode(serialized: tf.Tensor, indices: tf.Tensor, names: Sequence[str]) -> dict[str, tf.Tensor]:
            del indices
            return layout.unpack(serialized, names)

        sizes = self.blocks.sizes
        records = Records(sizes, read, decode, max(1, -(-self.window // int(sizes.mean())) if len(sizes) else 1))
        return records if self.kept is None else records.keeping(self.kept)

    def __len__(self) -> int:
        return int(self.blocks.sizes.sum() if self.kept is None else self.kept.sum())

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """See `source.Source`."""
        columns, blocks, start = {name: self.columns[name] for name in names}, self.blocks.of_size(CHUNK), 0
        for block, size in enumerate(blocks.sizes.tolist()):
            arrays = blocks.read(block, columns)
            if self.kept is not None:
                arrays = {name: values[self.kept[start : start + size]] for name, values in arrays.items()}
            count = size if self.kept is None else int(self.kept[start : start + size].sum())
            start += size
            for first in range(0, count, CHUNK):
                yield {name: values[first : first + CHUNK] for name, values in arrays.items()}

    def where(self, index: int) -> str:
        """See `source.Source`."""
        return self.blocks.where(index if self.kept is None else int(np.flatnonzero(self.kept)[index]))

    def fingerprint(self) -> str:
        """See `source.Source`."""
        contents = source.of_files([file.path for file in self.blocks.files])
        return contents if self.kept is None else f"{contents} {source.of_arrays({'kept': self.kept})}"

    def resized(self, sizes: Mapping[str, Resize]) -> "Parquet":
        """See `source.Source`; vectors have one size."""
        return self

    def rows(self, chosen: np.ndarray) -> "Parquet":
        """The split of these rows alone, in the order of the files."""
        places = np.arange(int(self.blocks.sizes.sum())) if self.kept is None else np.flatnonzero(self.kept)
        kept = np.zeros(int(self.blocks.sizes.sum()), bool)
        kept[places[chosen]] = True
        return dataclasses.replace(self, kept=kept)

    def in_memory(self) -> Arrays:
        """The split as arrays."""
        names = list(self.columns)
        parts = list(self.chunks(names))
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in names}
        return Arrays(arrays, self.where, optional=self.optional, notes=self.notes)


def open_splits(config: SourceConfig, field: str) -> dict[str, Parquet]:
    """The splits of `config.splits`, each of any number of files; `path` alone is the training split.

    Raises:
      ConfigError: a file that is missing or is not Parquet, files with other columns or other types of them, or a
        configuration that names a column which cannot be a feature.
    """
    if config.options:
        raise unknown(f"{field}.options", config.options, "option", (), name=next(iter(config.options)))
    paths = source.find(config, field, FILES["parquet"])
    files = {
        name: [row_groups.open_file(path, f"{field}.splits.{name}") for path in of_split]
        for name, of_split in paths.items()
    }
    first = files[TRAIN if TRAIN in files else next(iter(files))][0]
    for name, of_split in files.items():
        for file in of_split:
            _check_columns(f"{field}.splits.{name}", file, first)
    readable = [name for name, kind in first.types.items() if arrow_columns.dtype_of(kind) is not None]
    _check_used(config, field, first, readable)
    everywhere = [file for of_split in files.values() for file in of_split if len(file.sizes)]
    targets = _made_of(config, readable, targets_alone=True)
    columns = {}
    for name in readable:
        column = _column(name, everywhere, field, as_labels=name in targets)
        if column is not None:
            columns[name] = column
    made_of = _made_of(config, list(columns))
    used = [name for name in columns if name in made_of] or list(columns)[:1]
    notes = _notes(config, field, first, columns, everywhere)
    return {
        name: Parquet(
            row_groups.blocks(of_split, max(1, config.window // _MIXED_BLOCKS)),
            columns,
            tuple(used),
            config.window,
            notes=notes if of_split[0] is first else (),
        )
        for name, of_split in files.items()
    }


def _check_columns(field: str, file: File, first: File) -> None:
    names = first.types
    double = [name for name, count in collections.Counter(file.schema.names).items() if count > 1]
    if double:
        raise ConfigError(field, file.path, f"has two columns {double[0]!r}")
    for name in file.types:
        if name not in names:
            raise unknown(field, file.path, f"column {name!r} (not in the first training file)", names, name=name)
    for name, kind in names.items():
        if name not in file.types:
            raise unknown(field, file.path, f"table without column {name!r}", file.types, name=name)
        own = file.types[name]
        if _kind(own) != _kind(kind) and "null" not in (str(own), str(kind)):
            raise ConfigError(
                field, file.path, f"column {name!r} holds {own}; in the first training file it holds {kind}"
            )


def _check_used(config: SourceConfig, field: str, first: File, readable: Collection[str]) -> None:
    """Raises ConfigError where the configuration names a column that is neither numbers nor text."""
    others = [name for name in first.types if name not in readable]
    for name in sorted(_made_of(config, others)) if config.inputs is not None else ():
        raise ConfigError(
            f"{field}.path", first.path, f"column {name!r} holds {first.types[name]}; read are numbers and text"
        )
    if not readable:
        raise ConfigError(f"{field}.path", first.path, "holds no column of numbers or text")


def _column(name: str, files: Sequence[File], field: str, *, as_labels: bool) -> Column | None:
    """A column as it is held, which fits all files; None for lists that are absent everywhere."""
    kinds = [file.types[name] for file in files]
    dtypes = [arrow_columns.dtype_of(kind) for kind in kinds if str(kind) != "null"]
    dtype = np.dtype(object) if object in dtypes else np.result_type(*dtypes) if dtypes else np.dtype(np.float64)
    shape: tuple[int, ...] | None = ()
    if any(map(arrow_columns.is_list, kinds)):
        shape = _shape(name, files, field)
        if shape is None:
            return None
    absent = dtype.kind in "bui" and any(name in file.optional or str(file.types[name]) == "null" for file in files)
    if not absent:
        return Column(dtype, shape)
    # Labels stay whole numbers, to be classes; among inputs NaN says that a number is absent.
    return Column(np.dtype(np.int64), shape, optional=True) if as_labels else Column(np.dtype(np.float64), shape)


def _shape(name: str, files: Sequence[File], field: str) -> tuple[int, ...] | None:
    for file in files:
        for group in range(len(file.sizes)):
            try:
                shape = arrow_columns.shape_of(arrow_columns.leaf(file.table([group], [name]), name))
            except row_groups.FAILURES as error:
                raise ConfigError(f"{field}.path", file.path, f"cannot be read: {error}") from error
            if shape is not None:
                return shape
    return None


def _kind(kind: object) -> str:
    """Numbers, text, vectors or neither, in a word."""
    dtype = arrow_columns.dtype_of(kind)
    if dtype is None:
        return str(kind)
    return "text" if dtype.kind == "O" else "vectors" if arrow_columns.is_list(kind) else "numbers"


def _made_of(config: SourceConfig, names: Sequence[str], *, targets_alone: bool = False) -> set[str]:
    """Those of some columns that targets (and their weights and inputs, unless targets alone count) are made of."""
    parts = dict(config.targets or {})
    found = set()
    if not targets_alone:
        if config.inputs is None:
            return set(names)
        found = {target.weight for target in parts.values()} & set(names)
    chosen = [*parts.items(), *(() if targets_alone else config.inputs.items())]
    for name, each in chosen:
        given = name if each.feature is None else each.feature
        for pattern in [given] if isinstance(given, str) else given:
            found.update(patterns.matching(names, pattern))
    return found


def _notes(
    config: SourceConfig, field: str, first: File, columns: Mapping[str, Column], files: Sequence[File]
) -> tuple[str, ...]:
    """Lines about columns that are no features, and about row groups that are larger than a window."""
    notes = []
    others = [f"{name} ({kind})" for name, kind in first.types.items() if name not in columns]
    if others:
        notes.append(f"{field}: columns of neither numbers nor text are left out: {listed(others, '')}")
    largest = max((int(file.sizes.max()) for file in files), default=0)
    of_row = sum(each.dtype.itemsize * math.prod(each.shape) for each in columns.values())
    too_large = config.feed == "auto" and of_row * sum(int(file.sizes.sum()) for file in files) > config.memory_limit
    if largest > config.window and (too_large or config.feed == "streaming"):
        reason = "each is read and shuffled as a whole; smaller row groups take less memory"
        notes.append(f"{field}: a row group has {largest} rows, more than window={config.window}: {reason}")
    return tuple(notes)
