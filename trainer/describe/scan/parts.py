"""Splits of sources and of functions as a scan reads them: raw features, and what training gets of them."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from input_pipelines.examples import Examples
from input_pipelines.feed import splits, usable
from input_pipelines.preparation.preparation import Preparation
from input_pipelines.sources.source import CHUNK, Source
from trainer.common.errors import reason_of
from trainer.describe.scan import reading
from trainer.describe.scan.findings import Findings


class Batch(NamedTuple):
    """Examples as training gets them.

    Attributes:
      places: (examples,) places in the split.
      arrays: `inputs`, `targets` and perhaps `weights`.
      unusable: (examples,) bool: those with a number that nothing can be computed from.
    """

    places: np.ndarray
    arrays: splits.Structure
    unusable: np.ndarray


class Chunk(NamedTuple):
    """Some examples of a split.

    Attributes:
      places: (examples,) places in the split.
      features: as the source gives them.
      batches: those of them that can be prepared.
    """

    places: np.ndarray
    features: Mapping[str, np.ndarray]
    batches: list[Batch]


class Part(Protocol):
    """One split of one source.

    Attributes:
      field: the configuration's key of the source.
      split: its name, such as "train".
      inputs: the features that inputs are made of.
      targets: the features that targets are made of.
      raw: the features to count: those that are not themselves the targets.
      optional: features that may be absent.
    """

    field: str
    split: str
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    raw: tuple[str, ...]
    optional: frozenset[str]

    def __len__(self) -> int:
        """The number of examples."""

    def where(self, place: int) -> str:
        """The file and row or record of an example, in words."""

    def chunks(self, findings: Findings) -> Iterator[Chunk]:
        """All examples in order; those that cannot be read or prepared become findings."""


@dataclasses.dataclass(frozen=True)
class SourcePart:
    """A split of a source (see `Part`).

    Attributes:
      source: the split.
      preparation: makes inputs and targets of it; None where none could be built, so that only raw features are read.
    """

    field: str
    split: str
    source: Source
    preparation: Preparation | None

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `Part`."""
        if self.preparation is None:
            return tuple(name for name, spec in self.source.features.items() if spec.shape.is_fully_defined())
        return _features(self.preparation.inputs)

    @property
    def targets(self) -> tuple[str, ...]:
        """See `Part`."""
        return () if self.preparation is None else _features(self.preparation.targets)

    @property
    def raw(self) -> tuple[str, ...]:
        """See `Part`: with those that are weights."""
        return self.inputs if self.preparation is None else tuple(self.preparation.features)

    @property
    def optional(self) -> frozenset[str]:
        """See `Part`."""
        return self.source.optional

    def __len__(self) -> int:
        return len(self.source)

    def where(self, place: int) -> str:
        """See `Part`."""
        return self.source.where(place)

    def chunks(self, findings: Findings) -> Iterator[Chunk]:
        """See `Part`."""

        def unreadable(place: int, reason: str) -> None:
            findings.add(f"{self.field}.splits.{self.split}", f"{self.where(place)}: {reason}")

        for places, features in reading.pieces(self.source, self.raw, unreadable):
            batches = [] if self.preparation is None else list(self._prepared(places, features, findings))
            yield Chunk(places, features, batches)

    def _prepared(self, places: np.ndarray, features: Mapping[str, np.ndarray], findings: Findings) -> Iterator[Batch]:
        def attempt(part: slice) -> splits.Structure:
            return self.preparation.of_arrays({name: values[part] for name, values in features.items()})

        def failed(number: int, error: Exception) -> None:
            findings.add(self.field, f"{self.where(int(places[number]))}: {reason_of(error)}")

        for part, batch in reading.succeeding(len(places), attempt, failed):
            wrong = self._wrong(places[part], batch, findings)
            yield Batch(places[part], tf.nest.map_structure(lambda values: values.numpy(), batch), wrong)

    def _wrong(self, places: np.ndarray, batch: splits.Structure, findings: Findings) -> np.ndarray:
        """(examples,) bool: those with a number that nothing can be computed from, which become findings."""
        unusable = np.zeros(len(places), bool)
        for check in usable.numbers(batch, self.preparation):
            wrong, kind = check.wrong.numpy(), f"{self.field}.{check.name}"
            unusable |= wrong
            for number in np.flatnonzero(wrong).tolist():
                words = self._words(batch, number, check.name) if findings.takes(kind) else ""
                findings.add(kind, f"{self.where(int(places[number]))}: {words}")
        return unusable

    def _words(self, batch: splits.Structure, number: int, name: str) -> str:
        one = tf.nest.map_structure(lambda values: values[number : number + 1], batch)
        checks = usable.numbers(one, self.preparation)
        return next(check.words.numpy().decode() for check in checks if check.name == name)


@dataclasses.dataclass(frozen=True)
class ArraysPart:
    """A split that a function gives as arrays (see `Part`)."""

    field: str
    split: str
    examples: Examples
    optional: frozenset[str] = frozenset()

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `Part`."""
        return tuple(name for name in self._arrays() if name.partition(".")[0] == "inputs")

    @property
    def targets(self) -> tuple[str, ...]:
        """See `Part`."""
        return tuple(name for name in self._arrays() if name.partition(".")[0] == "targets")

    @property
    def raw(self) -> tuple[str, ...]:
        """See `Part`."""
        return self.inputs

    def __len__(self) -> int:
        return len(self.examples)

    def where(self, place: int) -> str:
        """See `Part`."""
        return f"{self.field}.{self.split}, example {place}"

    def chunks(self, findings: Findings) -> Iterator[Chunk]:
        """See `Part`."""
        structure, arrays = self.examples.structure, self._arrays()
        for first in range(0, len(self), CHUNK):
            part = slice(first, first + CHUNK)
            places = np.arange(len(self))[part]
            batch = tf.nest.map_structure(lambda array, part=part: array[part], structure)
            features = {name: array[part] for name, array in arrays.items()}
            yield Chunk(places, features, [Batch(places, batch, np.zeros(len(places), bool))])

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays: dict[str, Any] = dict(splits.per_example(self.examples.structure))
        return {name: array for name, array in arrays.items() if not name.startswith("weights.")}


def _features(chains: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for chain in chains.values() for name in chain.features))
