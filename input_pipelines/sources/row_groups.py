"""Parquet files read by row groups: which there are, and the columns of some of them."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow
import pyarrow.parquet

from input_pipelines.sources import arrow_columns
from input_pipelines.sources.arrow_columns import Column, RowError
from trainer.common.errors import ConfigError, first_line

FAILURES = (pyarrow.ArrowException, OSError, ValueError)


@dataclasses.dataclass(frozen=True)
class File:
    """A Parquet file.

    Attributes:
      path: of the file.
      metadata: its own description.
      schema: its columns.
    """

    path: str
    metadata: pyarrow.parquet.FileMetaData
    schema: pyarrow.Schema

    @functools.cached_property
    def types(self) -> dict[str, pyarrow.DataType]:
        """Column → its type."""
        return dict(arrow_columns.leaves(self.schema))

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """(row groups,) int64 rows."""
        groups = range(self.metadata.num_row_groups)
        return np.array([self.metadata.row_group(group).num_rows for group in groups], np.int64)

    @functools.cached_property
    def optional(self) -> frozenset[str]:
        """Columns in which a value may be absent, as far as the file's statistics say."""
        found = set()
        for group in range(self.metadata.num_row_groups):
            described = self.metadata.row_group(group)
            for index in range(described.num_columns):
                column = described.column(index)
                known = column.statistics
                if known is None or not known.has_null_count or known.null_count:
                    # Of a list, or within a structure, these are the names of what holds it, between dots.
                    found.update(itertools.accumulate(column.path_in_schema.split("."), "{}.{}".format))
        return frozenset(name for name in self.types if name.replace("/", ".") in found)

    def table(self, groups: Sequence[int], names: Sequence[str]) -> pyarrow.Table:
        """The columns at the top that hold these."""
        tops = list({arrow_columns.top(self.schema, name): None for name in names})
        with pyarrow.parquet.ParquetFile(self.path, metadata=self.metadata, memory_map=True) as file:
            return file.read_row_groups(list(groups), columns=tops)


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Row groups of files that are read together, in the order of the split.

    Attributes:
      files: of the split.
      places: (blocks, 4) int64: the number of the file, its first row group, the last, and the first's first row.
      sizes: (blocks,) int64 rows.
    """

    files: tuple[File, ...]
    places: np.ndarray
    sizes: np.ndarray

    def read(self, block: int, columns: Mapping[str, Column]) -> dict[str, np.ndarray]:
        """Column → (rows of the block, ...) values.

        Raises:
          ConfigError: a value that its column cannot hold, naming file, row and column; or the file cannot be read.
        """
        number, first, last, row = self.places[block].tolist()
        file, name = self.files[number], None
        try:
            table = file.table(range(first, last + 1), list(columns))
            found = {}
            for name, column in columns.items():
                found[name] = arrow_columns.values_of(arrow_columns.leaf(table, name), column)
            return found
        except RowError as error:
            at = f"{file.path}, row {row + error.row}, column {name!r}"
            raise ConfigError(at, ConfigError.ABSENT, str(error)) from error
        except FAILURES as error:
            at = file.path if name is None else f"{file.path}, column {name!r}"
            raise ConfigError(at, ConfigError.ABSENT, f"cannot be read: {first_line(error)}") from error

    def where(self, index: int) -> str:
        """The file and the row of an example, counted from 0."""
        ends = np.cumsum(self.sizes)
        block = int(np.searchsorted(ends, index, side="right"))
        number, _, _, row = self.places[block].tolist()
        return f"{self.files[number].path}, row {row + index - int(ends[block] - self.sizes[block])}"

    def of_size(self, rows: int) -> "Blocks":
        """The same row groups in blocks of `rows` rows or, where one is larger, of a single one."""
        return blocks(self.files, rows)


def open_file(path: str, field: str) -> File:
    """A file, of which only its description is read; raises ConfigError where it is no Parquet file."""
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            return File(path, file.metadata, file.schema_arrow)
    except FAILURES as error:
        raise ConfigError(field, path, f"is no readable Parquet file: {first_line(error)}") from error


def blocks(files: Sequence[File], rows: int) -> Blocks:
    """Blocks of row groups that follow one another in a file: as many as hold `rows` rows at most, one at least."""
    places, sizes = [], []
    for number, file in enumerate(files):
        row = 0
        for first, last in _together(file.sizes.tolist(), rows):
            size = int(file.sizes[first : last + 1].sum())
            if size:
                places.append((number, first, last, row))
                sizes.append(size)
            row += size
    return Blocks(tuple(files), np.array(places, np.int64).reshape(-1, 4), np.array(sizes, np.int64))


def _together(sizes: Sequence[int], rows: int) -> Iterator[tuple[int, int]]:
    """Yields the first and last of row groups that are read together."""
    first, together = 0, 0
    for group, size in enumerate(sizes):
        if group > first and together + size > rows:
            yield first, group - 1
            first, together = group, 0
        together += size
    if sizes:
        yield first, len(sizes) - 1
