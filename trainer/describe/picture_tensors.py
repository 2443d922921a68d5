"""The inputs and targets of the examples that are drawn, and their values in words."""

import dataclasses

import numpy as np

from input_pipelines.feed import splits
from input_pipelines.feed.splits import Structure
from input_pipelines.names import Names

DASH = "–"


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One input or target of the examples that are drawn.

    Attributes:
      name: what it is called.
      values: (examples, ...).
      present: of the values' shape, where there is a label.
      columns: names of a vector's numbers; empty where they have none.
      classes: names of the classes, for each column or once for all; empty where they have none.
    """

    name: str
    values: np.ndarray
    present: np.ndarray
    columns: tuple[str, ...] = ()
    classes: tuple[tuple[str, ...], ...] = ()

    @property
    def size(self) -> int:
        """Numbers of an example."""
        return int(np.prod(self.values.shape[1:]))

    def words(self, example: int, column: int | None = None) -> str:
        """Values of an example, or one column of them, in words: names of classes, a dash where a label is missing."""
        values, present = self.values[example].ravel(), self.present[example].ravel()
        chosen = range(len(values)) if column is None else [column]
        return ", ".join(self._word(values[index], index) if present[index] else DASH for index in chosen)

    def _word(self, value: np.generic, column: int) -> str:
        names = self.classes[column if len(self.classes) > 1 else 0] if self.classes else ()
        if names and float(value).is_integer() and 0 <= value < len(names):
            return names[int(value)]
        return str(value) if np.issubdtype(value.dtype, np.integer) else f"{value:.3g}"


def tensors(batch: Structure, names: Names) -> tuple[list[Tensor], list[Tensor]]:
    """The inputs and the targets of a batch of arrays."""
    leaves = dict(splits.per_example(batch))
    found: dict[str, list[Tensor]] = {"inputs": [], "targets": []}
    for at, values in leaves.items():
        part, _, own = at.partition(".")
        if part in found:
            weights = leaves.get(f"weights.{own}") if part == "targets" else None
            tensor = Tensor(own or "input", values, splits.labelled(values, weights))
            columns, classes = names.columns.get(at, ()), names.classes.get(at, ())
            found[part].append(dataclasses.replace(tensor, columns=columns, classes=classes))
    return found["inputs"], found["targets"]
