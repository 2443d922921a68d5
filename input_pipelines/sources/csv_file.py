"""One CSV file as a table of text, and the reason, with its row and column, where it cannot be read."""

import codecs
import csv
import dataclasses
import gzip
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pyarrow
import pyarrow.compute
import pyarrow.csv

from trainer.common import schema
from trainer.common.errors import ConfigError, first_line
from trainer.common.schema import setting

Value = TypeVar("Value")

BLOCKS = (2**24, 2**28, 2**31 - 1)  # bytes read at a time; a row must fit
FAILURES = (pyarrow.ArrowException, OSError, EOFError, ValueError)
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_OTHER_DELIMITERS = ";\t|"


def _character(value: Any, field: str) -> str:
    """One character of ASCII that a field does not need itself."""
    if not isinstance(value, str) or len(value) != 1 or not value.isascii() or value in '"\r\n\0':
        raise ConfigError(field, value, "must be one ASCII character between fields (';', '\\t'), no quotation mark")
    return value


def _mark(value: Any, field: str) -> str:
    """One character of ASCII, or empty text for none."""
    if not isinstance(value, str) or len(value) > 1 or not value.isascii() or value in ("\r", "\n", "\0"):
        raise ConfigError(field, value, "must be one ASCII character, or '' for none")
    return value


def _encoding(value: Any, field: str) -> str:
    """A text encoding that Python knows."""
    try:
        "".encode(schema.string(value, field))  # unlike those that make no text of bytes, such as 'hex'
        return codecs.lookup(value).name
    except LookupError as error:
        raise ConfigError(field, value, "must be an encoding, such as 'utf-8', 'latin-1', 'utf-16'") from error


def _text(value: Any, field: str) -> str:
    """Any text; numbers are written out."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ConfigError(field, value, "must be text as it stands in the file")
    return str(value).strip()


@dataclasses.dataclass(frozen=True)
class Options:
    """The way in which a file is written, and the texts in it that mean that there is no value.

    Attributes:
      delimiter: the character between fields.
      quote: the character around fields that hold a delimiter; empty: quotation marks are text.
      escape: the character before one that has no special meaning; empty: none.
      decimal: the decimal point of numbers.
      encoding: the file's encoding.
      header: whether the first row holds the names of the columns.
      names: names of the columns, in place of the header's.
      skip_rows: lines before the header (or before the first row, where there is none).
      null_values: texts that mean no value, in any column. None: the usual ones, in columns of numbers.
    """

    delimiter: str = setting(_character, ",")
    quote: str = setting(_mark, '"')
    escape: str = setting(_mark, "")
    decimal: str = setting(schema.choice("decimal point", (".", ",")), ".")
    encoding: str = setting(_encoding, "utf-8")
    header: bool = setting(schema.boolean, True)
    names: list[str] | None = setting(schema.optional(schema.sequence(schema.string)), None)
    skip_rows: int = setting(schema.integer(0), 0)
    null_values: list[str] | None = setting(schema.optional(schema.sequence(_text)), None)

    @property
    def first_row(self) -> int:
        """The number of the first row of values, counted from 1."""
        return self.skip_rows + self.header + 1


@dataclasses.dataclass
class Ragged:
    """The first row of another length than the header's, where there is one."""

    row: pyarrow.csv.InvalidRow | None = None

    def note(self, row: pyarrow.csv.InvalidRow) -> str:
        """Keeps the first such row and refuses it, for pyarrow."""
        if self.row is None:
            self.row = row
        return "error"

    def skip_with_delimiter(self, delimiter: str) -> Callable[[pyarrow.csv.InvalidRow], str]:
        """Does the same, but leaves out a row that ends with a delimiter which the header lacks."""

        def skip_longer(row: pyarrow.csv.InvalidRow) -> str:
            self.note(row)
            longer = row.actual_columns == row.expected_columns + 1 and row.text.rstrip("\r\n").endswith(delimiter)
            return "skip" if longer else "error"

        return skip_longer

    def reason(self) -> str:
        """Says how the row is wrong."""
        number = "" if self.row.number is None else f"row {self.row.number}: "
        counts = f"has {self.row.actual_columns} fields where the header has {self.row.expected_columns}"
        lines = self.row.text.count("\n")
        over = f", over {lines + 1} lines; is a quotation mark in it a stray one? options.quote='' reads it as text"
        return number + counts + (over if lines else "")


def read(path: str, options: Options, field: str) -> pyarrow.Table:
    """The table of a file, every column as text (empty fields are null), without nameless columns that are empty.

    Raises:
      ConfigError: it is no CSV file, or has a row of another length; naming the row and, of bytes that are no text, the
        column.
    """
    ragged = Ragged()
    try:
        try:
            table = _read(path, options, ragged, threads=True)
        except FAILURES:  # again, since rows have numbers only where one thread reads them
            table = _read(path, options, ragged, threads=False)
        columns = zip(table.column_names, table.columns, strict=True)
    except FAILURES as error:
        raise unreadable(path, options, ragged, f"{field}.path", error) from error
    kept = [index for index, (name, column) in enumerate(columns) if name or column.null_count < len(column)]
    only = table.column_names[0] if table.num_columns == 1 else ""
    other = next((mark for mark in _OTHER_DELIMITERS if mark in only and mark != options.delimiter), None)
    if other is not None:
        reason = f"is not in the header of {path}, {only[:40]!r}; is it {other!r}?"
        raise ConfigError(f"{field}.options.delimiter", options.delimiter, reason)
    return table if len(kept) == table.num_columns else table.select(kept)


def unreadable(path: str, options: Options, ragged: Ragged, field: str, error: Exception) -> ConfigError:
    """Returns the error for a file that pyarrow cannot read."""
    reason = _undecodable(path, options) or (first_line(error) if ragged.row is None else ragged.reason())
    return ConfigError(field, path, f"is no readable CSV file: {reason}")


def _read(path: str, options: Options, ragged: Ragged, *, threads: bool) -> pyarrow.Table:
    """The file's table; where every row ends with a delimiter that the header lacks, with a column more."""
    ragged.row = None
    skip_longer, names = ragged.skip_with_delimiter(options.delimiter), options.names
    table = _parsed(path, options, names, skip_longer, threads)
    if ragged.row is not None and not table.num_rows:
        ragged.row = None
        table = _parsed(path, options, [*table.column_names, ""], skip_longer, threads)
    if ragged.row is not None:
        raise ValueError("rows of different lengths")
    if options.header or names:
        return table
    return table.rename_columns([f"column_{index}" for index in range(table.num_columns)])


def _parsed(path: str, options: Options, names: Sequence[str] | None, handler: Any, threads: bool) -> pyarrow.Table:
    return with_larger_blocks(
        lambda block: pyarrow.csv.read_csv(path, **settings(options, names, handler, threads=threads, block=block))
    )


def with_larger_blocks(function: Callable[[int], Value], smallest: int = BLOCKS[0]) -> Value:
    """Returns what a function of the bytes read at a time does, with more of them where a row does not fit."""
    for block in (smallest, *(block for block in BLOCKS if block > smallest)):
        try:
            return function(block)
        except pyarrow.ArrowInvalid as error:
            if "block" not in str(error) or block == BLOCKS[-1]:
                raise
    raise AssertionError  # the loop returns or raises


def settings(
    options: Options,
    names: Sequence[str] | None,
    handler: Any,
    *,
    threads: bool,
    block: int,
    columns: Sequence[str] = (),
) -> dict[str, Any]:
    """Arguments of pyarrow's readers; of the columns these alone are read, where there are any."""
    return {
        "read_options": pyarrow.csv.ReadOptions(
            use_threads=threads,
            block_size=block,
            encoding=options.encoding,
            skip_rows=options.skip_rows + (options.header and names is not None),
            column_names=names,
            autogenerate_column_names=not options.header and names is None,
        ),
        "parse_options": pyarrow.csv.ParseOptions(
            delimiter=options.delimiter,
            quote_char=options.quote or False,
            escape_char=options.escape or False,
            newlines_in_values=True,
            invalid_row_handler=handler,
        ),
        "convert_options": pyarrow.csv.ConvertOptions(
            null_values=[""],
            strings_can_be_null=True,
            default_column_type=pyarrow.string(),
            include_columns=list(columns),
        ),
    }


def _undecodable(path: str, options: Options) -> str | None:
    """The row and column of the first text that is not in the file's encoding; None where there is none."""
    opened = gzip.open if path.endswith(".gz") else open
    settings = {"delimiter": options.delimiter, "quoting": csv.QUOTE_MINIMAL if options.quote else csv.QUOTE_NONE}
    settings |= {"quotechar": options.quote or None, "escapechar": options.escape or None}
    names = options.names
    try:
        with opened(path, "rb") as file:
            if file.read(2) in _UTF_16 and options.encoding == "utf-8":
                return "it begins as UTF-16 does; options.encoding='utf-16' reads it"
        with opened(path, "rt", encoding="latin-1", newline="") as file:
            rows = csv.reader(file, **settings)
            for number, row in enumerate((row for row in rows if row), 1):
                if names is None and number > options.skip_rows:
                    names = row
                for index, text in enumerate(row):
                    if not _decodes(text, options.encoding):
                        column = names[index] if names and index < len(names) else f"{index + 1}"
                        return (
                            f"row {number}, column {column!r} is not in {options.encoding}; options.encoding names the "
                            "file's encoding ('latin-1', 'cp1252', 'utf-16')"
                        )
    except (OSError, EOFError, csv.Error):
        pass
    return None


def _decodes(text: str, encoding: str) -> bool:
    try:
        text.encode("latin-1").decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
