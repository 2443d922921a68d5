"""Encoded pictures as arrays without Python, for a graph that leaves this process: PNG and JPEG alone.

They become what `pictures.decode` makes of them; what that needs Python for fails here, with a line that says so.
"""

import functools

import tensorflow as tf

from input_pipelines.preparation.picture_operations import Resize
from input_pipelines.sources import encoded_pictures, pictures
from input_pipelines.sources.encoded_pictures import PictureOptions

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_DEPTH, _COLOUR, _PALETTE = 24, 25, 3  # bytes of a PNG's header, and one of their values
_MARKER, _SCAN, _EXIF = 0xFF, 0xDA, 0xE1  # of JPEG
_EXIF_NAME, _TIFF = b"Exif\0\0", 10  # what follows in a segment of EXIF, and where its TIFF begins
_ENTRY, _ORIENTATION = 12, 0x0112  # bytes of an entry of TIFF, and a tag
_BYTE, _SHORT, _LONG = 1, 3, 4  # types of entries
_NOWHERE = -1
_PADDING = 32  # bytes behind the data, so that what is cut off is read as nothing


def decode(
    encoded: tf.Tensor,
    spec: tf.TensorSpec,
    size: Resize | None,
    options: PictureOptions = encoded_pictures.DEFAULT,
    indices: bool = False,
) -> tf.Tensor:
    """As `pictures.decode`, in operations of TensorFlow alone.

    A picture that is neither PNG nor JPEG, or holds several, or has another depth than `spec` fails; so does a palette
    where its indices count.
    """
    one = functools.partial(_decoded, spec=spec, size=size, options=options, indices=indices)
    return tf.map_fn(one, encoded, fn_output_signature=pictures.sized(spec, size))


def _decoded(
    data: tf.Tensor, spec: tf.TensorSpec, size: Resize | None, options: PictureOptions, indices: bool
) -> tf.Tensor:
    numbers = tf.pad(tf.cast(tf.io.decode_raw(data, tf.uint8), tf.int32), [[0, _PADDING]])
    is_png, is_jpeg = _starts(numbers, 0, _PNG), _starts(numbers, 0, _JPEG)
    exif, animated = tf.cond(is_png, lambda: _in_png(numbers), lambda: (_in_jpeg(numbers), tf.constant(False)))
    is_deep = tf.logical_and(is_png, tf.equal(numbers[_DEPTH], 16))
    checks = [
        (tf.logical_or(is_png, is_jpeg), "is neither PNG nor JPEG, all that is decoded here"),
        (tf.equal(is_deep, spec.dtype.size == 2), f"must have {8 * spec.dtype.size} bits for a channel"),
    ]
    if not options.first_frame:
        checks.append((tf.logical_not(animated), "holds several pictures"))
    if indices and spec.shape[-1] == 1:
        has_palette = tf.logical_and(is_png, tf.equal(numbers[_COLOUR], _PALETTE))
        checks.append((tf.logical_not(has_palette), "has a palette, whose indices are not read here"))
    with tf.control_dependencies([tf.debugging.Assert(right, [f"a picture {reason}"]) for right, reason in checks]):
        image = tf.io.decode_image(data, channels=spec.shape[-1], dtype=spec.dtype, expand_animations=False)
    image = tf.ensure_shape(image, (None, None, None))
    if options.orientation:
        image = pictures.upright(image, tf.cond(exif >= 0, lambda: _orientation(numbers, exif), lambda: 1))
    image = tf.ensure_shape(image, spec.shape)
    return image if size is None else pictures.resized(image, size)


def _starts(numbers: tf.Tensor, at: tf.Tensor | int, text: bytes) -> tf.Tensor:
    """True where these bytes stand at a place; there are always enough numbers behind it."""
    return tf.reduce_all(tf.equal(numbers[at : at + len(text)], list(text)))


def _number(numbers: tf.Tensor, at: tf.Tensor, count: int, is_little: tf.Tensor | bool = False) -> tf.Tensor:
    """The whole number of `count` bytes at a place; at most the largest of int32."""
    own = numbers[at : at + count]
    own = tf.where(is_little, tf.reverse(own, [0]), own)
    factors = tf.constant([256**power for power in reversed(range(count))], tf.int64)
    return tf.cast(tf.minimum(tf.reduce_sum(tf.cast(own, tf.int64) * factors), tf.int32.max // 2), tf.int32)


def _in_jpeg(numbers: tf.Tensor) -> tf.Tensor:
    """The place of the TIFF in the first segment of EXIF; `_NOWHERE` without one."""
    end = tf.size(numbers) - _PADDING

    def searches(at: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        is_segment = tf.logical_and(tf.equal(numbers[at], _MARKER), tf.not_equal(numbers[at + 1], _SCAN))
        return tf.logical_and(tf.logical_and(at + _TIFF <= end, found < 0), is_segment)

    def step(at: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        is_exif = tf.logical_and(tf.equal(numbers[at + 1], _EXIF), _starts(numbers, at + 4, _EXIF_NAME))
        following = tf.minimum(at + 2 + _number(numbers, at + 2, 2), end)
        return following, tf.where(is_exif, at + _TIFF, found)

    # Places of bytes stay below `end`, behind which there is padding.
    return tf.while_loop(searches, step, (tf.constant(2), tf.constant(_NOWHERE)))[1]


def _in_png(numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The place of the TIFF in the chunk of EXIF, `_NOWHERE` without one; and whether the file holds an animation."""
    end = tf.size(numbers) - _PADDING

    def step(at: tf.Tensor, found: tf.Tensor, animated: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        found = tf.where(_starts(numbers, at + 4, b"eXIf"), at + 8, found)
        animated = tf.logical_or(animated, _starts(numbers, at + 4, b"acTL"))
        length = tf.minimum(_number(numbers, at, 4), end)
        return tf.minimum(at + 12 + length, end), found, animated

    start = (tf.constant(len(_PNG)), tf.constant(_NOWHERE), tf.constant(False))
    return tf.while_loop(lambda at, *_: at + 8 <= end, step, start)[1:]


def _orientation(numbers: tf.Tensor, tiff: tf.Tensor) -> tf.Tensor:
    """The orientation that the TIFF at a place has, 1 to 8; 1 where it says nothing."""
    end = tf.size(numbers) - _PADDING
    is_little = tf.equal(numbers[tiff], ord("I"))
    directory = tf.minimum(tiff + _number(numbers, tiff + 4, 4, is_little), end)
    count = tf.minimum(_number(numbers, directory, 2, is_little), (end - directory) // _ENTRY)
    entries = tf.reshape(numbers[directory + 2 : directory + 2 + count * _ENTRY], [-1, _ENTRY])

    def short(first: int) -> tf.Tensor:
        high, low = entries[:, first], entries[:, first + 1]
        return tf.where(is_little, low * 256 + high, high * 256 + low)

    kind = short(2)
    long = tf.where(is_little, short(8), short(10))
    values = tf.where(tf.equal(kind, _LONG), long, tf.where(tf.equal(kind, _BYTE), entries[:, 8], short(8)))
    known = tf.logical_and(values >= 1, values <= 8)
    is_it = tf.logical_and(tf.equal(short(0), _ORIENTATION), _is_one_of(kind, (_BYTE, _SHORT, _LONG)))
    found = tf.boolean_mask(values, tf.logical_and(is_it, known))
    return tf.concat([[1], found], axis=0)[-1]


def _is_one_of(values: tf.Tensor, some: tuple[int, ...]) -> tf.Tensor:
    return tf.reduce_any(tf.equal(values[:, tf.newaxis], tf.constant(some)), axis=1)
