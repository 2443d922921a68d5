"""Encoded pictures as TensorFlow decodes them: PNG and JPEG as they are, other formats as Pillow writes them anew.

TensorFlow takes the palette of a BMP for grey values, and some WebP files crash it.
"""

import dataclasses
import io
import struct

import numpy as np
import PIL.Image

from trainer.common import schema
from trainer.common.errors import first_line
from trainer.common.schema import setting

ENDINGS = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff"),
    *(".bmp", ".dib", ".gif", ".avif", ".pgm", ".ppm", ".pbm", ".pnm"),
)
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_BY_PILLOW = ("PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "PPM")
_SCAN, _EXIF = 0xDA, 0xE1  # markers of JPEG
_DEPTH, _COLOUR, _PALETTE = 24, 25, 3  # bytes of a PNG's header, and one of their values
_ORIENTATION, _BITS = 0x0112, 0x0102  # tags of EXIF and TIFF
_UPRIGHT = 1
_BACK = {6: 8, 8: 6}  # orientations that are not their own inverse
_FAILURES = (OSError, SyntaxError, ValueError, LookupError, struct.error, PIL.Image.DecompressionBombError)


@dataclasses.dataclass(frozen=True)
class PictureOptions:
    """Options for reading encoded pictures."""

    orientation: bool = setting(schema.boolean, True, "Whether pictures are turned as their EXIF data say.")
    first_frame: bool = setting(
        schema.boolean, False, "Whether of a file with several pictures the first is read. False: it is refused."
    )


DEFAULT = PictureOptions(orientation=True, first_frame=False)


@dataclasses.dataclass(frozen=True)
class Plain:
    """A picture that TensorFlow decodes.

    Attributes:
      data: PNG, JPEG, or BMP without a palette.
      orientation: 1 to 8 as in EXIF; how the decoded picture must be turned yet.
    """

    data: bytes
    orientation: int = _UPRIGHT

    @property
    def depth(self) -> int:
        """Bits of a channel, 8 or 16."""
        return 16 if self.data.startswith(_PNG) and self.data[_DEPTH] == 16 else 8


def plain(data: bytes, channels: int, options: PictureOptions, indices: bool = False) -> Plain:
    """Returns a picture in a format that TensorFlow decodes.

    Args:
      data: in any of the formats of `ENDINGS`.
      channels: with which it will be decoded.
      options: how it is read.
      indices: whether of a picture with a palette, read with one channel, the indices count instead of the colours.

    Raises:
      ValueError: it is none, or cannot be read without loss.
    """
    if data.startswith(_JPEG):
        return Plain(data, _orientation(data) if options.orientation and _jpeg_has_exif(data) else _UPRIGHT)
    if data.startswith(_PNG):
        chunks = _png_chunks(data)
        if b"acTL" in chunks and not options.first_frame:
            raise ValueError(_several())
        if not (indices and channels == 1 and data[_COLOUR : _COLOUR + 1] == bytes([_PALETTE])):
            return Plain(data, _orientation(data) if options.orientation and b"eXIf" in chunks else _UPRIGHT)
    return _by_pillow(data, channels, options, indices and channels == 1)


def depth(data: bytes) -> int:
    """Bits of a channel of an encoded picture, 8 or 16; raises ValueError where it is none."""
    return plain(data, 3, PictureOptions(orientation=False, first_frame=True)).depth


def _several() -> str:
    return "holds several pictures; 'first_frame' reads the first"


def _by_pillow(data: bytes, channels: int, options: PictureOptions, indices: bool) -> Plain:
    PIL.Image.init()
    formats = [name for name in _BY_PILLOW if name in PIL.Image.OPEN]
    try:
        with PIL.Image.open(io.BytesIO(data), formats=formats) as image:
            if getattr(image, "is_animated", False) and not options.first_frame:
                raise ValueError(_several())
            turned = _orientation_of(image)
            values = _values(image, indices)
            # Pillow turns a TIFF by itself.
            if image.format == "TIFF":
                orientation = _UPRIGHT if options.orientation else _BACK.get(turned, turned)
            else:
                orientation = turned if options.orientation else _UPRIGHT
    except PIL.UnidentifiedImageError as error:
        raise ValueError("is no picture of a format that can be read") from error
    except _FAILURES as error:
        raise ValueError(first_line(error)) from error
    stored = io.BytesIO()
    plainest = PIL.Image.fromarray(values)
    if plainest.mode == "RGB" and channels == 3:
        plainest.save(stored, "BMP")  # far faster than a PNG
    else:
        plainest.save(stored, "PNG", compress_level=0)
    return Plain(stored.getvalue(), orientation)


def _values(image: PIL.Image.Image, indices: bool) -> np.ndarray:
    """(height, width) or (height, width, channels), uint8 or uint16: a picture without its palette."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("I", "F") or _is_deep(image):
        raise ValueError("holds more than 8 bits for a channel; 16 are read from PNG, and from TIFF in grey")
    if image.mode == "P" and indices:
        return np.asarray(image)
    if image.mode in ("P", "PA"):
        return np.asarray(image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB"))
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return np.asarray(image)


def _is_deep(image: PIL.Image.Image) -> bool:
    """Returns True for a picture of which Pillow would cut off bits beyond 8."""
    if image.format == "TIFF":
        return max(np.atleast_1d(image.tag_v2.get(_BITS, 8))) > 8
    decoder_arguments = image.tile[0][3] if image.format == "PPM" else ()
    return len(decoder_arguments) == 2 and decoder_arguments[1] > 255


def _orientation(data: bytes) -> int:
    try:
        with PIL.Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            return _orientation_of(image)
    except _FAILURES:
        return _UPRIGHT


def _orientation_of(image: PIL.Image.Image) -> int:
    found = image.getexif().get(_ORIENTATION, _UPRIGHT)
    return found if found in range(1, 9) else _UPRIGHT


def _jpeg_has_exif(data: bytes) -> bool:
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF and data[at + 1] != _SCAN:
        if data[at + 1] == _EXIF and data[at + 4 : at + 10] == b"Exif\0\0":
            return True
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _png_chunks(data: bytes) -> set[bytes]:
    """The types of a PNG's chunks."""
    found, at = set(), len(_PNG)
    while at + 8 <= len(data):
        found.add(data[at + 4 : at + 8])
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return found
