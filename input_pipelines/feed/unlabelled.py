"""Columns of targets for which a split has no label at all."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from input_pipelines.examples import Examples
from input_pipelines.feed.in_memory import InMemory
from input_pipelines.feed.mixture import Mixture
from input_pipelines.feed.splits import Split


def lines(split: Split, columns: Mapping[str, Sequence[str]]) -> list[str]:
    """A line for every column of a target without a label, so that nothing can be learned for it.

    Args:
      split: the training split; of sources that are streamed nothing is said, as they would have to be read once.
      columns: `targets.<name>` → the names of its columns, where they have names.
    """
    held = list(_held(split))
    found = []
    for target in dict.fromkeys(name for examples in held for name in examples.weights):
        counts = _labels(target, held)
        if counts is None:
            continue
        names = columns.get(f"targets.{target}", [str(index) for index in range(len(counts))])
        examples = sum(len(each) for each in held if target in each.targets)
        found += [
            f"column {name!r} of target {target!r} has 0 labels in {examples:,} training examples; nothing is learned "
            "for it"
            for name, count in zip(names, counts, strict=True)
            if not count
        ]
    return found


def _held(split: Split) -> Iterator[Examples]:
    parts = split.parts.values() if isinstance(split, Mixture) else (split,)
    if all(isinstance(part, InMemory) for part in parts):
        yield from (part.examples for part in parts)


def _labels(target: str, held: Sequence[Examples]) -> np.ndarray | None:
    """The number of labels of every column; None where labels are not weighted column by column."""
    total = None
    for examples in held:
        if target not in examples.targets:
            continue
        values, weights = examples.targets[target], examples.weights.get(target)
        if values.ndim != 2 or weights is None or weights.shape != values.shape:
            return None
        counts = np.count_nonzero(weights, axis=0)
        total = counts if total is None else total + counts
    return total
