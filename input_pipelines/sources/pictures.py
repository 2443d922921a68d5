"""Encoded pictures (PNG, JPEG, BMP, GIF) as arrays."""

import tensorflow as tf

from input_pipelines.preparation.picture_operations import NEAREST, Resize
from input_pipelines.sources import record_files


def sized(spec: tf.TensorSpec, size: Resize | None) -> tf.TensorSpec:
    """The specification of pictures that are brought to a size."""
    if size is None:
        return spec
    # Of the nearest pixels none is between two values: classes of pixels stay whole.
    dtype = spec.dtype if size.method == NEAREST else tf.float32
    return tf.TensorSpec((size.height, size.width, spec.shape[-1]), dtype)


def decode(encoded: tf.Tensor, spec: tf.TensorSpec, size: Resize | None) -> tf.Tensor:
    """(examples,) strings as (examples, height, width, channels): 0 to 255, real numbers where resized."""

    def one(data: tf.Tensor) -> dict[str, tf.Tensor]:
        image = tf.ensure_shape(tf.io.decode_image(data, channels=spec.shape[-1], expand_animations=False), spec.shape)
        return {"image": image if size is None else resized(image, size)}

    return record_files.in_batches(one, encoded, {"image": sized(spec, size)})["image"]


def resized(image: tf.Tensor, size: Resize) -> tf.Tensor:
    """A single picture (height, width, channels) at a size."""
    return size(image[tf.newaxis], {})[0]


def decodes(encoded: bytes, channels: int) -> bool:
    """True where the data are a picture that can be read with this number of channels."""
    try:
        tf.io.decode_image(encoded, channels=channels, expand_animations=False)
    except tf.errors.OpError:
        return False
    return True
