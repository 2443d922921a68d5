"""CSV files with a header, plain or compressed (`.csv.gz`): a row is an example, a column a feature.

A column of numbers is a feature of numbers (an empty field is NaN); any other column is text as it stands in the file,
spaces around it removed. The type of a column is that of the training split.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.csv

from input_pipelines.configuration import TRAIN, SourceConfig
from input_pipelines.registry import FILES
from input_pipelines.sources import source
from input_pipelines.sources.source import Arrays
from trainer.common import schema
from trainer.common.errors import ConfigError, first_line, unknown
from trainer.common.schema import setting

_FIRST_ROW = 2  # the header is row 1


def _character(value: Any, field: str) -> str:
    """One character of ASCII that a field does not need itself."""
    if not isinstance(value, str) or len(value) != 1 or not value.isascii() or value in '"\r\n\0':
        raise ConfigError(field, value, "must be one ASCII character between fields (';', '\\t'), no quotation mark")
    return value


@dataclasses.dataclass(frozen=True)
class Options:
    """The character between fields."""

    delimiter: str = setting(_character, ",")


def open_splits(config: SourceConfig, field: str) -> dict[str, Arrays]:
    """The splits of `config.splits`, each one file or several after one another; `path` alone is the training split.

    Raises:
      ConfigError: a file that is missing, is not CSV or has a row of another length, naming file and row; or splits
        with other columns.
    """
    options = schema.record(Options)(config.options, f"{field}.options")
    files = source.find(config, field, FILES["csv"])
    tables = {name: [_read(path, options, field) for path in paths] for name, paths in files.items()}
    first = tables[TRAIN if TRAIN in tables else next(iter(tables))][0]
    for name, paths in files.items():
        for path, table in zip(paths, tables[name], strict=True):
            _check_columns(f"{field}.splits.{name}", path, table, first.column_names)
    training = tables.get(TRAIN, [first])
    types = {}
    for column in first.column_names:
        everywhere = [table[column] for of_split in tables.values() for table in of_split]
        types[column] = _type([table[column] for table in training], everywhere)
    for name, paths in files.items():
        of_split = zip(paths, tables[name], strict=True)
        tables[name] = [_with_text(path, table, types, options, field) for path, table in of_split]
    return {name: _arrays(files[name], tables[name], types, f"{field}.splits.{name}") for name in files}


def _read(path: str, options: Options, field: str, text: Sequence[str] = ()) -> pyarrow.Table:
    """A file's table, columns of types that fit; or only its columns `text`, as text."""
    ragged: list[pyarrow.csv.InvalidRow] = []

    def remember(row: pyarrow.csv.InvalidRow) -> str:
        ragged.append(row)
        return "error"

    try:
        return pyarrow.csv.read_csv(
            path,
            # Rows have numbers only where one thread reads them.
            read_options=pyarrow.csv.ReadOptions(use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=options.delimiter, newlines_in_values=True, invalid_row_handler=remember
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                null_values=["", "NaN", "nan"],
                true_values=[],
                false_values=[],
                column_types=dict.fromkeys(text, pyarrow.string()),
                include_columns=text,
            ),
        )
    except (pyarrow.ArrowException, OSError, EOFError, ValueError) as error:
        reason = first_line(error)
        if ragged:
            row = ragged[0]
            number = "" if row.number is None else f"row {row.number}: "
            reason = f"{number}has {row.actual_columns} fields where the header has {row.expected_columns}"
        raise ConfigError(f"{field}.path", path, f"is no readable CSV file: {reason}") from error


def _with_text(
    path: str, table: pyarrow.Table, types: Mapping[str, np.dtype], options: Options, field: str
) -> pyarrow.Table:
    """The table with columns that are text as they stand in the file, which a number (007) or a date would not."""
    changed = [
        column for column, dtype in types.items() if dtype.kind == "O" and table[column].type != pyarrow.string()
    ]
    if changed:
        as_text = _read(path, options, field, changed)
        for column in changed:
            table = table.set_column(table.column_names.index(column), column, as_text[column])
    return table


def _check_columns(field: str, path: str, table: pyarrow.Table, expected: Sequence[str]) -> None:
    if not table.num_rows:
        raise ConfigError(field, path, "holds no row below its header")
    for index, column in enumerate(table.column_names):
        if column in table.column_names[:index]:
            raise ConfigError(field, path, f"has two columns {column!r}")
        if column not in expected:
            raise unknown(field, path, f"column {column!r} (not in the first training file)", expected, name=column)
    for column in expected:
        if column not in table.column_names:
            raise unknown(field, path, f"table without column {column!r}", table.column_names, name=column)


def _type(training: Sequence[pyarrow.ChunkedArray], everywhere: Sequence[pyarrow.ChunkedArray]) -> np.dtype:
    """Returns a column's dtype: object (text) where the training split has text, else int64 or float64."""
    if not all(_is_number(column.type) for column in training):
        return np.dtype(object)
    whole = all(pyarrow.types.is_integer(column.type) and not column.null_count for column in everywhere)
    return np.dtype(np.int64 if whole else np.float64)


def _is_number(kind: pyarrow.DataType) -> bool:
    return pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind) or pyarrow.types.is_null(kind)


def _arrays(paths: Sequence[str], tables: Sequence[pyarrow.Table], types: Mapping[str, np.dtype], field: str) -> Arrays:
    arrays = {}
    for column, dtype in types.items():
        parts = []
        for path, table in zip(paths, tables, strict=True):
            if dtype.kind != "O" and not _is_number(table[column].type):
                index, text = _first_text(table[column])
                raise ConfigError(
                    field,
                    f"{path}, row {index + _FIRST_ROW}",
                    f"column {column!r} holds {text!r}; in the training split it holds numbers alone",
                )
            parts.append(_values(table[column], dtype))
        arrays[column] = np.concatenate(parts)
    return Arrays(arrays, functools.partial(_where, paths, np.cumsum([table.num_rows for table in tables])))


def _values(column: pyarrow.ChunkedArray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "O":
        # Equal texts are one object, which is faster to make and smaller.
        encoded = column.dictionary_encode().unify_dictionaries()
        names = pyarrow.compute.utf8_trim_whitespace(encoded.chunk(0).dictionary).to_pylist()
        indices = np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])
        return np.array([name.encode() for name in names], object)[indices]
    return column.cast(pyarrow.float64() if dtype.kind == "f" else pyarrow.int64()).to_numpy().astype(dtype)


def _first_text(column: pyarrow.ChunkedArray) -> tuple[int, str]:
    for index, text in enumerate(column.cast(pyarrow.string()).to_pylist()):
        try:
            float(text or 0)
        except ValueError:
            return index, text
    return 0, column.type


def _where(paths: Sequence[str], ends: np.ndarray, index: int) -> str:
    file = int(np.searchsorted(ends, index, side="right"))
    start = 0 if file == 0 else int(ends[file - 1])
    return f"{paths[file]}, row {index - start + _FIRST_ROW}"
