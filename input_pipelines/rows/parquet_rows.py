"""The rows of Parquet files, read bit by bit: columns are of the types that they had in training."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow
import pyarrow.parquet
import tensorflow as tf

from input_pipelines.configuration import SourceConfig
from input_pipelines.preparation.preparation import Preparation
from input_pipelines.registry import FILES
from input_pipelines.remembered import Remembered
from input_pipelines.rows import rows
from input_pipelines.rows.rows import FIELD, Chunk
from input_pipelines.sources import arrow_columns, row_groups
from input_pipelines.sources.arrow_columns import Column, RowError
from input_pipelines.sources.row_groups import File
from input_pipelines.sources.source import CHUNK
from trainer.common.errors import ConfigError, first_line

_BUFFER_BYTES = 2**20  # read at a time of a column, so that a large row group need not fit in memory
_KINDS = {"O": "text", "i": "whole numbers", "u": "whole numbers", "f": "numbers", "b": "truth values"}


@dataclasses.dataclass(frozen=True)
class ParquetRows:
    """See `rows.Rows`.

    Attributes:
      files: in the order of the rows.
      types: feature → how its values are held.
      features: see `rows.Rows`.
    """

    files: Sequence[File]
    types: Mapping[str, Column]
    features: Mapping[str, tf.TensorSpec]
    records: None = None

    @property
    def columns(self) -> Sequence[str]:
        """See `rows.Rows`: those of the first file."""
        return tuple(self.files[0].types)

    @property
    def count(self) -> int:
        """See `rows.Rows`."""
        return sum(file.metadata.num_rows for file in self.files)

    def chunks(self, names: Sequence[str], kept: Sequence[str]) -> Iterator[Chunk]:
        """See `rows.Rows`; columns are kept as Arrow has them."""
        for file in self.files:
            first = 0
            for table in self._tables(file, list(dict.fromkeys([*names, *kept]))):
                found = {name: self._values(file, name, table, first) for name in names}
                yield Chunk(found, {name: arrow_columns.leaf(table, name) for name in kept})
                first += table.num_rows

    def where(self, index: int) -> str:
        """See `rows.Rows`; rows are counted from 0."""
        ends = list(itertools.accumulate(file.metadata.num_rows for file in self.files))
        number = int(np.searchsorted(ends, index, side="right"))
        return f"{self.files[number].path}, row {index - (ends[number - 1] if number else 0)}"

    def _tables(self, file: File, names: Sequence[str]) -> Iterator[pyarrow.Table]:
        """Some rows after one another, with the columns at the top that hold these; larger row groups in parts."""
        tops = list({arrow_columns.top(file.schema, name): None for name in names})
        try:
            with pyarrow.parquet.ParquetFile(file.path, metadata=file.metadata, buffer_size=_BUFFER_BYTES) as opened:
                for batch in opened.iter_batches(CHUNK, columns=tops):
                    yield pyarrow.Table.from_batches([batch])
        except row_groups.FAILURES as error:
            raise ConfigError(FIELD, file.path, f"cannot be read: {first_line(error)}") from error

    def _values(self, file: File, name: str, table: pyarrow.Table, first: int) -> np.ndarray:
        """A column of the rows from one of a file on."""
        held = self.types[name]
        values = arrow_columns.leaf(table, name)
        try:
            return arrow_columns.values_of(values, held)
        except RowError as error:
            at = f"{file.path}, row {first + error.row}, column {name!r}"
            raise ConfigError(FIELD, at, str(error)) from error
        except row_groups.FAILURES as error:
            at = f"{file.path}, column {name!r}"
            reason = f"holds {values.type}, not {_KINDS[held.dtype.kind]} as in training: {first_line(error)}"
            raise ConfigError(FIELD, at, reason) from error


def open_rows(config: SourceConfig, field: str, path: str, preparation: Preparation, kept: Remembered) -> ParquetRows:
    """The rows of a file, or of those in a folder, sorted by name.

    Args:
      config: not needed.
      field: not needed.
      path: the file or folder.
      preparation: of the rows.
      kept: not needed.

    Raises:
      ConfigError: there is no such file, or a column is not in it.
    """
    del config, field, kept
    files = [row_groups.open_file(each, FIELD) for each in rows.files_at(path, FILES["parquet"])]
    for file in files:
        rows.check_there(preparation, tuple(file.types), file.path)
    features = {name: preparation.source[name] for name in preparation.features}
    return ParquetRows(files, rows.needed(preparation), features)
