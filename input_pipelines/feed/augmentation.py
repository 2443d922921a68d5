"""Random changes of training inputs, drawn for every example from (seed, its position) alone.

An operation is a dataclass of its options. Called with values, batch first, and with the draws of the batch, it returns
new values of the same shape. Values that go together (a picture and its mask) see the same draws. What moves pixels
(`moves.py`) moves the targets on them with their weights.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from input_pipelines.feed import moves
from input_pipelines.feed.moves import Flip, Rotate, Shift, Zoom, wide
from input_pipelines.feed.random_draws import Draws
from input_pipelines.preparation import operations as operations_lib
from trainer.common import schema
from trainer.common.errors import ConfigError, first_line, unknown
from trainer.common.schema import setting

_ON = "on"
_SAMPLE = 256  # examples that say whether a target of real numbers holds classes


@dataclasses.dataclass(frozen=True)
class Brightness:
    """Add up to `by` either way to all of an example."""

    by: float = setting(schema.number(positive=True))

    def __call__(self, values: tf.Tensor, draws: Draws) -> tf.Tensor:
        return values + wide(tf.cast(draws.uniform(-self.by, self.by), values.dtype), values)


@dataclasses.dataclass(frozen=True)
class Contrast:
    """Stretch what differs from an example's mean by a factor of 1 - `by` to 1 + `by`."""

    by: float = setting(schema.fraction)

    def __call__(self, values: tf.Tensor, draws: Draws) -> tf.Tensor:
        mean = tf.reduce_mean(values, axis=tuple(range(1, values.shape.rank)), keepdims=True)
        factors = wide(tf.cast(draws.uniform(1 - self.by, 1 + self.by), values.dtype), values)
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
        return tf.where(wide(hidden, values), tf.zeros((), values.dtype), values)


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
      whole: the names of those that hold whole numbers only, which a move must not mix.
    """

    operations: tuple[tuple[Any, tuple[str, ...]], ...]
    whole: Collection[str] = ()

    def __call__(self, batch: dict[str, Any], seed: int, positions: tf.Tensor) -> dict[str, Any]:
        """A batch changed, from the run's seed and (examples,) positions in the endless sequence of epochs.

        Targets of which a move uncovers pixels have weights in it, whether they had some or not.
        """
        for purpose, (operation, names) in enumerate(self.operations):
            draws = Draws(seed, purpose, positions)
            for name in names:
                if isinstance(operation, moves.Move):
                    batch = self._moved(batch, name, operation, draws)
                    continue
                before = _get(batch, name)
                if isinstance(operation, operations_lib.Own):
                    after = tf.convert_to_tensor(operation.function(before, draws, **operation.arguments))
                else:
                    after = operation(before, draws)
                batch = _replaced(batch, name, tf.ensure_shape(tf.cast(after, before.dtype), before.shape))
        return batch

    def changed(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the specifications of one changed example."""
        after = self(_zeros(spec), 0, tf.range(2, dtype=tf.int64))
        return tf.nest.map_structure(lambda values: tf.TensorSpec(values.shape[1:], values.dtype), after)

    def _moved(self, batch: dict[str, Any], name: str, move: moves.Move, draws: Draws) -> dict[str, Any]:
        before = _get(batch, name)
        part, _, target = name.partition(".")
        if part != "targets":
            return _replaced(batch, name, move(before, draws, name in self.whole))
        weights = batch.get("weights", {})
        after, own = moves.of_target(move, before, weights.get(target), draws, whole=name in self.whole)
        batch = _replaced(batch, name, after)
        return batch if own is None else batch | {"weights": {**weights, target: tf.cast(own, keras.config.floatx())}}


def build(
    specs: Sequence[Mapping[str, Any]], field: str, spec: Mapping[str, Any], first: Callable[[int], Mapping[str, Any]]
) -> Augmentation | None:
    """The augmentation of a configuration; None where there is none.

    Args:
      specs: each a `name` (registered, or an import path), options, and perhaps `on`: what it changes, by default all
        inputs, and of moves all pictures among them with the targets that lie on them.
      field: the configuration's key, for errors.
      spec: specifications of one example.
      first: a number → arrays of that many examples, unchanged.

    Raises:
      ConfigError: an operation, option or name that does not exist, or values that it cannot change.
    """
    if not specs:
        return None
    without = [{key: value for key, value in each.items() if key != _ON} for each in specs]
    built = operations_lib.build(without, field, AUGMENTATIONS)
    inputs = [f"inputs.{name}" for name in spec["inputs"]] if isinstance(spec["inputs"], Mapping) else ["inputs"]
    targets = [f"targets.{name}" for name in spec["targets"]]
    found = []
    for index, (operation, each) in enumerate(zip(built, specs, strict=True)):
        usual = _on_pictures(spec, inputs, targets) if isinstance(operation, moves.Move) else inputs
        names = schema.sequence(schema.string)(each.get(_ON, usual), f"{field}.{index}.{_ON}")
        for name in names:
            if name not in (*inputs, *targets):
                raise unknown(f"{field}.{index}.{_ON}", name, "input or target", [*inputs, *targets])
        found.append((operation, tuple(names)))
        _try_once(Augmentation((found[-1],)), f"{field}.{index}", each["name"], spec)
    moved = {name for operation, names in found if isinstance(operation, moves.Move) for name in names}
    return Augmentation(tuple(found), _whole(moved, spec, first))


def _on_pictures(spec: Mapping[str, Any], inputs: Sequence[str], targets: Sequence[str]) -> list[str]:
    """The inputs that are pictures, with the targets of the same rows and columns; all inputs where none is one."""
    shapes = {name: _get(spec, name).shape for name in (*inputs, *targets)}
    pictures = [name for name in inputs if shapes[name].rank >= 2]
    on_them = [name for name in targets if any(moves.lies_on(shapes[name], shapes[each]) for each in pictures)]
    return [*pictures, *on_them] or list(inputs)


def _whole(
    names: Collection[str], spec: Mapping[str, Any], first: Callable[[int], Mapping[str, Any]]
) -> frozenset[str]:
    """Those of the names whose values are whole numbers: of integers, and targets that show no other number."""
    integers = {name for name in names if not _get(spec, name).dtype.is_floating}
    others = [name for name in names if name not in integers and name.startswith("targets.")]
    sample = first(_SAMPLE) if others else {}
    return frozenset(integers | {name for name in others if not np.any(_get(sample, name) % 1)})


def _try_once(augmentation: Augmentation, field: str, name: str, spec: Mapping[str, Any]) -> None:
    operation, names = augmentation.operations[0]
    for changed in names:
        if not isinstance(operation, moves.Move) and not _get(spec, changed).dtype.is_floating:
            raise ConfigError(field, name, f"changes {changed}, which is not of real numbers; prepare it with 'scale'")
    try:
        augmentation(_zeros(spec), 0, tf.range(2, dtype=tf.int64))
    except Exception as error:
        shapes = ", ".join(str(tuple(_get(spec, changed).shape)) for changed in names)
        raise ConfigError(field, name, f"does not fit an example of shape {shapes}: {first_line(error)}") from error


def _zeros(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A batch of two examples of zeros."""
    return tf.nest.map_structure(lambda leaf: tf.zeros((2, *leaf.shape), leaf.dtype), dict(spec))


def _get(batch: Mapping[str, Any], name: str) -> Any:
    part, dot, rest = name.partition(".")
    return batch[part][rest] if dot else batch[part]


def _replaced(batch: dict[str, Any], name: str, value: tf.Tensor) -> dict[str, Any]:
    part, dot, rest = name.partition(".")
    return batch | {part: {**batch[part], rest: value} if dot else value}
