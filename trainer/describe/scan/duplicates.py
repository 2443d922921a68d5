"""Equal examples, found by digests of their raw features: some dozen bytes of memory for each example."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from input_pipelines.configuration import TRAIN

_DIGEST_BYTES = 8  # of a billion examples, two different ones are taken for equal with a probability of 3 %
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHOWN = 5  # pairs in a line
_SMALL = 1024  # bytes of a feature


def digests(features: Mapping[str, np.ndarray], names: Sequence[str], count: int) -> np.ndarray:
    """(examples,) uint64: a digest of these features of each example."""
    flat = [np.ascontiguousarray(features[name].reshape(count, -1)) for name in names]
    text = [each for each in flat if each.dtype == object]
    numbers = [each.view(np.uint8) for each in flat if each.dtype != object]
    small = [each for each in numbers if each.shape[1] <= _SMALL]
    rows = [each for each in numbers if each.shape[1] > _SMALL]
    if small:  # together, which is faster
        rows.append(np.concatenate(small, axis=1))
    words = np.concatenate(text, axis=1).tolist() if text else [()] * count
    found = []
    for number, of_example in enumerate(words):
        digest = hashlib.blake2b(b"\0".join(of_example), digest_size=_DIGEST_BYTES)
        for each in rows:
            digest.update(each[number].data)
        found.append(digest.digest())
    return np.frombuffer(b"".join(found), np.uint64)


class Duplicates:
    """Gathers the digests of all examples, those of training first."""

    def __init__(self):
        self._parts: list[int] = []
        self._columns: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, part: int, places: np.ndarray, inputs: np.ndarray, targets: np.ndarray) -> None:
        """Adds examples of a part: their places in it, and the digests of their inputs and targets."""
        self._parts.append(part)
        self._columns.append((places, inputs, targets))

    def lines(self, splits: Sequence[str], where: Sequence[Callable[[int], str]]) -> list[str]:
        """Returns lines about examples whose inputs, and perhaps targets, are those of an earlier one.

        Args:
          splits: the split of each part.
          where: for each part, place → file and row or record in words.
        """
        if not self._columns:
            return []
        places, inputs, targets = map(np.concatenate, zip(*self._columns, strict=True))
        parts = np.repeat(self._parts, [len(each[0]) for each in self._columns])
        names = sorted(dict.fromkeys(splits), key=lambda split: split != TRAIN)
        of_split = np.array([names.index(split) for split in splits])[parts]
        with np.errstate(over="ignore"):
            by_both, by_inputs = _first(inputs * _MULTIPLIER + targets), _first(inputs)
        numbers = np.arange(len(inputs))
        found = {
            "the inputs and targets of {}": (by_both != numbers, by_both),
            "the inputs of {} and other targets": ((by_inputs != numbers) & (by_both == numbers), by_inputs),
        }
        lines = []
        for words, (repeats, first) in found.items():
            pairs = [(own, other) for own in range(len(names)) for other in (own, *range(own))]
            for own, other in pairs:
                chosen = np.flatnonzero(repeats & (of_split == own) & (of_split[first] == other))
                shown = [
                    " and ".join(where[parts[each]](int(places[each])) for each in (number, first[number]))
                    for number in chosen[:_SHOWN].tolist()
                ]
                more = ["..."] if len(chosen) > _SHOWN else []
                said = words.format("an earlier example" if own == other else f"an example of {names[other]}")
                if len(chosen):
                    lines.append(f"{names[own]}: {len(chosen):,} with {said}: {'; '.join(shown + more)}")
        return lines


def _first(keys: np.ndarray) -> np.ndarray:
    """For each key the number of the first that equals it."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first[inverse]
