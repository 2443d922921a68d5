"""One CSV file read bit by bit, as batches of text."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow
import pyarrow.csv

from input_pipelines.sources import csv_file

_BLOCK_BYTES = 2**21  # read at a time, where a row fits


class Header(NamedTuple):
    """The columns of a file that is read bit by bit.

    Attributes:
      names: of the columns, in their order.
      given: the names by which pyarrow is to know them; None: it finds them.
    """

    names: tuple[str, ...]
    given: tuple[str, ...] | None


def header(path: str, options: csv_file.Options, field: str) -> Header:
    """Returns a file's columns; raises ConfigError where its beginning is no CSV."""
    ragged = csv_file.Ragged()
    try:
        with _open(path, options, options.names, ragged.skip_with_delimiter(options.delimiter), ()) as reader:
            found = tuple(reader.schema.names)
    except csv_file.FAILURES as error:
        raise csv_file.unreadable(path, options, ragged, field, error) from error
    names = found if options.header or options.names else tuple(f"column_{index}" for index in range(len(found)))
    if ragged.row is not None:  # every row ends with a delimiter that the header lacks
        return Header((*names, ""), (*found, ""))
    return Header(names, None if options.names is None else found)


def batches(
    path: str, options: csv_file.Options, of_file: Header, columns: Sequence[str], field: str
) -> Iterator[pyarrow.RecordBatch]:
    """Yields the rows of a file, some thousand at a time, with these of its columns as text (empty fields are null).

    Raises:
      ConfigError: as of `read`.
    """
    places = [of_file.names.index(name) for name in columns]
    ragged = csv_file.Ragged()
    try:
        with _open(path, options, of_file.given, ragged.note, ()) as reader:
            names = [reader.schema.names[place] for place in places]
        for batch in _rows(path, options, of_file, ragged, names):
            yield batch.rename_columns(list(columns))
    except csv_file.FAILURES as error:
        raise csv_file.unreadable(path, options, ragged, field, error) from error


def _rows(
    path: str, options: csv_file.Options, of_file: Header, ragged: csv_file.Ragged, names: Sequence[str]
) -> Iterator[pyarrow.RecordBatch]:
    """Yields all rows; from one on that does not fit, more bytes are read at a time."""
    taken = 0
    for block in (_BLOCK_BYTES, *csv_file.BLOCKS):
        try:
            with _open(path, options, of_file.given, ragged.note, names, block) as reader:
                skipped = taken
                for batch in reader:
                    rest = batch.slice(min(skipped, batch.num_rows))
                    skipped -= batch.num_rows - rest.num_rows
                    taken += rest.num_rows
                    yield rest
            return
        except pyarrow.ArrowInvalid as error:
            if "block" not in str(error) or block == csv_file.BLOCKS[-1]:
                raise


def _open(
    path: str,
    options: csv_file.Options,
    names: Sequence[str] | None,
    handler: Any,
    columns: Sequence[str],
    block_bytes: int = _BLOCK_BYTES,
) -> pyarrow.csv.CSVStreamingReader:
    return csv_file.with_larger_blocks(
        lambda block: pyarrow.csv.open_csv(
            path, **csv_file.settings(options, names, handler, threads=False, block=block, columns=columns)
        ),
        block_bytes,
    )
