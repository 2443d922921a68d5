"""Pictures of every format are read to the last bit, turned as they say, or refused in words."""

import io
from collections.abc import Sequence

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from input_pipelines.preparation.picture_operations import Resize
from input_pipelines.sources import encoded_pictures, pictures
from input_pipelines.sources.encoded_pictures import PictureOptions
from trainer.common.errors import reason_of

COLOUR = np.random.RandomState(0).randint(0, 256, size=(4, 4, 3)).astype(np.uint8)
GREY = COLOUR[..., 0]
DEEP = (np.arange(16).reshape(4, 4) * 4000 + 7).astype(np.uint16)
PALETTE = [255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9]
LOSSLESS = {"WEBP": {"lossless": True, "exact": True}}
TURNED = {  # orientation of EXIF → the picture as it should be seen
    1: lambda picture: picture,
    2: np.fliplr,
    3: lambda picture: np.rot90(picture, 2),
    4: np.flipud,
    5: lambda picture: picture.swapaxes(0, 1),
    6: lambda picture: np.rot90(picture, -1),
    7: lambda picture: np.rot90(picture, 2).swapaxes(0, 1),
    8: np.rot90,
}


def encoded(picture: np.ndarray | PIL.Image.Image, kind: str, orientation: int | None = None, **options) -> bytes:
    """A picture in a format."""
    if orientation is not None:
        options["exif"] = PIL.Image.Exif()
        options["exif"][0x0112] = orientation
    image = picture if isinstance(picture, PIL.Image.Image) else PIL.Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, kind, **{**LOSSLESS.get(kind, {}), **options})
    return buffer.getvalue()


def animated(kind: str) -> bytes:
    """A file of two pictures."""
    return encoded(COLOUR, kind, save_all=True, append_images=[PIL.Image.fromarray(255 - COLOUR)])


def with_palette() -> PIL.Image.Image:
    image = PIL.Image.fromarray(GREY % 4).convert("P")
    image.putpalette(PALETTE)
    return image


def decoded(data: Sequence[bytes], channels: int = 3, dtype: tf.DType = tf.uint8, **options) -> np.ndarray:
    spec = tf.TensorSpec((None, None, channels), dtype)
    read = tf.function(lambda data: pictures.decode(data, spec, None, **options), autograph=False)
    return read(tf.constant(data)).numpy()


def test_every_format_gives_the_same_pixels():
    """In colour, grey (GIF, BMP: with a palette) and black and white."""
    kinds = ("PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
    np.testing.assert_array_equal(decoded([encoded(COLOUR, kind) for kind in kinds]), [COLOUR] * len(kinds))
    odd = COLOUR[:3, :3]  # not as wide as BMP aligns rows
    np.testing.assert_array_equal(decoded([encoded(odd, kind) for kind in kinds]), [odd] * len(kinds))
    grey = decoded([encoded(GREY, kind) for kind in kinds], channels=1)[..., 0]
    np.testing.assert_array_equal(grey, [GREY] * len(kinds))
    kinds = ("PNG", "TIFF", "BMP", "GIF", "PPM")
    found = decoded([encoded(GREY > 100, kind) for kind in kinds])
    np.testing.assert_array_equal(found, [np.repeat((GREY > 100)[..., None] * 255, 3, axis=2)] * len(kinds))


def test_palettes_are_colours_or_indices():
    data = [encoded(with_palette(), kind) for kind in ("PNG", "TIFF", "BMP", "GIF")]
    colours = np.array(PALETTE).reshape(4, 3)[GREY % 4]
    for indices in (False, True):
        np.testing.assert_array_equal(decoded(data, indices=indices), [colours] * 4)
    np.testing.assert_array_equal(decoded(data, channels=1, indices=True)[..., 0], [GREY % 4] * 4)
    few_bits = encoded(with_palette(), "PNG", bits=2)
    np.testing.assert_array_equal(decoded([few_bits], channels=1, indices=True)[0, ..., 0], GREY % 4)


def test_orientation():
    """Every one of EXIF's in every format that has it, applied unless it is turned off."""
    data, expected = [], []
    for kind in ("PNG", "JPEG", "TIFF", "WEBP"):
        stored = decoded([encoded(COLOUR, kind)])[0]
        for orientation, turned in TURNED.items():
            data.append(encoded(COLOUR, kind, orientation))
            expected.append((turned(stored), stored))
    upright, as_stored = zip(*expected, strict=True)
    np.testing.assert_array_equal(decoded(data), upright)
    np.testing.assert_array_equal(decoded(data, options=PictureOptions(False, False)), as_stored)


def test_orientation_swaps_the_sides():
    wide = COLOUR[:2]
    found = decoded([encoded(wide, "JPEG", 6), encoded(wide.swapaxes(0, 1), "JPEG")])
    assert found.shape == (2, 4, 2, 3)


def test_all_bits():
    data = [encoded(DEEP, "PNG"), encoded(DEEP, "TIFF"), encoded(DEEP.astype(">u2"), "TIFF")]
    np.testing.assert_array_equal(decoded(data, 1, tf.uint16)[..., 0], [DEEP] * 3)
    spec = tf.TensorSpec((None, None, 1), tf.uint16)
    nearest = pictures.decode(tf.constant(data), spec, Resize(2, 2, "nearest"))
    np.testing.assert_array_equal(nearest[0, ..., 0], DEEP[1::2, 1::2])
    assert nearest.dtype == tf.uint16


@pytest.mark.parametrize(
    ("data", "dtype", "words"),
    [
        (encoded(DEEP, "PNG"), tf.uint8, "has 16 bits for a channel where 8 are read"),
        (encoded(COLOUR, "JPEG"), tf.uint16, "has 8 bits for a channel where 16 are read"),
        (encoded(DEEP.astype(np.float32), "TIFF"), tf.uint16, "more than 8 bits for a channel; 16 are read from PNG"),
        (b"P6\n1 1\n65535\n" + bytes(6), tf.uint8, "more than 8 bits for a channel"),
        (b"P5\n1 1\n1023\n" + bytes(2), tf.uint16, "more than 8 bits for a channel"),
        (b"no picture", tf.uint8, "is no picture of a format that can be read"),
        (b"", tf.uint8, "is no picture of a format that can be read"),
        (encoded(COLOUR, "WEBP")[:-20], tf.uint8, "decoder"),
        *((animated(kind), tf.uint8, "'first_frame' reads the first") for kind in ("GIF", "WEBP", "PNG", "TIFF")),
    ],
)
def test_refused(data, dtype, words):
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        decoded([data], 3, dtype)
    assert words in reason_of(error.value)


def test_the_first_of_several_pictures():
    data = [animated(kind) for kind in ("GIF", "WEBP", "PNG", "TIFF")]
    np.testing.assert_array_equal(decoded(data, options=PictureOptions(True, True)), [COLOUR] * 4)
    assert [pictures.decodes(each, 3) for each in data] == [False] * 4


def test_data_of_exif_that_are_damaged_change_nothing():
    whole = encoded(COLOUR, "JPEG", 6)
    at = whole.index(b"Exif\0\0") + 6
    damaged = whole[:at] + b"??" + whole[at + 2 :]
    np.testing.assert_array_equal(decoded([damaged])[0], decoded([encoded(COLOUR, "JPEG")])[0])
    assert encoded_pictures.plain(damaged, 3, encoded_pictures.DEFAULT).orientation == 1
