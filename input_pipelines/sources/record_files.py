"""TFRecord files read in blocks: where each record begins, and readers that start there. Of compressed files, which can
only be read from the beginning, each is a block.

A record is its length (8 bytes), a checksum (4), the data, and their checksum (4):
https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

import dataclasses
import math
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines.sources import compression
from trainer.common.errors import ConfigError

_HEADER, _AROUND = 8, 16
_BUFFER_BYTES = 2**18
_MIXED_BLOCKS = 16  # in a window


@dataclasses.dataclass(frozen=True)
class Part:
    """Records of a file, one after another.

    Attributes:
      path: the file.
      first: how many of its records come before.
      count: how many records; None: all that follow.
    """

    path: str
    first: int = 0
    count: int | None = None


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Blocks of records, in the order of the split.

    Attributes:
      paths: (blocks,) the file of each.
      offsets: (blocks,) where in it the first record begins.
      sizes: (blocks,) how many records.
      numbers: (blocks,) how many records of the file come before.
      compressions: (blocks,) how the file is compressed (see `compression.of`).
      mixed: how many blocks make a window.
    """

    paths: tuple[str, ...]
    offsets: np.ndarray
    sizes: np.ndarray
    numbers: np.ndarray
    compressions: tuple[str, ...]
    mixed: int

    def reader(self) -> Callable[[tf.Tensor], tf.data.Dataset]:
        """A function from a block to a dataset of its records."""
        paths = tf.constant(self.paths, tf.string)
        compressions = tf.constant(self.compressions, tf.string)
        offsets, sizes = tf.constant(self.offsets), tf.constant(self.sizes)

        def read(block: tf.Tensor) -> tf.data.Dataset:
            variant = tf.raw_ops.TFRecordDatasetV2(
                filenames=paths[block][tf.newaxis],
                compression_type=compressions[block],
                buffer_size=tf.constant(_BUFFER_BYTES, tf.int64),
                byte_offsets=offsets[block][tf.newaxis],
            )
            records = tf.data.experimental.from_variant(variant, tf.TensorSpec((), tf.string))
            # A file may hold fewer than its dataset says; records read after it must not take other examples' places.
            return records.take(sizes[block]).apply(tf.data.experimental.assert_cardinality(sizes[block]))

        return read

    def where(self, index: int) -> str:
        """The file and the record of an example, counted from 0."""
        ends = np.cumsum(self.sizes)
        block = int(np.searchsorted(ends, index, side="right"))
        return f"{self.paths[block]}, record {index - int(ends[block] - self.sizes[block] - self.numbers[block])}"


def blocks(parts: Sequence[Part], window: int, field: str) -> Blocks:
    """Cuts parts of files into blocks of about a sixteenth of a window; a compressed file is a block.

    Raises:
      ConfigError: a file is cut off within a record or holds too few, naming it.
    """
    size = max(1, window // _MIXED_BLOCKS)
    rows = [row for part in parts for row in _rows(part, size, field)]
    paths, offsets, sizes, numbers, compressions = zip(*rows, strict=True) if rows else ((),) * 5
    columns = (np.array(column, np.int64) for column in (offsets, sizes, numbers))
    mean = sum(sizes) / len(rows) if any(compressions) else size
    return Blocks(tuple(paths), *columns, tuple(compressions), max(1, math.ceil(window / mean)))


def _rows(part: Part, size: int, field: str) -> list[tuple[str, int, int, int, str]]:
    """The blocks of a part: path, offset, size, number of the first record, compression."""
    whole = part.first == 0 and part.count is None
    if whole and (kind := _compression(part.path, field)):
        count = compression.record_count(part.path, kind, field)
        return [(part.path, 0, count, 0, kind)] if count else []
    # A part that is one block from the file's beginning need not be searched.
    known = part.first == 0 and part.count is not None and part.count <= 2 * size
    offsets = np.zeros(1, np.int64) if known else record_offsets(part.path, field)[part.first :]
    count = len(offsets) if part.count is None else part.count
    if not known and count > len(offsets):
        raise ConfigError(field, part.path, f"holds {part.first + len(offsets)} records, fewer than its dataset says")
    if count == 0:
        return []
    starts = np.zeros(1, np.int64) if known else np.arange(0, count, size)
    sizes = np.diff(np.append(starts, count))
    return [
        (part.path, int(offsets[start]), length, part.first + start, compression.NONE)
        for start, length in zip(starts.tolist(), sizes.tolist(), strict=True)
    ]


def first_record(path: str, field: str) -> bytes | None:
    """Returns the first record of a file; None where there is none that can be read."""
    records = tf.data.TFRecordDataset(path, _compression(path, field))
    try:
        return next(records.as_numpy_iterator(), None)
    except tf.errors.OpError:
        return None


def _compression(path: str, field: str) -> str:
    try:
        return compression.of(path)
    except OSError as error:
        raise ConfigError(field, path, f"cannot be read: {error.strerror}") from error


def record_offsets(path: str, field: str) -> np.ndarray:
    """Returns (records,) int64, the byte at which each record of a file begins.

    Raises:
      ConfigError: the file is cut off within a record or cannot be read.
    """
    offsets, position = [], 0
    try:
        size = os.path.getsize(path)
        with open(path, "rb", buffering=0) as file:
            while position < size:
                file.seek(position)
                header = file.read(_HEADER)
                after = position + _AROUND + (struct.unpack("<Q", header)[0] if len(header) == _HEADER else size)
                if after > size:
                    raise ConfigError(
                        field, path, f"is cut off within record {len(offsets)}, or is no TFRecord file ({size} bytes)"
                    )
                offsets.append(position)
                position = after
    except OSError as error:
        raise ConfigError(field, path, f"cannot be read: {error.strerror}") from error
    return np.array(offsets, np.int64)


def in_batches(
    decode_one: Callable[[Any], Mapping[str, tf.Tensor]], serialized: Any, spec: Mapping[str, tf.TensorSpec]
) -> dict[str, tf.Tensor]:
    """Decodes (examples,) records, or tuples of them, one by one, side by side as far as cores allow; in a graph."""
    decoded = tf.map_fn(decode_one, serialized, fn_output_signature=dict(spec), parallel_iterations=16)
    return {name: tf.ensure_shape(values, (None, *spec[name].shape)) for name, values in decoded.items()}
