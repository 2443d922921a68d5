"""Fitting of operations to the training split: statistics, edges between bins, vocabularies.

One name has one meaning: an input or target that several sources have is fitted to the training splits of all of them.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines.preparation import operations
from input_pipelines.preparation.chain import Batch, Chain, as_wide
from input_pipelines.sources.source import Source
from trainer.common.errors import ConfigError

Statistics = dict[str, list[dict[str, Any]]]


@dataclasses.dataclass
class _Fit:
    """The chains, one of each source, that share what their operations learn.

    Attributes:
      chains: the configuration's key of a source → its chain.
      learned: what each operation learned so far.
      collected: what the next one has gathered.
    """

    chains: dict[str, Chain]
    learned: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    collected: Any = None

    @property
    def operations(self) -> tuple[Any, ...]:
        """The operations, the same of every chain."""
        return next(iter(self.chains.values())).operations

    def waits(self) -> bool:
        """Returns whether an operation must see the training splits, after passing those that learn nothing."""
        while len(self.learned) < len(self.operations) and not operations.learns(self.operations[len(self.learned)]):
            self.learned.append({})
        return len(self.learned) < len(self.operations)

    def see(self, field: str, batch: Batch) -> None:
        """Lets the next operation gather from a chunk of a source."""
        chain = self.chains[field]
        if not self.learned and not chain.is_target:  # text is slow to turn into tensors and back
            values, present = chain.arrays(batch), None
        else:
            raw = chain.values(batch)
            before = chain.present(raw) if chain.is_target else None
            *_, (values, present) = chain.steps(raw, self.learned, before)
        shown = np.ones(values.shape, bool) if present is None else as_wide(present, values)
        self.collected = chain.collect(self.collected, np.asarray(values), np.asarray(shown), self.learned)

    def learn(self) -> None:
        """Notes what the next operation makes of what it gathered."""
        first = next(iter(self.chains.values()))
        self.learned.append(first.learned(self.collected, self.learned))
        self.collected = None


def learn(parts: Mapping[str, tuple[Sequence[Chain], Source]]) -> dict[str, Statistics]:
    """Returns what every operation learned, for each source.

    The first pass over the training splits is for the first learning operation of every chain, the next for the second.

    Args:
      parts: the configuration's key of a source → its chains, its training split.

    Returns:
      Key of a source → chain's field → a dictionary per operation, empty where it learns nothing.

    Raises:
      ConfigError: values that an operation cannot take, or text in one source and numbers in another.
    """
    fits = _together(parts)
    while waiting := [fit for fit in fits if fit.waits()]:
        for field, (_, train) in parts.items():
            own = [fit for fit in waiting if field in fit.chains]
            names = dict.fromkeys(name for fit in own for name in fit.chains[field].features)
            for batch in train.chunks(list(names)) if names else ():
                for fit in own:
                    fit.see(field, batch)
        for fit in waiting:
            fit.learn()
    statistics: dict[str, Statistics] = {field: {} for field in parts}
    for fit in fits:
        for field, chain in fit.chains.items():
            statistics[field][chain.field] = fit.learned
    return statistics


def _together(parts: Mapping[str, tuple[Sequence[Chain], Source]]) -> list[_Fit]:
    """The chains of one name and the same operations, whichever sources have them."""
    fits: dict[str, list[_Fit]] = {}
    for field, (chains, train) in parts.items():
        for chain in chains:
            alike = fits.setdefault(chain.field.removeprefix(field), [])
            fit = next((fit for fit in alike if fit.operations == chain.operations), None)
            if fit is None:
                alike.append(_Fit({field: chain}))
                continue
            other, first = next(iter(fit.chains.items()))
            if fit.waits() and _holds_text(chain, train) != _holds_text(first, parts[other][1]):
                text, numbers = (chain, first) if _holds_text(chain, train) else (first, chain)
                reason = f"holds text, and {numbers.field} numbers; what is learned of one name is learned together"
                raise ConfigError(f"{text.field}.feature", ", ".join(text.features[:3]), reason)
            fit.chains[field] = chain
    return [fit for alike in fits.values() for fit in alike]


def _holds_text(chain: Chain, source: Source) -> bool:
    return any(source.features[name].dtype == tf.string for name in chain.features)
