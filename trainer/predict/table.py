"""Predictions as they are written: columns of a table, or arrays, in a fixed order."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow

from trainer.common.errors import ConfigError
from trainer.components.prediction_parts import Output

ROW = "row"


def check_names(outputs: Sequence[Output], kept: Sequence[str], *, flat: bool) -> None:
    """Raises ConfigError where two columns would have one name, or a table cannot hold an output.

    Args:
      outputs: what is predicted.
      kept: columns that are copied.
      flat: whether a cell holds one number or text.
    """
    made = [ROW, *(name for output in outputs for name in (output.columns or (output.name,)))]
    if made.count(ROW) > 1:
        raise ConfigError(
            f"losses.{ROW}", ROW, "is the column of the rows' places; predict with the loss's name changed"
        )
    for name in kept:
        if name in made:
            raise ConfigError("--keep", name, f"is what a column of the predictions is called: {', '.join(made[:9])}")
    for output in outputs:
        if flat and not output.columns:
            shape = f"an array {list(output.shape)} for each row"
            raise ConfigError("--output", output.name, f"is {shape}, which CSV cannot hold; write .parquet or .npz")


def arrays(
    first: int, predicted: Mapping[str, np.ndarray], kept: Mapping[str, Any], outputs: Sequence[Output]
) -> dict[str, np.ndarray]:
    """Returns name → (rows, ...) array: the row's number, what is kept, what is predicted; text as text."""
    count = len(predicted[outputs[0].name])
    found = {ROW: np.arange(first, first + count, dtype=np.int64)}
    found |= {name: _as_text(_as_array(values)) for name, values in kept.items()}
    return found | {output.name: _as_text(predicted[output.name]) for output in outputs}


def columns(
    first: int, predicted: Mapping[str, np.ndarray], kept: Mapping[str, Any], outputs: Sequence[Output]
) -> pyarrow.Table:
    """Returns the same as a table: a vector is a column for each of its numbers, a larger array a list of lists."""
    count = len(predicted[outputs[0].name])
    made = {ROW: pyarrow.array(np.arange(first, first + count, dtype=np.int64))}
    made |= {name: _kept(values) for name, values in kept.items()}
    for output in outputs:
        made |= dict(_of_output(output, predicted[output.name]))
    return pyarrow.table(made)


def _of_output(output: Output, values: np.ndarray) -> Iterator[tuple[str, pyarrow.Array]]:
    if not output.columns:
        yield output.name, _nested(values)
        return
    flat = values.reshape(len(values), -1)
    for index, name in enumerate(output.columns):
        yield name, _column(np.ascontiguousarray(flat[:, index]))


def _nested(values: np.ndarray) -> pyarrow.Array:
    """An array of rows as lists of one length, within lists of one length."""
    found = _column(values.reshape(-1))
    for size in reversed(values.shape[1:]):
        found = pyarrow.FixedSizeListArray.from_arrays(found, size)
    return found


def _column(values: np.ndarray) -> pyarrow.Array:
    return (
        pyarrow.array(values, pyarrow.binary()).cast(pyarrow.string())
        if values.dtype == object
        else pyarrow.array(values)
    )


def _kept(values: Any) -> pyarrow.Array:
    if not isinstance(values, pyarrow.Array):
        return _nested(values) if values.ndim > 1 else _column(values)
    return values.dictionary_decode() if pyarrow.types.is_dictionary(values.type) else values


def _as_array(values: Any) -> np.ndarray:
    if not isinstance(values, pyarrow.Array):
        return values
    if pyarrow.types.is_string(values.type) or pyarrow.types.is_large_string(values.type):
        values = values.fill_null("")
    return values.to_numpy(zero_copy_only=False)


def _as_text(values: np.ndarray) -> np.ndarray:
    """Bytes objects as an array of text, which needs no pickle to be read."""
    if values.dtype != object:
        return values
    flat = [each.decode(errors="replace") if isinstance(each, bytes) else str(each) for each in values.ravel().tolist()]
    return np.array(flat, np.str_).reshape(values.shape)
