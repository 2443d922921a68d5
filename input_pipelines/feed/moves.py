"""Random moves of pictures, in which the targets that lie on their pixels, and those targets' weights, take part.

A move is a dataclass of its options. Called with pictures (examples, rows, columns, ...) and with the draws of the
batch, it returns pictures of the same shape; pixels that come from outside are 0.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import tensorflow as tf

from input_pipelines.feed.random_draws import Draws
from trainer.common import schema
from trainer.common.schema import setting

_ALL = 1 - 1e-5  # the share of a pixel that must come from labelled ones: all of it, but for rounding
_TRANSFORMED = (tf.uint8, tf.int32, tf.int64, tf.float16, tf.float32, tf.float64)  # by TensorFlow's kernel


@dataclasses.dataclass(frozen=True)
class Flip:
    """Mirror pictures left to right (`axis` "horizontal") or upside down ("vertical"), half of them."""

    axis: str = setting(schema.choice("axis", ("horizontal", "vertical")), "horizontal")
    uncovers: ClassVar[bool] = False

    def __call__(self, values: tf.Tensor, draws: Draws, whole: bool = False) -> tf.Tensor:
        mirrored = tf.reverse(values, [2 if self.axis == "horizontal" else 1])
        return tf.where(wide(draws.uniform(0, 1) < 0.5, values), mirrored, values)


@dataclasses.dataclass(frozen=True)
class Shift:
    """Move pictures by up to the share `by` of height and width; uncovered pixels are black."""

    by: float = setting(schema.fraction)
    uncovers: ClassVar[bool] = True

    def __call__(self, values: tf.Tensor, draws: Draws, whole: bool = False) -> tf.Tensor:
        moves = tf.round(draws.uniform(-self.by, self.by, 2) * tf.constant(list(values.shape[1:3]), tf.float32))
        ones, zeros = tf.ones_like(moves[:, 0]), tf.zeros_like(moves[:, 0])
        return _transformed(values, [ones, zeros, moves[:, 1], zeros, ones, moves[:, 0]], whole=True)


@dataclasses.dataclass(frozen=True)
class Rotate:
    """Turn pictures by up to `degrees` either way; uncovered pixels are black."""

    degrees: float = setting(schema.number(positive=True))
    uncovers: ClassVar[bool] = True

    def __call__(self, values: tf.Tensor, draws: Draws, whole: bool = False) -> tf.Tensor:
        angles = draws.uniform(-self.degrees, self.degrees) * (math.pi / 180)
        return about_the_middle(values, tf.cos(angles), tf.sin(angles), whole)


@dataclasses.dataclass(frozen=True)
class Zoom:
    """Enlarge or shrink pictures by up to the share `by`; uncovered pixels are black."""

    by: float = setting(schema.fraction)
    uncovers: ClassVar[bool] = True

    def __call__(self, values: tf.Tensor, draws: Draws, whole: bool = False) -> tf.Tensor:
        factors = 1 / draws.uniform(1 - self.by, 1 + self.by)
        return about_the_middle(values, factors, tf.zeros_like(factors), whole)


Move = Flip | Shift | Rotate | Zoom


def of_target(
    move: Move, target: tf.Tensor, weights: tf.Tensor | None, draws: Draws, *, whole: bool
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """A target of pixels and the weights of its labels, moved together.

    Args:
      move: what moves them.
      target: (examples, rows, columns, ...).
      weights: of examples, (examples,), or of pixels, (examples, rows, columns, ...); None: all are 1.
      draws: the numbers that the picture below is moved by.
      whole: the target's numbers stay those that it holds (classes); others are interpolated.

    Returns:
      The target, and weights that are 0 where a pixel comes from outside or, of an interpolated target, from one
      without a label; None where none were given and nothing comes from outside.
    """
    of_pixels = weights is not None and lies_on(weights.shape[1:], target.shape[1:])
    if not (move.uncovers or of_pixels):
        return move(target, draws, whole), weights
    if not of_pixels:
        one_of_each = target[(..., *(0,) * (target.shape.rank - 3))]
        ones = tf.ones_like(one_of_each, tf.float32 if weights is None else weights.dtype)
        weights = ones if weights is None else ones * wide(weights, ones)
    if whole or not move.uncovers:
        return move(target, draws, whole), move(weights, draws, whole=True)
    kept = move(tf.cast(weights > 0, tf.float32), draws) > _ALL
    moved = move(target, draws)
    return (
        tf.where(wide(kept, moved), moved, tf.zeros((), moved.dtype)),
        tf.where(kept, move(weights, draws), tf.zeros((), weights.dtype)),
    )


def lies_on(shape: Sequence[int | None], picture: Sequence[int | None]) -> bool:
    """Returns True where values of `shape`, without the examples' axis, have a value for each of a picture's pixels."""
    return len(shape) >= 2 and len(picture) >= 2 and list(shape[:2]) == list(picture[:2])


def wide(values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Values with axes of 1 at their end, up to the rank of `like`."""
    return values[(..., *(tf.newaxis,) * (like.shape.rank - values.shape.rank))]


def about_the_middle(values: tf.Tensor, a: tf.Tensor, b: tf.Tensor, whole: bool = False) -> tf.Tensor:
    """Pictures whose point (x, y) comes from (a x - b y, b x + a y), both measured from the middle."""
    middle_y, middle_x = ((length - 1) / 2 for length in values.shape[1:3])
    across = middle_x - (a * middle_x - b * middle_y)
    down = middle_y - (b * middle_x + a * middle_y)
    return _transformed(values, [a, -b, across, b, a, down], whole)


def _transformed(values: tf.Tensor, rows: Sequence[tf.Tensor], whole: bool) -> tf.Tensor:
    zeros = tf.zeros_like(rows[0])
    flat: Any = values if values.shape.rank == 4 else values[..., tf.newaxis]
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=flat if flat.dtype in _TRANSFORMED else tf.cast(flat, tf.int64),
        transforms=tf.stack([*rows, zeros, zeros], axis=1),
        output_shape=tf.constant(list(values.shape[1:3]), tf.int32),
        fill_value=0.0,
        interpolation="NEAREST" if whole else "BILINEAR",
        fill_mode="CONSTANT",
    )
    return tf.cast(tf.reshape(moved, tf.shape(values)), values.dtype)
