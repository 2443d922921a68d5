"""TFRecord files that are compressed as a whole, so that no record can be found but by reading all before it."""

import struct
import zlib
from collections.abc import Iterator

from trainer.common.errors import ConfigError, first_line

GZIP, ZLIB, NONE = "GZIP", "ZLIB", ""
_AROUND, _LENGTH_BYTES = 16, 8  # of a record: see `record_files`
_EITHER = zlib.MAX_WBITS | 32
_START_BYTES, _READ_BYTES = 64, 2**16


def of(path: str) -> str:
    """Returns how a file of records is compressed, by what it holds: `GZIP`, `ZLIB` or `NONE`."""
    with open(path, "rb") as file:
        start = file.read(_START_BYTES)
    gzip, zlib_ = start[:3] == b"\x1f\x8b\x08", start[:1] == b"\x78" and int.from_bytes(start[:2], "big") % 31 == 0
    try:
        # The length of a first record can look like the beginning of either.
        zlib.decompressobj(_EITHER).decompress(start)
    except zlib.error:
        return NONE
    return GZIP if gzip else ZLIB if zlib_ else NONE


def record_count(path: str, kind: str, field: str) -> int:
    """Returns the number of records in a compressed file.

    Raises:
      ConfigError: the file is damaged or cut off; TensorFlow takes the end of a cut GZIP file for that of the data.
    """
    unread, position, count = b"", 0, 0
    try:
        for data in _decompressed(path, kind):
            unread += data
            while len(unread) - position >= _LENGTH_BYTES:
                position += _AROUND + struct.unpack_from("<Q", unread, position)[0]
                count += 1
            passed = min(position, len(unread))
            unread, position = unread[passed:], position - passed
    except zlib.error as error:
        reason = f"is damaged or cut off after record {count} ({kind}): {first_line(error)}"
        raise ConfigError(field, path, reason) from error
    if unread or position:
        reason = f"is cut off within record {count - (position > 0)}, or is no TFRecord file ({kind})"
        raise ConfigError(field, path, reason)
    return count


def _decompressed(path: str, kind: str) -> Iterator[bytes]:
    stream = zlib.decompressobj(_EITHER)
    with open(path, "rb") as file:
        while data := file.read(_READ_BYTES):
            while data:
                if stream.eof and kind == ZLIB:
                    raise zlib.error("something follows on its end")
                stream = zlib.decompressobj(_EITHER) if stream.eof else stream
                yield stream.decompress(data)
                data = stream.unused_data
    if not stream.eof:
        raise zlib.error("its end is missing")
