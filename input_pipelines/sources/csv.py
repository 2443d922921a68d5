"""CSV files, plain or compressed (`.csv.gz`): a row is an example, a column a feature.

A column of numbers is a feature of numbers (where a field is empty: NaN, or absent where all are whole); any other
column is text as it stands in the file, spaces around it removed. The type of a column is that of the training split.
"""

import collections
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow
import pyarrow.compute

from input_pipelines.configuration import TRAIN, SourceConfig
from input_pipelines.registry import FILES
from input_pipelines.sources import csv_columns, csv_file, source
from input_pipelines.sources.csv_columns import Numbers
from input_pipelines.sources.csv_file import Options
from input_pipelines.sources.source import Arrays
from trainer.common import schema
from trainer.common.errors import ConfigError, unknown


@dataclasses.dataclass(frozen=True)
class _Split:
    """The files of a split as one table of text.

    Attributes:
      field: the configuration's key.
      paths: its files.
      ends: (files,) int64, the place behind each file's last row.
      table: the columns in the order of the first training file.
      first_row: the number of a file's first row of values.
    """

    field: str
    paths: Sequence[str]
    ends: np.ndarray
    table: pyarrow.Table
    first_row: int

    def where(self, index: int) -> str:
        """The file and row of an example."""
        return _where(self.paths, self.ends, self.first_row, index)

    def place(self, column: str, text: str) -> str:
        """The file, row and column where a text first stands."""
        return f"{self.where(pyarrow.compute.index(self.table[column], text).as_py())}, column {column!r}"


def open_splits(config: SourceConfig, field: str) -> dict[str, Arrays]:
    """The splits of `config.splits`, each one file or several after one another; `path` alone is the training split.

    Raises:
      ConfigError: a file that is missing, is not CSV or has a row of another length, naming file and row; splits with
        other columns; or text where the training split has numbers.
    """
    options = schema.record(Options)(config.options, f"{field}.options")
    files = source.find(config, field, FILES["csv"])
    tables = {name: [csv_file.read(path, options, field) for path in paths] for name, paths in files.items()}
    expected = tables[TRAIN if TRAIN in tables else next(iter(tables))][0].column_names
    splits = {}
    for name, paths in files.items():
        at, of_split = f"{field}.splits.{name}", tables.pop(name)
        for path, table in zip(paths, of_split, strict=True):
            _check_columns(at, path, table, expected)
        together = pyarrow.concat_tables([table.select(expected) for table in of_split])
        ends = np.cumsum([table.num_rows for table in of_split])
        splits[name] = _Split(at, paths, ends, together, options.first_row)
    return _made_of(splits, options, field)


def _made_of(splits: Mapping[str, _Split], options: Options, field: str) -> dict[str, Arrays]:
    """Every split's columns as numbers or text."""
    train = TRAIN if TRAIN in splits else next(iter(splits))
    arrays: dict[str, dict[str, np.ndarray]] = {name: {} for name in splits}
    optional, notes, codes, broken = set(), {}, {}, []
    for column in splits[train].table.column_names:
        values = {name: csv_columns.without_codes(split.table[column], options) for name, split in splits.items()}
        found = csv_columns.numbers(values[train], options)
        if found is None or (found.codes and not found.some):
            for name, split in splits.items():
                arrays[name][column], lines = csv_columns.text(values[name])
                broken += [(split, column, text) for text in lines]
            notes |= dict.fromkeys(_nearly_numbers(splits[train], column, values[train], options, field))
            continue
        numbers = {name: _numbers(splits[name], column, values[name], options) for name in splits}
        whole = found.some and all(each.whole for each in numbers.values())
        if whole and any(each.values.null_count for each in numbers.values()):
            optional.add(column)
        for name, each in numbers.items():
            arrays[name][column] = each.array(whole=whole)
            codes |= {(column, code): splits[name].place(column, code) for code in each.codes}
    notes |= dict.fromkeys(_recognised(codes, field))
    of_numbers = [array.dtype != object for array in arrays[train].values()]
    notes |= dict.fromkeys(_swallowed(broken, of_numbers, options))
    header = _numbers_for_names(splits[train], options, field)
    lines = (*header, *notes)
    return {
        name: Arrays(
            arrays[name],
            functools.partial(_where, split.paths, split.ends, split.first_row),
            optional=frozenset(optional),
            notes=lines,
        )
        for name, split in splits.items()
    }


def _numbers(split: _Split, column: str, values: pyarrow.ChunkedArray, options: Options) -> Numbers:
    numbers = csv_columns.numbers(values, options)
    if numbers is None:
        index, text = csv_columns.first_text(values, options)
        reason = f"column {column!r} holds {text!r}; in the training split it holds numbers alone"
        raise ConfigError(split.field, split.where(index), reason)
    return numbers


def _check_columns(field: str, path: str, table: pyarrow.Table, expected: Sequence[str]) -> None:
    if not table.num_rows:
        raise ConfigError(field, path, "holds no row below its header")
    names = table.column_names
    counts, wanted = collections.Counter(names), set(expected)
    for column in names:
        if counts[column] > 1:
            raise ConfigError(field, path, f"has two columns {column!r}")
        if column not in wanted:
            raise unknown(field, path, f"column {column!r} (not in the first training file)", expected, name=column)
    for column in expected:
        if column not in counts:
            raise unknown(field, path, f"table without column {column!r}", names, name=column)


def _swallowed(
    broken: Sequence[tuple[_Split, str, str]], of_numbers: Sequence[bool], options: Options
) -> Iterator[str]:
    """A line for the user for the first text that holds whole rows: a stray quotation mark may have swallowed them.

    Args:
      broken: (split, column, text), texts of several lines.
      of_numbers: whether each column is of numbers.
      options: how the files are written.
    """
    for split, column, text in broken:
        index, width = split.table.column_names.index(column), len(of_numbers)
        lines = text.removesuffix("\n").split("\n")
        fields = options.delimiter.join(lines).split(options.delimiter)  # the first and the last lie in `column`
        at_end = text.endswith("\n")
        if len(lines) < 2 or len(fields) != (len(lines) - 1) * width + (width - index if at_end else 1):
            continue
        numbers = [field for place, field in enumerate(fields) if of_numbers[(index + place) % width]]
        if csv_columns.numbers(pyarrow.chunked_array([numbers], pyarrow.string()), options) is not None:
            yield (
                f"{split.place(column, text)} holds {len(lines)} lines that look like rows; if a quotation mark there "
                "is a stray one, options.quote='' reads it as text"
            )
            return


def _nearly_numbers(
    split: _Split, column: str, values: pyarrow.ChunkedArray, options: Options, field: str
) -> Iterator[str]:
    """A line for the user for a column that a few texts keep from being numbers."""
    texts = csv_columns.few_texts(values, options)
    if texts:
        yield (
            f"{split.place(column, texts[0])}: {texts[0]!r} makes text of a column that is numbers for the most part; "
            f"{field}.options.null_values={[text.strip() for text in texts]} makes it numbers"
        )


def _recognised(codes: Mapping[tuple[str, str], str], field: str) -> Iterator[str]:
    """A line for the user for each text that stands for a missing number, of (column, text) → first place."""
    places: dict[str, list[str]] = {}
    for (_, code), place in codes.items():
        places.setdefault(code.strip(), []).append(place)
    for code, of_code in places.items():
        more = f" and {len(of_code) - 1} more columns of numbers" if len(of_code) > 1 else ""
        yield (
            f"{of_code[0]}{more}: {code!r} is read as a missing number; "
            f"{field}.options.null_values says which texts are"
        )


def _numbers_for_names(split: _Split, options: Options, field: str) -> Iterator[str]:
    """A line for the user where the header looks like a row."""
    names = pyarrow.chunked_array([split.table.column_names], pyarrow.string())
    if options.header and options.names is None and csv_columns.numbers(names, options) is not None:
        yield f"{split.paths[0]}: the header holds numbers alone; if it is a row, {field}.options.header=False reads it"


def _where(paths: Sequence[str], ends: np.ndarray, first_row: int, index: int) -> str:
    file = int(np.searchsorted(ends, index, side="right"))
    start = 0 if file == 0 else int(ends[file - 1])
    return f"{paths[file]}, row {index - start + first_row}"
