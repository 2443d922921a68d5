"""Columns of text as numbers, where all that is in them is numbers or stands for a missing one; or as text."""

import dataclasses
import re

import numpy as np
import pyarrow
import pyarrow.compute

from input_pipelines.sources.csv_file import Options
from input_pipelines.sources.source import ABSENT_INTEGER

# In small letters.
_CODES = pyarrow.array(["na", "n/a", "#n/a", "<na>", "null", "none", "?", "-", "--", ".", "\\n"])
_HEAD = 4096  # values by which a long column is seen to be text
_FIRST = 16  # values by which most columns are seen not to hold whole numbers
_FEW = 3  # texts in a column of numbers that are likely to be codes
_NUMBER = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A column's numbers.

    Attributes:
      values: int64 or float64; null where there is no number.
      codes: the texts that stood for a missing number, as they are in the file.
    """

    values: pyarrow.ChunkedArray
    codes: tuple[str, ...] = ()

    @property
    def some(self) -> bool:
        """Returns whether there is a number."""
        return self.values.null_count < len(self.values)

    @property
    def whole(self) -> bool:
        """Returns whether the numbers are whole."""
        return pyarrow.types.is_integer(self.values.type)

    def array(self, *, whole: bool) -> np.ndarray:
        """The numbers as int64, `ABSENT_INTEGER` where there is none; or as float64, NaN where there is none."""
        if whole:
            return self.values.fill_null(ABSENT_INTEGER).to_numpy()
        return self.values.cast(pyarrow.float64(), safe=False).to_numpy()


def without_codes(column: pyarrow.ChunkedArray, options: Options) -> pyarrow.ChunkedArray:
    """The column with null in place of the texts that `options.null_values` names."""
    if not options.null_values:
        return column
    named = pyarrow.compute.is_in(
        pyarrow.compute.utf8_trim_whitespace(column), pyarrow.array(options.null_values, pyarrow.string())
    )
    return pyarrow.compute.if_else(named, pyarrow.scalar(None, pyarrow.string()), column)


def numbers(column: pyarrow.ChunkedArray, options: Options) -> Numbers | None:
    """The numbers in a column of text; None where it holds other text.

    Unless `options.null_values` says what is missing, the usual codes stand for a missing number.
    """
    if len(column) > 2 * _HEAD and numbers(column.slice(0, _HEAD), options) is None:
        return None
    values = _cast(column, options.decimal)
    if values is not None:
        return Numbers(_named(values, options))
    encoded = column.dictionary_encode().unify_dictionaries()
    texts = pyarrow.compute.utf8_trim_whitespace(encoded.chunk(0).dictionary)
    small = pyarrow.compute.utf8_lower(texts)
    missing = pyarrow.compute.is_in(small, pyarrow.array(["", "nan"]))
    is_code = pyarrow.compute.is_in(small, _CODES if options.null_values is None else _CODES[:0])
    none = pyarrow.scalar(None, pyarrow.string())
    kept = _cast(pyarrow.compute.if_else(pyarrow.compute.or_(missing, is_code), none, texts), options.decimal)
    if kept is None:
        return None
    values = pyarrow.chunked_array([kept.take(chunk.indices) for chunk in encoded.chunks], kept.type)
    return Numbers(_named(values, options), tuple(encoded.chunk(0).dictionary.filter(is_code).to_pylist()))


def first_text(column: pyarrow.ChunkedArray, options: Options) -> tuple[int, str]:
    """(place, text) of the first value that is neither a number nor stands for a missing one."""
    for text in column.unique().drop_null().to_pylist():
        if numbers(pyarrow.chunked_array([[text]]), options) is None:
            return pyarrow.compute.index(column, text).as_py(), text
    raise ValueError("a column of numbers")


def few_texts(column: pyarrow.ChunkedArray, options: Options) -> list[str]:
    """The few texts that make text of a column that is numbers for the most part; none where it is not.

    They are looked for among the first values, and further on where all of those are numbers.
    """
    for values in (column.slice(0, _HEAD), column) if len(column) > _HEAD else (column,):
        counts = values.drop_null().value_counts()
        texts = _with_point(pyarrow.compute.utf8_trim_whitespace(counts.field("values")), options.decimal)
        other = pyarrow.compute.invert(pyarrow.compute.match_substring_regex(texts, _NUMBER))
        found = counts.field("values").filter(other)
        if len(found):
            of_others = pyarrow.compute.sum(counts.field("counts").filter(other)).as_py()
            few = len(found) <= _FEW and 2 * of_others < len(values) - values.null_count
            return found.to_pylist() if few else []
    return []


def text(column: pyarrow.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """The column as bytes objects without spaces around them (nothing where it is null), and its different texts.

    Equal texts are one object, which is faster to make and smaller.
    """
    encoded = column.fill_null("").dictionary_encode().unify_dictionaries()
    texts = encoded.chunk(0).dictionary
    trimmed = pyarrow.compute.utf8_trim_whitespace(texts).cast(pyarrow.binary()).to_pylist()
    indices = np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])
    return np.array(trimmed, object)[indices], texts.filter(pyarrow.compute.match_substring(texts, "\n")).to_pylist()


def _cast(values: pyarrow.Array | pyarrow.ChunkedArray, decimal: str) -> pyarrow.Array | pyarrow.ChunkedArray | None:
    """The numbers that texts are, whole ones as int64; None where any is none, or is NaN."""
    try:
        values.slice(0, _FIRST).cast(pyarrow.int64())  # every value that is none takes long
        return values.cast(pyarrow.int64())
    except pyarrow.ArrowInvalid:
        pass
    if decimal != "." and pyarrow.compute.any(pyarrow.compute.match_substring(values, ".")).as_py():
        return None
    try:
        numbers_ = _with_point(values, decimal).cast(pyarrow.float64())
    except pyarrow.ArrowInvalid:
        return None
    return None if pyarrow.compute.any(pyarrow.compute.is_nan(numbers_)).as_py() else numbers_


def _with_point(values: pyarrow.Array | pyarrow.ChunkedArray, decimal: str) -> pyarrow.Array | pyarrow.ChunkedArray:
    return values if decimal == "." else pyarrow.compute.replace_substring(values, decimal, ".")


def _named(values: pyarrow.ChunkedArray, options: Options) -> pyarrow.ChunkedArray:
    """The numbers with null in place of those that `options.null_values` names, however they are written (1, 1.0)."""
    named = pyarrow.array([float(code) for code in options.null_values or () if re.match(_NUMBER, code)])
    if not len(named):
        return values
    equal = pyarrow.compute.is_in(values.cast(pyarrow.float64(), safe=False), named)
    return pyarrow.compute.if_else(equal, pyarrow.scalar(None, values.type), values)
