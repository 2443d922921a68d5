"""A model's layers as a tree: shapes, parameters, and the losses that reach each part."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import keras

from trainer.describe.layer_shapes import Shape
from trainer.gradients.reach import Reach
from trainer.models.names import parts_of, variables_by_name
from trainer.models.recomputation import Recomputed

_OF_KERAS = "keras.src.layers"


@dataclasses.dataclass(frozen=True)
class Part:
    """A layer, a variable of one, or several layers that the same heads need.

    Attributes:
      name: what it is called within what it is a part of.
      kind: name of the layer's class; empty for anything else.
      shapes: of its outputs, batch first; of a variable, its own.
      parameters: numbers in all its variables, those of its parts included.
      reached: losses (indices) → parameters that these losses and no others reach; of trainable variables.
      untrained: parameters that no gradient changes.
      parts: what it consists of.
    """

    name: str
    kind: str
    shapes: tuple[Shape, ...]
    parameters: int
    reached: Mapping[tuple[int, ...], int]
    untrained: int
    parts: tuple["Part", ...] = ()


def tree(model: keras.Model, reach: Reach, shapes: Mapping[int, Sequence[Shape]]) -> Part:
    """The tree of a model.

    The parts of a model whose layers form a graph are its trunk, which all heads need, and what only some heads need;
    below them, and at once in a model that is code, are layers by the paths that their variables' names have.

    Args:
      model: the model.
      reach: which losses reach which variable.
      shapes: the shapes of layers' outputs, by the layers' ids.
    """
    return _Tree(model, reach, shapes).root(model)


class _Tree:
    """Builds the parts of one model."""

    def __init__(self, model: keras.Model, reach: Reach, shapes: Mapping[int, Sequence[Shape]]):
        self._losses = {id(variable): by for variable, by in zip(reach.variables, reach.losses, strict=True)}
        self._names = {id(variable): name for name, variable in variables_by_name(model).items()}
        self._shapes = shapes
        self._seen: set[int] = set()

    def root(self, model: keras.Model) -> Part:
        """The model with all its parts."""
        own, layers = self._within(model, ())
        heads = _heads(model)
        groups: dict[tuple[str, ...], list[tuple[keras.layers.Layer, Part]]] = {}
        for layer, part in layers:
            groups.setdefault(heads.get(id(layer), ()), []).append((layer, part))
        if len(groups) > 1:
            every = tuple(model.output)
            parts = [
                self._part(
                    _group_name(needing, every),
                    _unique(layer.weights for layer, _ in groups[needing]),
                    tuple(part for _, part in groups[needing]),
                )
                for needing in sorted(groups, key=lambda needing: (-len(needing), list(map(every.index, needing))))
            ]
        else:
            parts = [part for _, part in layers]
        return dataclasses.replace(self._part(model.name, model.weights, (*own, *parts)), kind=type(model).__name__)

    def _within(
        self, layer: keras.layers.Layer, path: tuple[str, ...]
    ) -> tuple[list[Part], list[tuple[keras.layers.Layer, Part]]]:
        """A layer's own variables, and its layers but for those that have a place in the tree already."""
        parts = parts_of(layer)
        of_parts = {id(variable) for _, part in parts for variable in part.weights}
        own = [self._variable(variable, path) for variable in layer.weights if id(variable) not in of_parts]
        layers = []
        for where, part in parts:
            if id(part) not in self._seen:
                self._seen.add(id(part))
                layers.append((part, self._layer(part, "/".join(where), (*path, *where))))
        return own, layers

    def _layer(self, layer: keras.layers.Layer, name: str, path: tuple[str, ...]) -> Part:
        if _is_of_keras(layer):
            differs = len({self._losses.get(id(variable)) for variable in layer.trainable_weights}) > 1
            parts = [self._variable(variable, path) for variable in layer.weights] if differs else []
        else:
            own, layers = self._within(layer, path)
            parts = [*own, *(part for _, part in layers)]
        if isinstance(layer, keras.layers.InputLayer):
            shapes: Sequence[Shape] = [tuple(layer.batch_shape)]
        else:
            shapes = self._shapes.get(id(layer), [])
        part = self._part(name, layer.weights, tuple(parts))
        return dataclasses.replace(part, kind=type(layer).__name__, shapes=tuple(shapes))

    def _variable(self, variable: keras.Variable, path: tuple[str, ...]) -> Part:
        name = self._names[id(variable)].removeprefix("".join(f"{each}/" for each in path))
        return dataclasses.replace(self._part(name, [variable]), shapes=(tuple(variable.shape),))

    def _part(self, name: str, variables: Iterable[keras.Variable], parts: tuple[Part, ...] = ()) -> Part:
        """A part with the totals of these variables."""
        reached: Counter[tuple[int, ...]] = Counter()
        untrained = 0
        for variable in variables:
            size = math.prod(variable.shape)
            if variable.trainable:
                reached[self._losses.get(id(variable), ())] += size
            else:
                untrained += size
        return Part(name, "", (), reached.total() + untrained, dict(reached), untrained, parts)


def _is_of_keras(layer: keras.layers.Layer) -> bool:
    """True where a layer and all within it come with Keras, so that it is best known as a whole."""
    return all(type(each).__module__.startswith(_OF_KERAS) for each in layer._flatten_layers())


def _unique(variables: Iterable[Sequence[keras.Variable]]) -> list[keras.Variable]:
    return list({id(variable): variable for several in variables for variable in several}.values())


def _heads(model: keras.Model) -> dict[int, tuple[str, ...]]:
    """The heads that need a layer, by its id, where layers form a graph with several heads; else nothing."""
    outputs = model.output if isinstance(model, keras.Function) else None
    found: dict[int, tuple[str, ...]] = {}
    for head, output in outputs.items() if isinstance(outputs, Mapping) else ():
        waiting, needed = [output], set()
        while waiting:
            operation, index, _ = waiting.pop()._keras_history
            if (id(operation), index) not in needed:
                needed.add((id(operation), index))
                waiting += operation._inbound_nodes[index].input_tensors
                for layer in (operation, *(operation.inner.layers if isinstance(operation, Recomputed) else ())):
                    if head not in found.setdefault(id(layer), ()):
                        found[id(layer)] += (head,)
    return found


def _group_name(needing: Sequence[str], every: Sequence[str]) -> str:
    """The name of the layers that some of all heads (`every`) need."""
    if not needing:
        return "needed by no head"
    if len(needing) == 1:
        return f"head {needing[0]}"
    return "trunk" if len(needing) == len(every) else f"heads {', '.join(needing)}"
