"""The rows of arrays, those of an NPZ file among them: features are of the types that they had in training."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow

from input_pipelines.configuration import SourceConfig
from input_pipelines.preparation.chain import real_numbers
from input_pipelines.preparation.preparation import Preparation
from input_pipelines.registry import FILES
from input_pipelines.remembered import Remembered
from input_pipelines.rows import rows
from input_pipelines.rows.rows import FIELD, OfSource
from input_pipelines.sources import csv_columns, npz
from input_pipelines.sources.arrow_columns import Column
from input_pipelines.sources.csv_file import Options
from input_pipelines.sources.source import ABSENT_INTEGER, Arrays
from trainer.common import schema
from trainer.common.errors import ConfigError

_WORDS = {"O": "text", "b": "truth values", "i": "whole numbers", "u": "whole numbers", "f": "numbers"}


def open_rows(config: SourceConfig, field: str, path: str, preparation: Preparation, kept: Remembered) -> OfSource:
    """The rows of an NPZ file, or of the only one in a folder; it is read as a whole.

    Args:
      config: not needed.
      field: not needed.
      path: the file or folder.
      preparation: of the rows.
      kept: not needed.

    Raises:
      ConfigError: there is no such file, or an array is not in it or of another type.
    """
    del config, field, kept
    first, *others = rows.files_at(path, FILES["npz"])
    if others:
        raise ConfigError(FIELD, path, f"holds {1 + len(others)} NPZ files; name one of them")
    return _of(npz.read_file(first, FIELD), preparation, first)


def of_columns(columns: Mapping[str, Any], preparation: Preparation, field: str) -> OfSource:
    """The rows of arrays by feature, lists or frames of pandas, batch first.

    Args:
      columns: feature → its values; more than are needed are there to be kept.
      preparation: of the rows.
      field: what errors call them.

    Raises:
      ConfigError: a feature is missing, of another type than in training or of another length.
    """
    arrays = {name: _array(values, f"{field}.{name}") for name, values in columns.items()}
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ConfigError(field, sorted(lengths), "must have columns of one length, of one row at least")
    return _of(Arrays(arrays, functools.partial(_where, field)), preparation, field)


def _of(source: Arrays, preparation: Preparation, path: str) -> OfSource:
    rows.check_there(preparation, list(source.arrays), path)
    return OfSource(as_in_training(source, rows.needed(preparation), path))


def as_in_training(source: Arrays, types: Mapping[str, Column], path: str) -> Arrays:
    """A split of arrays, some of them in the types that they had in training; raises ConfigError where they cannot."""
    held = {}
    for name, column in types.items():
        array = source.arrays[name]
        if array.shape[1:] != column.shape:
            reason = f"array {name!r} is of shape {list(array.shape[1:])} per example, in training {list(column.shape)}"
            raise ConfigError(FIELD, path, reason)
        held[name] = _converted(source, name, array, column)
    return Arrays({**source.arrays, **held}, source.row, source.classes, optional=source.optional)


def _converted(source: Arrays, name: str, values: np.ndarray, column: Column) -> np.ndarray:
    kind, wanted = values.dtype.kind, column.dtype.kind
    if wanted == "O" and kind in "iu":
        return np.array([str(value).encode() for value in values.tolist()], object)
    if wanted == "O" and kind != "O":
        # How a file spelled truth values ('True', 'true', 'TRUE') cannot be known from them.
        raise _error(source, name, 0, f"holds {_WORDS[kind]}, in training text")
    if wanted != "O" and kind == "O":
        values = _numbers(source, name, values)
    if wanted == "O" or values.dtype == column.dtype and wanted != "i":
        return values
    if wanted == "f":
        return real_numbers(values).astype(column.dtype)
    numbers = np.where(values == ABSENT_INTEGER, np.nan, values) if kind in "iu" else values.astype(np.float64)
    absent = np.isnan(numbers)
    _refuse(source, name, absent & (not column.optional), "is missing, which it never is in training")
    whole = np.where(absent, 0, values)
    _refuse(source, name, whole % 1 != 0, "is no whole number, as all are in training")
    if wanted == "b":
        _refuse(source, name, (whole != 0) & (whole != 1), "is neither 0 nor 1; in training there are truth values")
        return whole.astype(bool)
    return np.where(absent, ABSENT_INTEGER, whole.astype(np.int64)) if column.optional else whole.astype(column.dtype)


def _numbers(source: Arrays, name: str, values: np.ndarray) -> np.ndarray:
    """Text as the numbers that it is; NaN where it is empty."""
    texts = pyarrow.chunked_array([[value.decode(errors="replace") for value in values.ravel().tolist()]])
    options = schema.record(Options)({}, FIELD)
    found = csv_columns.numbers(texts, options)
    if found is None:
        place, text = csv_columns.first_text(texts, options)
        raise _error(source, name, place * len(values) // values.size, f"holds {text!r}, in training numbers")
    return found.array(whole=False).reshape(values.shape)


def _refuse(source: Arrays, name: str, wrong: np.ndarray, reason: str) -> None:
    if wrong.any():
        raise _error(source, name, int(np.argwhere(wrong)[0, 0]), reason)


def _error(source: Arrays, name: str, row: int, reason: str) -> ConfigError:
    return ConfigError(FIELD, f"{source.where(row)}, {name!r}", reason)


def _array(values: Any, field: str) -> np.ndarray:
    """Values as an array of numbers, or of text as bytes objects; text that is missing is empty."""
    array = np.asarray(values)
    if array.ndim == 0 or array.dtype.kind not in "biufUSO":
        raise ConfigError(field, str(array.dtype), "must be numbers or text, with an entry for each row")
    if array.dtype.kind in "biuf":
        return array
    if array.dtype.kind == "O" and not any(isinstance(value, str | bytes) for value in array.ravel().tolist()):
        try:
            return array.astype(np.float64)  # None is missing
        except (TypeError, ValueError) as error:
            raise ConfigError(field, "object", "must be numbers or text") from error
    flat: Sequence[Any] = array.ravel().tolist()
    text = np.empty(len(flat), object)
    text[:] = [_text(value) for value in flat]
    return text.reshape(array.shape)


def _text(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    is_missing = value is None or (isinstance(value, float) and value != value)
    return b"" if is_missing else str(value).encode()


def _where(field: str, index: int) -> str:
    return f"{field}, row {index}"
