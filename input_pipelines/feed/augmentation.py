"""Random changes of training inputs, drawn for every example from (seed, its position) alone.

An operation is a dataclass of its options. Called with values, batch first, and with the draws of the batch, it returns
new values of the same shape. Values that go together (a picture and its mask) see the same draws.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from input_pipelines.feed.random_draws import Draws
from input_pipelines.preparation import operations as operations_lib
from trainer.common import schema
from trainer.common.errors import ConfigError, first_line, unknown
from trainer.common.schema import setting

_ON = "on"


@dataclasses.dataclass(frozen=True)
class Flip:
    """Mirror pictures left to right (`axis` "horizontal") or upside down ("vertical"), half of them."""

    axis: str = setting(schema.choice("axis", ("horizontal", "vertical")), "horizontal")

    def __call__(self, values: tf.Tensor, draws: Draws) -> tf.Tensor:
        mirrored = tf.reverse(values, [2 if self.axis == "horizontal" else 1])
        return tf.where(_wide(draws.uniform(0, 1) < 0.5, values), mirrored, values)


@dataclasses.dataclass(frozen=True)
class Shift:
    """Move pictures by up to the share `by` of height and width; uncovered pixels are black."""

    by: float = setting(schema.fraction)

    def __call__(self, values: tf.Tensor, draws: Draws) -> tf.Tensor:
        moves = tf.round(draws.uniform(-self.by, self.by, 2) * tf.constant(list(values.shape[1:3]), tf.float32))
        ones, zeros = tf.ones_like(moves[:, 0]), tf.zeros_like(moves[:, 0])
        return _transformed(values, [ones, zeros, moves[:, 1], zeros, ones, moves[:, 0]], "NEAREST")


@dataclasses.dataclass(frozen=True)
class Rotate:
    """Turn pictures by up to `degrees` either way."""

    degrees: float = setting(schema.number(positive=True))

    def __call__(self, values: tf.Tensor, draws: Draws) -> tf.Tensor:
        angles = draws.uniform(-self.degrees, self.degrees) * (math.pi / 180)
        return _about_the_middle(values, tf.cos(angles), tf.sin(angles))


@dataclasses.dataclass(frozen=True)
class Zoom:
    """Enlarge or shrink pictures by up to the share `by`."""

    by: float = setting(schema.fraction)

    def __call__(self, values: tf.Tensor, draws: Draws) -> tf.Tensor:
        factors = 1 / draws.uniform(1 - self.by, 1 + self.by)
        return _about_the_middle(values, factors, tf.zeros_like(factors))


@dataclasses.dataclass(frozen=True)
class Brightness:
    """Add up to `by` either way to all of an example."""

    by: float = setting(schema.number(positive=True))

    def __call__(self, values: tf.Tensor, draws: Draws) -> tf.Tensor:
        return values + _wide(tf.cast(draws.uniform(-self.by, self.by), values.dtype), values)


@dataclasses.dataclass(frozen=True)
class Contrast:
    """Stretch what differs from an example's mean by a factor of 1 - `by` to 1 + `by`."""

    by: float = setting(schema.fraction)

    def __call__(self, values: tf.Tensor, draws: Draws) -> tf.Tensor:
        mean = tf.reduce_mean(values, axis=tuple(range(1, values.shape.rank)), keepdims=True)
        factors = _wide(tf.cast(draws.uniform(1 - self.by, 1 + self.by), values.dtype), values)
        return mean + factors * (values - mean)


@dataclasses.dataclass(frozen=True)
class Noise:
    """Add normally distributed numbers of standard deviation `deviation`."""

    deviation: float = setting(schema.number(positive=True))

    def __call__(self, values: tf.Tensor, draws: Draws) -> tf.Tensor:
        return values + tf.cast(self.deviation * draws.normal(*values.shape[1:]), values.dtype)


@dataclasses.dataclass(frozen=True)
class Cutout:
    """Black out a square of `size` pixels anywhere in a picture (https://arxiv.org/abs/1708.04552)."""

    size: int = setting(schema.integer(1))

    def __call__(self, values: tf.Tensor, draws: Draws) -> tf.Tensor:
        height, width = values.shape[1:3]
        starts = tf.floor(draws.uniform(0, 1, 2) * tf.constant([height, width], tf.float32)) - self.size // 2
        places = (
            tf.range(length, dtype=tf.float32) - starts[:, axis, tf.newaxis]
            for axis, length in ((0, height), (1, width))
        )
        rows, columns = (tf.logical_and(place >= 0, place < self.size) for place in places)
        hidden = tf.logical_and(rows[:, :, tf.newaxis], columns[:, tf.newaxis, :])
        return tf.where(_wide(hidden, values), tf.zeros((), values.dtype), values)


AUGMENTATIONS: Mapping[str, type] = {
    "flip": Flip,
    "shift": Shift,
    "rotate": Rotate,
    "zoom": Zoom,
    "brightness": Brightness,
    "contrast": Contrast,
    "noise": Noise,
    "cutout": Cutout,
}


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """The random changes of a source's training examples, in order.

    Attributes:
      operations: each with the names of what it changes: `inputs`, `inputs.<name>` or `targets.<name>`.
    """

    operations: tuple[tuple[Any, tuple[str, ...]], ...]

    def __call__(self, batch: dict[str, Any], seed: int, positions: tf.Tensor) -> dict[str, Any]:
        """A batch changed, from the run's seed and (examples,) positions in the endless sequence of epochs."""
        for purpose, (operation, names) in enumerate(self.operations):
            draws = Draws(seed, purpose, positions)
            for name in names:
                before = _get(batch, name)
                if isinstance(operation, operations_lib.Own):
                    after = tf.convert_to_tensor(operation.function(before, draws, **operation.arguments))
                else:
                    after = operation(before, draws)
                batch = _replaced(batch, name, tf.ensure_shape(tf.cast(after, before.dtype), before.shape))
        return batch


def build(specs: Sequence[Mapping[str, Any]], field: str, spec: Mapping[str, Any]) -> Augmentation | None:
    """The augmentation of a configuration; None where there is none.

    Args:
      specs: each a `name` (registered, or an import path), options, and perhaps `on`: what it changes, by default all
        inputs.
      field: the configuration's key, for errors.
      spec: specifications of one example.

    Raises:
      ConfigError: an operation, option or name that does not exist, or values that it cannot change.
    """
    if not specs:
        return None
    without = [{key: value for key, value in each.items() if key != _ON} for each in specs]
    built = operations_lib.build(without, field, AUGMENTATIONS)
    inputs = [f"inputs.{name}" for name in spec["inputs"]] if isinstance(spec["inputs"], Mapping) else ["inputs"]
    known = [*inputs, *(f"targets.{name}" for name in spec["targets"])]
    found = []
    for index, (operation, each) in enumerate(zip(built, specs, strict=True)):
        names = schema.sequence(schema.string)(each.get(_ON, inputs), f"{field}.{index}.{_ON}")
        for name in names:
            if name not in known:
                raise unknown(f"{field}.{index}.{_ON}", name, "input or target", known)
        found.append((operation, tuple(names)))
        _try_once(Augmentation((found[-1],)), f"{field}.{index}", each["name"], spec)
    return Augmentation(tuple(found))


def _try_once(augmentation: Augmentation, field: str, name: str, spec: Mapping[str, Any]) -> None:
    batch = tf.nest.map_structure(lambda leaf: tf.zeros((2, *leaf.shape), leaf.dtype), dict(spec))
    for changed in augmentation.operations[0][1]:
        if not _get(batch, changed).dtype.is_floating:
            raise ConfigError(field, name, f"changes {changed}, which is not of real numbers; prepare it with 'scale'")
    try:
        augmentation(batch, 0, tf.range(2, dtype=tf.int64))
    except Exception as error:
        shapes = ", ".join(str(tuple(_get(spec, changed).shape)) for changed in augmentation.operations[0][1])
        raise ConfigError(field, name, f"does not fit an example of shape {shapes}: {first_line(error)}") from error


def _get(batch: Mapping[str, Any], name: str) -> Any:
    part, dot, rest = name.partition(".")
    return batch[part][rest] if dot else batch[part]


def _replaced(batch: dict[str, Any], name: str, value: tf.Tensor) -> dict[str, Any]:
    part, dot, rest = name.partition(".")
    return batch | {part: {**batch[part], rest: value} if dot else value}


def _wide(per_example: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    return per_example[(..., *(tf.newaxis,) * (values.shape.rank - per_example.shape.rank))]


def _about_the_middle(values: tf.Tensor, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Pictures whose point (x, y) comes from (a x - b y, b x + a y), both measured from the middle."""
    middle_y, middle_x = ((length - 1) / 2 for length in values.shape[1:3])
    across = middle_x - (a * middle_x - b * middle_y)
    down = middle_y - (b * middle_x + a * middle_y)
    return _transformed(values, [a, -b, across, b, a, down], "BILINEAR")


def _transformed(values: tf.Tensor, rows: Sequence[tf.Tensor], interpolation: str) -> tf.Tensor:
    zeros = tf.zeros_like(rows[0])
    flat = values if values.shape.rank == 4 else values[..., tf.newaxis]
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=flat,
        transforms=tf.stack([*rows, zeros, zeros], axis=1),
        output_shape=tf.constant(list(values.shape[1:3]), tf.int32),
        fill_value=0.0,
        interpolation=interpolation,
        fill_mode="CONSTANT",
    )
    return tf.reshape(moved, tf.shape(values))
