"""Columns of Arrow as arrays: numbers, text, and vectors of lists of one length."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow
import pyarrow.compute
from pyarrow import types

from input_pipelines.sources.source import ABSENT_INTEGER

_TEXT = (types.is_string, types.is_large_string, types.is_string_view)
_BYTES = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
_IN_TIME = (types.is_date, types.is_time, types.is_timestamp)
_LISTS = (types.is_list, types.is_large_list, types.is_fixed_size_list)


class RowError(ValueError):
    """A value that its column cannot hold.

    Attributes:
      row: its place among the values.
    """

    def __init__(self, row: int, reason: str):
        self.row = row
        super().__init__(reason)


@dataclasses.dataclass(frozen=True)
class Column:
    """The values of a column as an array's.

    Attributes:
      dtype: of a number; object: text, as bytes objects.
      shape: of a row's value.
      optional: whether a whole number may be absent, `ABSENT_INTEGER` then.
    """

    dtype: np.dtype
    shape: tuple[int, ...] = ()
    optional: bool = False


def leaves(schema: Iterable[pyarrow.Field], before: str = "") -> Iterator[tuple[str, pyarrow.DataType]]:
    """Yields the name and type of every column; those within a structure `a` as `a/b`."""
    for field in schema:
        if types.is_struct(field.type):
            yield from leaves(
                [field.type.field(index) for index in range(field.type.num_fields)], f"{before}{field.name}/"
            )
        else:
            yield f"{before}{field.name}", _plain(field.type)


def leaf(table: pyarrow.Table, name: str) -> pyarrow.Array:
    """The column that `leaves` names so."""
    outside, *inner = _path(table.schema, name)
    values = table[outside].combine_chunks()
    for each in inner:
        values = pyarrow.compute.struct_field(values, [each])
    while isinstance(values, pyarrow.ExtensionArray):
        values = values.storage
    return values


def top(schema: pyarrow.Schema, name: str) -> str:
    """The name of the column of a table in which a leaf is."""
    return _path(schema, name)[0]


def dtype_of(kind: pyarrow.DataType) -> np.dtype | None:
    """The type of a column's numbers, object for text; None for a column that holds neither."""
    if types.is_dictionary(kind):
        return dtype_of(kind.value_type)
    if types.is_null(kind) or types.is_decimal(kind):
        return np.dtype(np.float64)
    if types.is_boolean(kind):
        return np.dtype(bool)
    if types.is_integer(kind):
        return np.dtype(np.int64)
    if types.is_floating(kind):
        return np.dtype(np.float64 if kind.bit_width == 64 else np.float32)
    if _is(kind, _TEXT + _BYTES + _IN_TIME):
        return np.dtype(object)
    if _is(kind, _LISTS):
        inner = kind.value_type
        found = dtype_of(inner)
        # Vectors are many numbers; these keep their width.
        narrow = types.is_integer(inner) and inner.bit_width < 64
        return None if found is None or found.kind == "O" else np.dtype(inner.to_pandas_dtype()) if narrow else found
    return None


def is_list(kind: pyarrow.DataType) -> bool:
    """Returns whether a column holds lists."""
    return _is(kind, _LISTS)


def shape_of(values: pyarrow.Array) -> tuple[int, ...] | None:
    """The shape of the first list of a column that is not absent; None where all are."""
    shape = []
    while is_list(values.type):
        values = values.drop_null()
        if not len(values):
            return None
        shape.append(len(values[0]))
        values = pyarrow.compute.list_flatten(values[:1])
    return tuple(shape)


def values_of(values: pyarrow.Array, column: Column) -> np.ndarray:
    """(rows, *shape) numbers, or (rows,) bytes objects; absent ones are NaN, `ABSENT_INTEGER` or no text.

    Raises:
      RowError: a value that the column cannot hold.
      pyarrow.ArrowInvalid: numbers out of the range of the column's type.
    """
    if types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if column.shape:
        return _vectors(values, column)
    if column.dtype.kind == "O":
        return _text(values)
    if column.dtype.kind == "f":
        real = values.cast(pyarrow.from_numpy_dtype(column.dtype), safe=False)
        return real.to_numpy(zero_copy_only=False).astype(column.dtype, copy=False)
    if values.null_count and not column.optional:
        row = values.is_null().index(True).as_py()
        raise RowError(row, "is absent, which the file's statistics do not say")
    whole = values.cast(pyarrow.from_numpy_dtype(column.dtype))
    if column.optional:
        whole = whole.fill_null(ABSENT_INTEGER)
    return whole.to_numpy(zero_copy_only=False)


def _text(values: pyarrow.Array) -> np.ndarray:
    if not _is(values.type, _BYTES):
        values = values.cast(pyarrow.large_string())
    return values.cast(pyarrow.large_binary()).fill_null(b"").to_numpy(zero_copy_only=False)


def _vectors(values: pyarrow.Array, column: Column) -> np.ndarray:
    length, inner = column.shape[0], dataclasses.replace(column, shape=column.shape[1:])
    lengths = pyarrow.compute.list_value_length(values)
    wrong = pyarrow.compute.not_equal(lengths, length).index(True).as_py()
    if wrong >= 0:
        reason = f"has {lengths[wrong]} values where the first has {length}; lists of one length are vectors"
        raise RowError(wrong, reason)
    present = values.is_valid().to_numpy(zero_copy_only=False)
    try:
        flat = values_of(pyarrow.compute.list_flatten(values.drop_null()), inner)
    except RowError as error:
        raise RowError(int(np.flatnonzero(present)[error.row // length]), str(error)) from error
    flat = flat.reshape(-1, *column.shape)
    if present.all():
        return flat
    if not (column.optional or column.dtype.kind == "f"):
        raise RowError(int(np.argmin(present)), "is absent, which the file's statistics do not say")
    found = np.full((len(values), *column.shape), np.nan if column.dtype.kind == "f" else ABSENT_INTEGER, column.dtype)
    found[present] = flat
    return found


def _plain(kind: pyarrow.DataType) -> pyarrow.DataType:
    while isinstance(kind, pyarrow.BaseExtensionType):
        kind = kind.storage_type
    return kind


def _is(kind: pyarrow.DataType, tests: tuple) -> bool:
    return any(test(kind) for test in tests)


def _path(schema: pyarrow.Schema, name: str) -> list[str]:
    """The names of the structures, from outside, in which a leaf is, then its own."""
    if schema.get_field_index(name) >= 0:
        return [name]
    fields, found = list(schema), []
    while name:
        field = next(each for each in fields if name == each.name or name.startswith(f"{each.name}/"))
        found.append(field.name)
        name = name[len(field.name) + 1 :]
        fields = [field.type.field(index) for index in range(field.type.num_fields)] if name else []
    return found
