"""Numbers about a split: ranges, class balance, missing labels. Training examples are taken before augmentation."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from input_pipelines.feed import splits
from input_pipelines.feed.in_memory import InMemory
from input_pipelines.feed.mixture import Mixture
from input_pipelines.feed.splits import Split, Structure
from input_pipelines.sources.source import CHUNK

SAMPLE = 8192  # examples of which the numbers are, where a split is not held in memory


@dataclasses.dataclass(frozen=True)
class Summary:
    """Numbers about one tensor of a split, over the labels that are there.

    Attributes:
      shape: of one example.
      dtype: its name.
      low: smallest value; None where every label is missing.
      high: largest value.
      mean: of all values.
      counts: value → how often it is there; of integer targets.
      ones: for each number of an example the share of ones; where all values are 0 or 1.
      missing: share of the labels whose weight is 0.
      weights: smallest and largest weight above 0; None where the tensor has none.
    """

    shape: tuple[int, ...]
    dtype: str
    low: float | None
    high: float | None
    mean: float | None
    counts: Mapping[int, int] | None
    ones: np.ndarray | None
    missing: float
    weights: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class SplitSummary:
    """Numbers about a split.

    Attributes:
      tensors: `inputs.<name>` (`inputs` where there is but one) and `targets.<name>` → numbers.
      examples: how many examples they are of.
      is_whole: whether these are all there are.
    """

    tensors: Mapping[str, Summary]
    examples: int
    is_whole: bool


def summarise(split: Split, batch_size: int, seed: int, sample: int = SAMPLE) -> SplitSummary:
    """Numbers about a split: of all its examples where it is held in memory, else of the first ones in training.

    Args:
      split: the split.
      batch_size: of training, which decides what a mixture takes from each source.
      seed: of the training order.
      sample: how many examples of a split that is not held in memory.
    """
    unchanged = _unaugmented(split)
    held = isinstance(split, InMemory)
    wanted = len(split) if held else min(sample, len(split))
    batches = _held(unchanged) if held else _sampled(unchanged, wanted, batch_size, seed)
    leaves = dict(splits.per_example(split.spec))
    tallies = {name: Tally(leaf) for name, leaf in leaves.items() if not name.startswith("weights.")}
    for batch in batches:
        tensors = dict(splits.per_example(batch))
        for name, tally in tallies.items():
            part, _, own = name.partition(".")
            tally.add(tensors[name], tensors.get(f"weights.{own}") if part == "targets" else None)
    is_whole = held or (wanted == len(split) and not isinstance(split, Mixture))
    return SplitSummary({name: tally.summary() for name, tally in tallies.items()}, wanted, is_whole)


class Tally:
    """Adds up one tensor, batch by batch.

    Args:
      leaf: specification of one example.
    """

    def __init__(self, leaf: tf.TensorSpec):
        self._leaf = leaf
        self._low, self._high = np.inf, -np.inf
        self._sums, self._shown = np.zeros(leaf.shape), np.zeros(leaf.shape, np.int64)
        self._counts = collections.Counter() if leaf.dtype.is_integer else None
        self._is_binary = True
        self._weights, self._without = 0, 0
        self._least_weight, self._most_weight = np.inf, -np.inf

    def add(self, values: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Adds a batch: (examples, ...) values and perhaps weights, which fit them from the left."""
        present = splits.labelled(values, weights)
        if weights is not None:
            there = weights != 0
            self._weights += weights.size
            self._without += int(np.sum(~there))
            self._least_weight = min(self._least_weight, weights[there].min(initial=np.inf))
            self._most_weight = max(self._most_weight, weights[there].max(initial=-np.inf))
        shown = values[present]
        if not shown.size:
            return
        self._low, self._high = min(self._low, shown.min()), max(self._high, shown.max())
        self._sums += np.where(present, values, 0).sum(axis=0, dtype=np.float64)
        self._shown += present.sum(axis=0)
        self._is_binary = self._is_binary and bool(np.all((shown == 0) | (shown == 1)))
        if self._counts is not None:
            found, counts = np.unique(shown, return_counts=True)
            self._counts.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))

    def summary(self) -> Summary:
        """The numbers of what was added."""
        shown = int(self._shown.sum())
        return Summary(
            shape=tuple(self._leaf.shape),
            dtype=self._leaf.dtype.name,
            low=float(self._low) if shown else None,
            high=float(self._high) if shown else None,
            mean=float(self._sums.sum() / shown) if shown else None,
            counts=None if self._counts is None else dict(sorted(self._counts.items())),
            ones=self._sums / np.maximum(self._shown, 1) if shown and self._is_binary else None,
            missing=self._without / self._weights if self._weights else 0.0,
            weights=(float(self._least_weight), float(self._most_weight)) if self._weights > self._without else None,
        )


def _unaugmented(split: Split) -> Split:
    if isinstance(split, Mixture):
        return dataclasses.replace(split, parts={name: _unaugmented(part) for name, part in split.parts.items()})
    return dataclasses.replace(split, augmentation=None)


def _held(split: InMemory) -> Iterator[Structure]:
    structure = split.examples.structure
    for first in range(0, len(split), CHUNK):
        yield tf.nest.map_structure(lambda array, at=first: array[at : at + CHUNK], structure)


def _sampled(split: Split, count: int, batch_size: int, seed: int) -> Iterable[Structure]:
    """The first `count` examples in the order of training."""
    size = min(batch_size, split.largest_batch)
    if not size:  # a mixture of which a source has too few examples for any batch
        return [split.first(count)]
    batches = split.training(batch_size=size, seed=seed, first_step=0, ends=[0, size]).take(-(-count // size))
    numbered = enumerate(batches.as_numpy_iterator())
    return (
        tf.nest.map_structure(lambda values, left=count - number * size: values[:left], batch)
        for number, batch in numbered
    )
