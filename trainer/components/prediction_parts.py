"""The parts of a prediction: what a loss's head says of its target, for programs and in words."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from input_pipelines.names import Classes
from input_pipelines.preparation.inverses import Inverse

VALUE, PROBABILITY, SCORE, DEVIATION, QUANTILE = "", "probability", "score", "deviation", "quantile"


class Output(NamedTuple):
    """A tensor that a prediction has.

    Attributes:
      name: `<loss>` for the value or the class, `<loss>/probability` and so on.
      shape: of one example; None where a size is open.
      dtype: its type's name.
      columns: a name for each of its numbers, `<loss>/<column>`, where it is one number or a vector; else none.
      classes: the names of the classes, where it holds classes or one number for each; else none.
      meaning: a sentence for people.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    columns: tuple[str, ...]
    classes: tuple[str, ...]
    meaning: str


class Part(NamedTuple):
    """A part in words, before its shape is known.

    Attributes:
      meaning: a sentence for people.
      columns: the names of the numbers of its last axis; empty: they are counted.
      classes: as `Output.classes`.
    """

    meaning: str
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


class Parts(NamedTuple):
    """The parts that a loss's prediction has.

    Attributes:
      compute: from what the loss reads of its head, batch first, to the tensor of each part.
      described: the same parts in words, in the same order.
    """

    compute: Callable[[tf.Tensor], dict[str, tf.Tensor]]
    described: Mapping[str, Part]


class Target(NamedTuple):
    """The target of a loss, as far as predictions need it.

    Attributes:
      name: its name.
      shape: of one prepared example.
      dtype: of prepared examples.
      inverse: the way back to the source's units.
      columns: the names of its numbers; empty: it has one, or they have none.
      classes: the names of classes, as `Names.classes` has them; empty: not known.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: tf.DType
    inverse: Inverse = Inverse()
    columns: tuple[str, ...] = ()
    classes: Classes = ()


def outputs(loss: str, parts: Parts, prediction: tf.TensorSpec) -> tuple[Output, ...]:
    """Returns what a loss's parts are for predictions of this shape, batch first."""
    spec = tf.TensorSpec((None, *prediction.shape[1:]), prediction.dtype)
    found = tf.function(parts.compute, autograph=False).get_concrete_function(spec).structured_outputs
    described = []
    for key, part in parts.described.items():
        name, shape = name_of(loss, key), tuple(found[key].shape[1:])
        columns = _columns(name, shape, part.columns)
        described.append(Output(name, shape, found[key].dtype.name, columns, part.classes, part.meaning))
    return tuple(described)


def name_of(loss: str, key: str) -> str:
    """The name of a part of a loss's prediction."""
    return f"{loss}/{key}" if key else loss


def in_shape_of(target: Target, values: tf.Tensor) -> tf.Tensor:
    """Returns values without the axis of one number at their end that the target does not have."""
    extra = values.shape.rank - 1 == len(target.shape) + 1 and values.shape[-1] == 1
    return tf.squeeze(values, -1) if extra else values


def _columns(name: str, shape: tuple[int | None, ...], given: Sequence[str]) -> tuple[str, ...]:
    if shape in ((), (1,)):
        return (name,)
    if len(shape) > 1 or shape[0] is None:
        return ()
    is_named = len(given) == shape[0] == len(set(given))
    return tuple(f"{name}/{column}" for column in (given if is_named else range(shape[0])))
