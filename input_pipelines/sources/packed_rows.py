"""Rows of numbers and text as one string each, which a graph takes apart again.

A row is its numbers, columns of one type and shape side by side, then the length of each of its texts, then the texts.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

_LENGTH = np.dtype(np.int32)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The places of columns within a row.

    Attributes:
      numbers: (dtype, shape of a row's value) → its columns.
      texts: columns of text.
    """

    numbers: Mapping[tuple[np.dtype, tuple[int, ...]], tuple[str, ...]]
    texts: tuple[str, ...]

    @property
    def width(self) -> int:
        """Bytes before the texts."""
        sizes = [dtype.itemsize * math.prod(shape) * len(names) for (dtype, shape), names in self.numbers.items()]
        return sum(sizes) + _LENGTH.itemsize * len(self.texts)

    def pack(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns (rows,) bytes objects.

        Args:
          arrays: column → (rows, ...) numbers, or (rows,) bytes objects.
        """
        parts = [np.stack([arrays[name] for name in names], axis=1) for names in self.numbers.values()]
        if self.texts:
            parts.append(np.stack([np.fromiter(map(len, arrays[name]), _LENGTH) for name in self.texts], axis=1))
        rows = len(parts[0])
        fixed = np.concatenate([part.reshape(rows, -1).view(np.uint8) for part in parts], axis=1)
        whole = fixed.view(f"V{self.width}")[:, 0].tolist() if rows else []
        if self.texts:
            whole = [b"".join(row) for row in zip(whole, *(arrays[name] for name in self.texts), strict=True)]
        packed = np.empty(rows, object)
        packed[:] = whole
        return packed

    def unpack(self, packed: tf.Tensor, wanted: Sequence[str]) -> dict[str, tf.Tensor]:
        """Returns column → (rows, ...) tensor, of (rows,) strings that `pack` made; in a graph."""
        raw = tf.io.decode_raw(packed, tf.uint8, fixed_length=self.width)
        found, start = {}, 0
        for (dtype, shape), names in self.numbers.items():
            end = start + dtype.itemsize * math.prod(shape) * len(names)
            if not set(names).isdisjoint(wanted):
                values = _of_bytes(raw[:, start:end], dtype)
                columns = tf.unstack(tf.reshape(values, [-1, len(names), *shape]), num=len(names), axis=1)
                found |= dict(zip(names, columns, strict=True))
            start = end
        if not set(self.texts).isdisjoint(wanted):
            lengths = tf.reshape(_of_bytes(raw[:, start:], _LENGTH), [-1, len(self.texts)])
            starts = self.width + tf.cumsum(lengths, axis=1, exclusive=True)
            for index, name in enumerate(self.texts):
                found[name] = tf.strings.substr(packed, starts[:, index], lengths[:, index])
        return {name: found[name] for name in wanted}


def layout(columns: Mapping[str, tuple[np.dtype, tuple[int, ...]]]) -> Layout:
    """The layout of rows with these columns: of each its dtype (object: text) and the shape of a row's value."""
    numbers: dict[tuple[np.dtype, tuple[int, ...]], tuple[str, ...]] = {}
    for name, (dtype, shape) in columns.items():
        if dtype.kind != "O":
            numbers[dtype, shape] = (*numbers.get((dtype, shape), ()), name)
    return Layout(numbers, tuple(name for name, (dtype, _) in columns.items() if dtype.kind == "O"))


def _of_bytes(raw: tf.Tensor, dtype: np.dtype) -> tf.Tensor:
    """(rows, bytes) uint8 as numbers of a type, row by row in one vector."""
    if dtype.kind == "b":
        return tf.cast(tf.reshape(raw, [-1]), tf.bool)
    if dtype.itemsize == 1:
        return tf.bitcast(tf.reshape(raw, [-1]), dtype)
    return tf.bitcast(tf.reshape(raw, [-1, dtype.itemsize]), dtype)
