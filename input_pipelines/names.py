"""Names of the columns of inputs and targets, and of their classes, where the source or the preparation has them."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from input_pipelines.feed import splits
from input_pipelines.preparation import class_operations, picture_operations, vocabulary_operations
from input_pipelines.preparation.chain import Chain
from input_pipelines.preparation.preparation import Preparation
from input_pipelines.sources.source import Source

Classes = tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Names:
    """Names within tensors, which go by their own names as in `splits.per_example`: `inputs.<name>`, `targets.<name>`.

    Attributes:
      columns: tensor → the name of each of its numbers; for vectors made of several features, and one-hot ones.
      classes: tensor → for each of its columns, or once for all of them, the name of each class.
    """

    columns: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    classes: Mapping[str, Classes] = dataclasses.field(default_factory=dict)


def of(preparation: Preparation, source: Source) -> Names:
    """The names in what a preparation makes of a source."""
    chains = {f"targets.{name}": chain for name, chain in preparation.targets.items()}
    several = len(preparation.inputs) > 1
    chains |= {f"inputs.{name}" if several else "inputs": chain for name, chain in preparation.inputs.items()}
    shapes = {name: tuple(leaf.shape) for name, leaf in splits.per_example(preparation.spec)}
    columns, classes = {}, {}
    for name, chain in chains.items():
        found = _classes(chain, preparation.statistics[chain.field], source)
        if any(isinstance(operation, class_operations.OneHot) for operation in chain.operations):
            if found is not None and shapes[name] == (len(found[0]),):
                columns[name] = found[0]
        elif shapes[name] == (len(chain.features),) or (len(chain.features) == 1 and shapes[name] == ()):
            columns[name] = chain.features
        if found is not None:
            classes[name] = found
    return Names(columns, classes)


def merged(several: Iterable[Names]) -> Names:
    """The names in a mixture of sources, which share their inputs."""
    columns, classes = {}, {}
    for names in several:
        columns |= names.columns
        classes |= names.classes
    return Names(columns, classes)


def _classes(chain: Chain, learned: Sequence[Mapping[str, Any]], source: Source) -> Classes | None:
    names = source.classes.get(chain.features[0]) if len(chain.features) == 1 else None
    if names and list(names) == [str(index) for index in range(len(names))]:
        names = None  # numbers in place of names
    found = (tuple(names),) if names else None
    for operation, of_operation in zip(chain.operations, learned, strict=True):
        found = _after(operation, of_operation, found)
    return found


def _after(operation: Any, learned: Mapping[str, Any], names: Classes | None) -> Classes | None:
    """The classes' names once an operation has been applied."""
    match operation:
        case vocabulary_operations.Classes():
            return (tuple(learned["names"]),)
        case vocabulary_operations.Categories():
            return tuple(("other", *of_column) for of_column in learned["names"])
        case class_operations.Bins():
            edges = [f"{edge:.4g}" for edge in learned["edges"]]
            between = (f"{low} to {high}" for low, high in itertools.pairwise(edges))
            return ((f"below {edges[0]}", *between, f"from {edges[-1]}"),)
        case class_operations.Threshold():
            return ((f"up to {operation.above:g}", f"above {operation.above:g}"),)
        case class_operations.Equals():
            return (("other", " or ".join(map(str, operation.values))),)
        case class_operations.Groups() if names is not None and len(names[0]) == len(operation.of):
            members = [[] for _ in range(max(operation.of) + 1)]
            for name, group in zip(names[0], operation.of, strict=True):
                members[group].append(name)
            return (tuple(", ".join(group) for group in members),)
        case class_operations.OneHot() | picture_operations.Reshape():
            return names
    return None
