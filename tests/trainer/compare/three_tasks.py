"""Cells of three tasks, with one metric, two and none, and random values, and each task alone."""

import random
from collections.abc import Collection, Sequence
from typing import Any

from tests.trainer.compare.made_up import cell, comparison, config
from trainer.compare import computing
from trainer.compare.collected import CellRuns
from trainer.compare.results import Results

LOSSES = {"digit": ["accuracy"], "ink": ["mae", "mse"], "plain": []}
COUNTED = {"digit": {"digit/accuracy": 1}, "ink": {"ink/mae": -1, "ink/mse": -1}, "plain": {"loss/plain": -1}}
CONFIG = config(LOSSES)
SEEDS = 4


def values_of(seed: int, cell_: int, tasks: Collection[str] = tuple(LOSSES)) -> dict[str, float]:
    """Validation values of a run with these tasks, by the seed and the number of its cell."""
    draw = random.Random(1000 * cell_ + seed)
    names = ["loss/digit", "digit/accuracy", "loss/ink", "ink/mae", "ink/mse", "loss/plain"]
    return {name: 0.4 + 0.1 * cell_ + draw.random() for name in names if {*name.split("/")} & {*tasks}}


def three_cells(count: int = 3) -> list[CellRuns]:
    """The cells of three methods, or of the first of them."""
    names = ["weighted", "pcgrad", "mgda"][:count]
    return [cell(name, CONFIG, [values_of(seed, i) for seed in range(SEEDS)]) for i, name in enumerate(names)]


def references() -> list[CellRuns]:
    """Each task alone."""
    return [
        cell(
            f"single_task={task}",
            config({task: LOSSES[task]}),
            [values_of(seed, 5 + place, (task,)) for seed in range(SEEDS)],
            single_task=task,
        )
        for place, task in enumerate(LOSSES)
    ]


def results_of(cells: Sequence[CellRuns], **options: Any) -> Results:
    """The results of cells; `options` are those of `comparison`."""
    return computing.compute(comparison(cells, **options))
