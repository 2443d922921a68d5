"""From prepared targets back to the units of their source, as far as the operations on them can be undone."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from input_pipelines.preparation import operations as operations_lib
from input_pipelines.preparation.chain import Chain
from input_pipelines.preparation.class_operations import OneHot
from input_pipelines.preparation.number_operations import Fill, Log, Scale
from input_pipelines.preparation.picture_operations import Reshape
from input_pipelines.preparation.preparation import Preparation
from input_pipelines.preparation.values import Learned, Shape
from input_pipelines.preparation.vocabulary_operations import Classes

_MOVE_ONLY = (Fill, Reshape)


@dataclasses.dataclass(frozen=True)
class Undone:
    """An operation that is undone.

    Attributes:
      operation: has an `inverse`.
      learned: what it learned from the training split.
      shape: of one example before it.
    """

    operation: Any
    learned: Learned
    shape: Shape


@dataclasses.dataclass(frozen=True)
class Inverse:
    """The way back from a prepared target; without anything to undo, its values stay as they are.

    Attributes:
      features: what the target is made of.
      undone: the operations that are undone, the last one of the preparation first.
      stopped_by: the name of the operation at which the way back ends, which has no inverse for numbers; None: it leads
        to the source's own values.
      prepared: shape of one prepared example; None: not known.
      labels: what each class was in the source, text or whole numbers, where `classes` numbered labels.
      one_hot: whether a class is a vector, 1 at its place.
      sources_differ: whether several sources prepare it in different ways, so that nothing is undone.
    """

    features: tuple[str, ...] = ()
    undone: tuple[Undone, ...] = ()
    stopped_by: str | None = None
    prepared: Shape | None = None
    labels: tuple[str, ...] | tuple[int, ...] | None = None
    one_hot: bool = False
    sources_differ: bool = False

    @property
    def hindrance(self) -> str | None:
        """The reason why the way does not lead to the source's own values, in words; None: it does."""
        if self.sources_differ:
            return "its sources prepare it in different ways"
        return None if self.stopped_by is None else f"the operation {self.stopped_by!r} has no inverse"

    @property
    def changes(self) -> bool:
        """Returns True where values become others, not only their shape."""
        return not all(isinstance(each.operation, _MOVE_ONLY) for each in self.undone)

    @property
    def is_linear(self) -> bool:
        """Returns True where equal distances stay equal."""
        return not any(isinstance(each.operation, Log) for each in self.undone)

    @property
    def reverses(self) -> bool:
        """Returns True where the larger of two values becomes the smaller one."""
        factors = [each.operation.by for each in self.undone if isinstance(each.operation, Scale)]
        return sum(factor < 0 for factor in factors) % 2 == 1

    @property
    def shape(self) -> Shape | None:
        """The shape of one example of what is returned; None: not known."""
        return self.undone[-1].shape if self.undone else self.prepared

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        """Returns prepared values in the units of the source.

        Args:
          values: (examples, ...), real numbers, as many for each example as the target has.

        Returns:
          (examples, *shape): float64, so that an offset of a million leaves the digits behind it; of pictures in Keras'
          `floatx`; of a target that is not changed as given.
        """
        if not self.undone:
            return values
        values = tf.reshape(values, [-1, *self.prepared])
        for each in self.undone:
            values = each.operation.inverse(values, each.learned, each.shape)
        return values


def of(preparation: Preparation) -> dict[str, Inverse]:
    """Target name → its inverse."""
    return {name: _of_chain(preparation, name, chain) for name, chain in preparation.targets.items()}


def merged(several: Iterable[Mapping[str, Inverse]]) -> dict[str, Inverse]:
    """The inverses of a mixture of sources; nothing is undone of a target that they prepare in different ways."""
    found: dict[str, Inverse] = {}
    for inverses in several:
        for name, inverse in inverses.items():
            other = found.setdefault(name, inverse)
            if _way(other) != _way(inverse):
                found[name] = Inverse(sources_differ=True)
    return found


def _way(inverse: Inverse) -> Inverse:
    """An inverse without what the features are called."""
    return dataclasses.replace(inverse, features=(), prepared=None)


def _of_chain(preparation: Preparation, target: str, chain: Chain) -> Inverse:
    learned = preparation.statistics[chain.field]
    numbers, stopped_by = [], None
    for index in reversed(range(len(chain.operations))):
        if not _has_inverse(chain.operations[index]):
            stopped_by = operations_lib.name_of(chain.operations[index])
            break
        numbers.append(index)
    shapes = preparation.shapes(target) if numbers else ()
    return Inverse(
        chain.features,
        tuple(Undone(chain.operations[index], learned[index], shapes[index]) for index in numbers),
        stopped_by,
        tuple(preparation.spec["targets"][target].shape),
        _labels(preparation, chain),
        any(isinstance(operation, OneHot) for operation in chain.operations),
    )


def _has_inverse(operation: Any) -> bool:
    return hasattr(operation, "inverse") and not (isinstance(operation, Scale) and operation.by == 0)


def _labels(preparation: Preparation, chain: Chain) -> tuple[Any, ...] | None:
    """The label of each class, where nothing but its vector is made of it once it has a number."""
    first, *others = chain.operations or (None,)
    if not isinstance(first, Classes) or not all(isinstance(each, OneHot | Reshape) for each in others):
        return None
    kinds = {preparation.source[name].dtype for name in chain.features}
    kind = kinds.pop() if len(kinds) == 1 else tf.string
    return tuple(first.labels(preparation.statistics[chain.field][0], kind))
