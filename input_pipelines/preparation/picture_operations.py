"""Operations on pictures, and the one that makes pictures of flat numbers.

Those that move pixels say by `labelled` which of the pixels that they return have a label.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from input_pipelines.preparation.values import Learned, Shape
from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.common.schema import setting

NEAREST, BILINEAR = "nearest", "bilinear"
_ROUNDING = 1e-5


@dataclasses.dataclass(frozen=True)
class Resize:
    """An image of `height` x `width` pixels, by default "bilinear", and "nearest" for targets that hold classes."""

    height: int = setting(schema.integer(1))
    width: int = setting(schema.integer(1))
    method: str | None = setting(
        schema.optional(schema.choice("method", ("area", "bicubic", "bilinear", "gaussian", "lanczos3", "nearest"))),
        None,
    )

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        method = self.method or BILINEAR
        # Reducing without smoothing would leave a grain that depends on where pixels fall.
        return tf.image.resize(_pictures(values), (self.height, self.width), method, antialias=method != NEAREST)

    def labelled(self, present: tf.Tensor) -> tf.Tensor:
        """Returns where a pixel is made of labelled ones alone."""
        share_without = self(tf.cast(~present, tf.float32), {})
        return tf.abs(share_without) < _ROUNDING


@dataclasses.dataclass(frozen=True)
class CentralCrop:
    """The middle of an image, `height` x `width` pixels."""

    height: int = setting(schema.integer(1))
    width: int = setting(schema.integer(1))

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        values = _pictures(values)
        top, left = (values.shape[1] - self.height) // 2, (values.shape[2] - self.width) // 2
        return tf.image.crop_to_bounding_box(values, top, left, self.height, self.width)

    def labelled(self, present: tf.Tensor) -> tf.Tensor:
        """Returns where a pixel that stays has a label."""
        return self(present, {})


@dataclasses.dataclass(frozen=True)
class Grayscale:
    """One channel of a picture with three."""

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        if _pictures(values).shape[-1] != 3:
            raise ValueError(f"needs three channels, not {values.shape[-1]}")
        return tf.image.rgb_to_grayscale(values)

    def labelled(self, present: tf.Tensor) -> tf.Tensor:
        """Returns where all channels have a label."""
        return tf.reduce_all(present, axis=-1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class Reshape:
    """The same numbers in another `shape`; one of its entries may be -1."""

    shape: list[int] = setting(schema.sequence(schema.integer(-1)))

    def check(self, field: str) -> None:
        """Raises ConfigError for an axis of no length, or more than one whose length is left open."""
        if 0 in self.shape or self.shape.count(-1) > 1:
            raise ConfigError(f"{field}.shape", self.shape, "must be lengths of at least 1, one of them -1 at most")

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        count = int(np.prod(values.shape[1:]))
        known = int(np.prod([length for length in self.shape if length != -1]))
        shape = [count // known if length == -1 else length for length in self.shape]
        if np.prod(shape) != count:
            raise ValueError(f"cannot give {count} numbers the shape {self.shape}")
        return tf.reshape(values, [-1, *shape])

    def labelled(self, present: tf.Tensor) -> tf.Tensor:
        """Returns where a number in its new place has a label."""
        return self(present, {})

    def inverse(self, values: tf.Tensor, learned: Learned, shape: Shape) -> tf.Tensor:
        """The numbers in the shape that they had."""
        return tf.reshape(values, [-1, *shape])


def _pictures(values: tf.Tensor) -> tf.Tensor:
    # TensorFlow takes three axes for a single picture's.
    if values.shape.rank != 4:
        raise ValueError("holds no pictures of rows, columns and channels; 'reshape' makes them of flat numbers")
    return values
