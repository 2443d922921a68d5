"""Files of predictions, by the end of their names: written beside, and named when they are whole."""

import contextlib
import functools
import pathlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet

from trainer.common import atomic_files
from trainer.common.errors import RunError, system_reason
from trainer.components.prediction_parts import Output
from trainer.predict import table

_GROUP_ROWS = 2**16  # rows of a row group


class Writer(Protocol):
    """Takes predictions batch by batch."""

    def add(self, first: int, predicted: Mapping[str, np.ndarray], kept: Mapping[str, Any]) -> None:
        """Takes the rows from place `first` on."""

    def close(self) -> None:
        """Writes what is left."""


class Table:
    """Writes columns as they come; memory does not grow with the rows.

    Args:
      outputs: what is predicted.
      open_file: from a schema to a file of pyarrow.
    """

    def __init__(self, outputs: Sequence[Output], open_file: Callable[[pyarrow.Schema], Any]):
        self._outputs, self._open = outputs, open_file
        self._waiting: list[pyarrow.Table] = []
        self._file: Any = None

    def add(self, first: int, predicted: Mapping[str, np.ndarray], kept: Mapping[str, Any]) -> None:
        """See `Writer`."""
        self._waiting.append(table.columns(first, predicted, kept, self._outputs))
        if sum(part.num_rows for part in self._waiting) >= _GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """See `Writer`."""
        if self._waiting:
            self._flush()
        if self._file is not None:
            self._file.close()

    def _flush(self) -> None:
        whole = pyarrow.concat_tables(self._waiting).combine_chunks()
        self._waiting = []
        if self._file is None:
            self._file = self._open(whole.schema)
        self._file.write_table(whole)


class Arrays:
    """Holds all predictions, as arrays: in the end a dictionary, or an NPZ file.

    Args:
      outputs: what is predicted.
      path: of the file; None: there is none.
    """

    def __init__(self, outputs: Sequence[Output], path: pathlib.Path | None = None):
        self._outputs, self._path = outputs, path
        self._parts: list[dict[str, np.ndarray]] = []

    def add(self, first: int, predicted: Mapping[str, np.ndarray], kept: Mapping[str, Any]) -> None:
        """See `Writer`."""
        self._parts.append(table.arrays(first, predicted, kept, self._outputs))

    def close(self) -> None:
        """See `Writer`."""
        if self._path is not None:
            with zipfile.ZipFile(self._path, "w") as archive:  # np.savez takes no array that is called `file`
                for name, values in self.whole().items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, values, allow_pickle=False)

    def whole(self) -> dict[str, np.ndarray]:
        """Returns name → (rows, ...) array."""
        return {name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]}


def _parquet(outputs: Sequence[Output], path: pathlib.Path) -> Writer:
    return Table(outputs, functools.partial(pyarrow.parquet.ParquetWriter, str(path)))


def _csv(outputs: Sequence[Output], path: pathlib.Path) -> Writer:
    options = pyarrow.csv.WriteOptions(quoting_style="needed")
    return Table(outputs, lambda schema: pyarrow.csv.CSVWriter(str(path), schema, write_options=options))


_KINDS: Mapping[str, Callable[[Sequence[Output], pathlib.Path], Writer]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".npz": Arrays,
}


@contextlib.contextmanager
def writing(path: pathlib.Path, outputs: Sequence[Output]) -> Iterator[Writer]:
    """A writer of a file that is there when the context ends, and not at all where it fails.

    Args:
      path: of the file, with one of the endings that are written; one that is there is replaced.
      outputs: what is predicted.

    Raises:
      RunError: it cannot be written.
    """
    try:
        with atomic_files.written_beside(path) as partial:
            writer = _KINDS[path.suffix.lower()](outputs, partial)
            yield writer
            writer.close()
    except OSError as error:
        raise RunError(f"{path} cannot be written: {system_reason(error)}") from error
