"""Encoded pictures as arrays."""

import functools

import numpy as np
import tensorflow as tf

from input_pipelines.configuration import SourceConfig
from input_pipelines.preparation.picture_operations import NEAREST, Resize
from input_pipelines.sources import encoded_pictures, record_files
from input_pipelines.sources.encoded_pictures import PictureOptions
from trainer.common import patterns

_MIRRORED, _UPSIDE_DOWN, _SIDES_SWAPPED = (2, 3, 6, 7), (3, 4, 7, 8), (5, 6, 7, 8)  # orientations of EXIF


def sized(spec: tf.TensorSpec, size: Resize | None) -> tf.TensorSpec:
    """The specification of pictures that are brought to a size."""
    if size is None:
        return spec
    # Of the nearest pixels none is between two values: classes of pixels stay whole.
    dtype = spec.dtype if size.method == NEAREST else tf.float32
    return tf.TensorSpec((size.height, size.width, spec.shape[-1]), dtype)


def decode(
    encoded: tf.Tensor,
    spec: tf.TensorSpec,
    size: Resize | None,
    options: PictureOptions = encoded_pictures.DEFAULT,
    indices: bool = False,
) -> tf.Tensor:
    """(examples,) strings as (examples, height, width, channels) of `spec`'s type, real numbers where resized.

    Args:
      encoded: pictures in the formats of `encoded_pictures.ENDINGS`.
      spec: of a picture, uint8 or uint16; pictures of another depth fail.
      size: to bring them to.
      options: how they are read.
      indices: whether of pictures with a palette, read with one channel, the indices count instead of the colours.
    """
    make_plain = functools.partial(_plain, spec=spec, options=options, indices=indices)
    # Python's part is small for PNG and JPEG; it holds no state, so that steps may share and drop it.
    found = tf.numpy_function(make_plain, [encoded], [tf.string, tf.int32, tf.string], stateful=False)
    data, orientations, reasons = (tf.ensure_shape(each, encoded.shape) for each in found)
    refused = tf.boolean_mask(reasons, reasons != "")
    with tf.control_dependencies([tf.debugging.Assert(tf.equal(tf.size(refused), 0), [refused])]):
        data = tf.identity(data)

    def one(picture: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        data, orientation = picture
        image = tf.io.decode_image(data, channels=spec.shape[-1], dtype=spec.dtype, expand_animations=False)
        image = tf.ensure_shape(upright(tf.ensure_shape(image, (None, None, None)), orientation), spec.shape)
        return {"image": image if size is None else resized(image, size)}

    return record_files.in_batches(one, (data, orientations), {"image": sized(spec, size)})["image"]


def resized(image: tf.Tensor, size: Resize) -> tf.Tensor:
    """A single picture (height, width, channels) at a size."""
    return size(image[tf.newaxis], {})[0]


def decodes(encoded: bytes, channels: int, options: PictureOptions = encoded_pictures.DEFAULT) -> bool:
    """True where the data are a picture that can be read with this number of channels."""
    try:
        data = encoded_pictures.plain(encoded, channels, options).data
        tf.io.decode_image(data, channels=channels, expand_animations=False)
    except (tf.errors.OpError, ValueError):
        return False
    return True


def make_targets(config: SourceConfig, features: tuple[str, ...]) -> frozenset[str]:
    """Returns those of some features that targets are made of."""
    found: set[str] = set()
    for name, target in (config.targets or {}).items():
        given = name if target.feature is None else target.feature
        for pattern in [given] if isinstance(given, str) else given:
            found.update(patterns.matching(features, pattern))
    return frozenset(found)


def channel_type(path: str) -> tf.DType:
    """The type that holds a picture's channels: of 8 bits, also where it is none, or of 16."""
    try:
        with open(path, "rb") as file:
            return tf.uint16 if encoded_pictures.depth(file.read()) == 16 else tf.uint8
    except (OSError, ValueError):
        return tf.uint8


def _plain(
    encoded: np.ndarray, spec: tf.TensorSpec, options: PictureOptions, indices: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(examples,) bytes that TensorFlow decodes, int32 orientations, and why pictures are refused, or nothing."""
    expected = 8 * spec.dtype.size
    data, orientations, reasons = (np.full(encoded.shape, value, object) for value in (b"", 1, b""))
    for index, each in enumerate(encoded):
        try:
            one = encoded_pictures.plain(each, spec.shape[-1], options, indices)
        except ValueError as error:
            reasons[index] = str(error).encode()
            continue
        if one.depth != expected:
            rule = "all must have the depth of the training split's first, of TFRecords that of 'dtype'"
            reasons[index] = f"has {one.depth} bits for a channel where {expected} are read: {rule}".encode()
        data[index], orientations[index] = one.data, one.orientation
    return data, orientations.astype(np.int32), reasons


def upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """A picture (height, width, channels) turned as its orientation in EXIF says."""

    def turned() -> tf.Tensor:
        result = tf.cond(_is_in(orientation, _SIDES_SWAPPED), lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
        result = tf.cond(_is_in(orientation, _MIRRORED), lambda: tf.reverse(result, [1]), lambda: result)
        return tf.cond(_is_in(orientation, _UPSIDE_DOWN), lambda: tf.reverse(result, [0]), lambda: result)

    return tf.cond(orientation > 1, turned, lambda: image)


def _is_in(orientation: tf.Tensor, some: tuple[int, ...]) -> tf.Tensor:
    return tf.reduce_any(orientation == tf.constant(some, tf.int32))
