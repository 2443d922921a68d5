"""The rows of CSV files, read bit by bit: columns are of the types that they had in training."""

import collections
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow
import pyarrow.compute
import tensorflow as tf

from input_pipelines.configuration import SourceConfig
from input_pipelines.preparation.preparation import Preparation
from input_pipelines.registry import FILES
from input_pipelines.remembered import Remembered
from input_pipelines.rows import rows
from input_pipelines.rows.rows import FIELD, Chunk
from input_pipelines.sources import csv_batches, csv_columns
from input_pipelines.sources.arrow_columns import Column
from input_pipelines.sources.csv_batches import Header
from input_pipelines.sources.csv_file import Options
from input_pipelines.sources.source import ABSENT_INTEGER, CHUNK
from trainer.common import schema
from trainer.common.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class CsvRows:
    """See `rows.Rows`.

    Attributes:
      files: path → its columns, in the order of the rows.
      options: how the files are written.
      types: feature → how its values are held.
      features: see `rows.Rows`.
      starts: of each file that has been begun, the place of its first row.
    """

    files: Mapping[str, Header]
    options: Options
    types: Mapping[str, Column]
    features: Mapping[str, tf.TensorSpec]
    starts: list[int] = dataclasses.field(default_factory=list)
    count: None = None
    records: None = None

    @property
    def columns(self) -> Sequence[str]:
        """See `rows.Rows`: those of the first file."""
        return next(iter(self.files.values())).names

    def chunks(self, names: Sequence[str], kept: Sequence[str]) -> Iterator[Chunk]:
        """See `rows.Rows`; columns are kept as the text that they are."""
        self.starts.clear()
        columns, first = list(dict.fromkeys([*names, *kept])), 0
        for path, header in self.files.items():
            self.starts.append(first)
            for batch in csv_batches.batches(path, self.options, header, columns, FIELD):
                features = {name: self._values(name, pyarrow.chunked_array([batch[name]]), first) for name in names}
                for start in range(0, batch.num_rows, CHUNK):
                    part = slice(start, start + CHUNK)
                    yield Chunk(
                        {name: values[part] for name, values in features.items()},
                        {name: batch[name][part] for name in kept},
                    )
                first += batch.num_rows

    def where(self, index: int) -> str:
        """See `rows.Rows`."""
        number = int(np.searchsorted(self.starts, index, side="right")) - 1
        path = next(itertools.islice(self.files, number, None))
        return f"{path}, row {index - self.starts[number] + self.options.first_row}"

    def _values(self, name: str, column: pyarrow.ChunkedArray, first: int) -> np.ndarray:
        """A column of the rows from a place on."""
        values, held = csv_columns.without_codes(column, self.options), self.types[name]
        if held.dtype.kind == "O":
            return csv_columns.text(values)[0]
        found = csv_columns.numbers(values, self.options)
        if found is None:
            row, text = csv_columns.first_text(values, self.options)
            raise self._error(name, first + row, f"holds {text!r}; in training it holds numbers alone")
        if held.dtype.kind == "f":
            return found.array(whole=False)
        numbers = found.array(whole=True) if found.whole else self._whole(name, found.array(whole=False), first)
        absent = np.flatnonzero(numbers == ABSENT_INTEGER)
        if absent.size and not held.optional:
            raise self._error(name, first + int(absent[0]), "is empty, which it never is in training")
        return numbers

    def _whole(self, name: str, numbers: np.ndarray, first: int) -> np.ndarray:
        fractions = np.flatnonzero(numbers % 1 > 0)  # NaN is absent
        if fractions.size:
            row = int(fractions[0])
            raise self._error(name, first + row, f"holds {numbers[row]}; in training it holds whole numbers alone")
        absent = np.isnan(numbers)
        return np.where(absent, ABSENT_INTEGER, np.where(absent, 0, numbers).astype(np.int64))

    def _error(self, name: str, index: int, reason: str) -> ConfigError:
        return ConfigError(FIELD, f"{self.where(index)}, column {name!r}", reason)


def open_rows(config: SourceConfig, field: str, path: str, preparation: Preparation, kept: Remembered) -> CsvRows:
    """The rows of a file, or of those in a folder, sorted by name.

    Args:
      config: the run's source.
      field: the configuration's key of it.
      path: the file or folder.
      preparation: of the rows.
      kept: not needed.

    Raises:
      ConfigError: there is no such file, or a column is not in it.
    """
    del kept
    options = schema.record(Options)(config.options, f"{field}.options")
    files = {each: csv_batches.header(each, options, FIELD) for each in rows.files_at(path, FILES["csv"])}
    for each, header in files.items():
        rows.check_there(preparation, header.names, each)
        double = [name for name, count in collections.Counter(header.names).items() if count > 1]
        if double and double[0] in preparation.features:
            raise ConfigError(FIELD, each, f"has two columns {double[0]!r}")
    features = {name: preparation.source[name] for name in preparation.features}
    return CsvRows(files, options, rows.needed(preparation), features)
