"""Counts of features and targets over all examples of a split, chunk by chunk, in a bounded memory."""

import collections
from collections.abc import Mapping
from typing import Any

import numpy as np

from input_pipelines.feed import splits
from input_pipelines.sources.source import ABSENT_INTEGER

_MOST = 1000  # different values that are counted one by one


class Count:
    """Counts of a feature or target.

    Args:
      are_classes: whether whole numbers are counted one by one, as text always is.

    Attributes:
      present: examples that have it, of a target its labels.
      missing: examples in which it or a part of it is missing, of a target the labels that are.
      low: smallest number that is there; None where there is none.
      high: largest.
      distinct: different values; None of numbers that are not whole, and where they are more than a thousand.
      columns: of a target that is a vector, (columns,) labels; None of others.
    """

    def __init__(self, are_classes: bool):
        self.present, self.missing = 0, 0
        self.low: float | None = None
        self.high: float | None = None
        self.columns: np.ndarray | None = None
        self._ones: np.ndarray | int = 0
        self._are_ones = True
        self._are_classes = are_classes
        self._values: collections.Counter | None = collections.Counter()

    def add(self, values: np.ndarray, there: np.ndarray, counted: np.ndarray) -> None:
        """Adds some examples.

        Args:
          values: (examples, ...).
          there: bool, of the values' shape: those that count.
          counted: bool, one for each thing that is present or missing.
        """
        self.present += int(counted.sum())
        self.missing += int((~counted).sum())
        shown = values[there]
        if values.dtype == object or (self._are_classes and not np.issubdtype(values.dtype, np.floating)):
            self._add_values(shown)
        if values.dtype == object or not shown.size:
            return
        low, high = float(shown.min()), float(shown.max())
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)
        if self._are_ones:
            self._are_ones = bool(np.all((shown == 0) | (shown == 1)))
            self._ones = self._ones + np.where(there, values == 1, False).sum(axis=0)

    def add_columns(self, there: np.ndarray) -> None:
        """Adds (examples, columns) bool: where a target has labels."""
        self.columns = there.sum(axis=0) + (0 if self.columns is None else self.columns)

    @property
    def distinct(self) -> int | None:
        """The number of different values."""
        return len(self._values) if self._values else None

    @property
    def is_uncounted(self) -> bool:
        """True where there were more different values than are counted."""
        return self._values is None

    @property
    def ones(self) -> np.ndarray | None:
        """(columns,) how many ones each column has; None of targets that are no vectors of zeros and ones."""
        return self._ones if self._are_ones and self.columns is not None and self.present else None

    def classes(self) -> dict[int, int] | None:
        """Returns class → its number of labels; None of numbers that are no classes."""
        if self.columns is None and self._are_ones and self.present and np.size(self._ones) == 1:
            ones = int(np.sum(self._ones))
            return {0: self.present - ones, 1: ones}
        return dict(sorted(self._values.items())) if self._values else None

    def _add_values(self, shown: np.ndarray) -> None:
        if self._values is None:
            return
        if shown.dtype == object:
            self._values.update(shown.tolist())
        else:
            found, counts = np.unique(shown, return_counts=True)
            self._values.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
        if len(self._values) > _MOST:
            self._values = None


class PartCounts:
    """Counts of one split of one source.

    Attributes:
      features: feature → its counts, over all examples that can be read.
      targets: target → its counts, over those that can be prepared, too.
      usable: how many examples can be trained on.
    """

    def __init__(self):
        self.features: dict[str, Count] = collections.defaultdict(lambda: Count(False))
        self.targets: dict[str, Count] = collections.defaultdict(lambda: Count(True))
        self.usable = 0

    def add_features(self, features: Mapping[str, np.ndarray], optional: frozenset[str]) -> None:
        """Adds features as the source gives them; those in `optional` may be absent."""
        for name, values in features.items():
            there = ~_is_missing(values, name in optional)
            self.features[name].add(values, there, there.reshape(len(there), -1).all(axis=1))

    def add_targets(self, batch: Mapping[str, Any], unusable: np.ndarray) -> None:
        """Adds targets as training gets them, with their weights; `unusable` is (examples,) bool."""
        self.usable += int((~unusable).sum())
        for name, values in batch["targets"].items():
            weights = batch.get("weights", {}).get(name)
            there = splits.labelled(values, weights)
            counted = np.ones(len(values), bool) if weights is None else weights != 0
            count = self.targets[name]
            count.add(values, there, counted)
            if values.ndim == 2 and 1 < values.shape[1] <= _MOST:
                count.add_columns(there)


def _is_missing(values: np.ndarray, is_optional: bool) -> np.ndarray:
    """The mask of what is NaN, empty text or the number for an absent one."""
    if values.dtype == object:
        return values == b""
    if np.issubdtype(values.dtype, np.floating):
        return np.isnan(values)
    return values == ABSENT_INTEGER if is_optional and values.dtype == np.int64 else np.zeros(values.shape, bool)
