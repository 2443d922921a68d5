"""Fitting of operations to the training split: statistics, edges between bins, vocabularies."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from input_pipelines.preparation import operations
from input_pipelines.preparation.chain import Chain, as_wide
from input_pipelines.sources.source import Source

Statistics = dict[str, list[dict[str, Any]]]


def learn(chains: Sequence[Chain], train: Source) -> Statistics:
    """Returns what every operation learned: chain's field → a dictionary per operation, empty where it learns nothing.

    The first pass over the training split is for the first learning operation of every chain, the next for the second.
    """
    learned: Statistics = {chain.field: [] for chain in chains}
    while True:
        waiting = []
        for chain in chains:
            known = learned[chain.field]
            while len(known) < len(chain.operations) and not operations.learns(chain.operations[len(known)]):
                known.append({})
            if len(known) < len(chain.operations):
                waiting.append(chain)
        if not waiting:
            return learned
        collected = dict.fromkeys((chain.field for chain in waiting), None)
        for batch in train.chunks(list(dict.fromkeys(name for chain in waiting for name in chain.features))):
            for chain in waiting:
                raw = chain.values(batch)
                before = chain.present(raw) if chain.is_target else None
                *_, (values, present) = chain.steps(raw, learned[chain.field], before)
                shown = np.ones(values.shape, bool) if present is None else as_wide(present, values)
                collected[chain.field] = chain.collect(
                    collected[chain.field], values, np.asarray(shown), learned[chain.field]
                )
        for chain in waiting:
            operation = chain.operations[len(learned[chain.field])]
            learned[chain.field].append(operation.learned(collected[chain.field]))
