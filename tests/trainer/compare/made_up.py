"""Comparisons that nobody trained: records of runs with given values, for tests of what is made of them."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.common import schema
from trainer.compare.collected import CellRuns, Comparison, Timing
from trainer.config import loading
from trainer.output.records import RunRecord
from trainer.output.reports import VALIDATION, Report

WORKDIR = pathlib.Path("runs/compared")
_STEPS = 20
Values = Mapping[str, float | None]


def config(losses: Mapping[str, Sequence[Any]], **settings: Any) -> Mapping[str, Any]:
    """A resolved configuration with these losses and their metrics; `settings` are further keys of it."""
    tree = {
        "losses": {name: {"loss": "mse", "metrics": list(metrics)} for name, metrics in losses.items()},
        "model": {"heads": {name: [{"layer": "Dense", "units": 1}] for name in losses}},
        "dataset": {"name": "digits"},
        **settings,
    }
    return schema.as_dict(loading.resolve(tree))


def record(
    config_: Mapping[str, Any], values: Values | Sequence[tuple[int, str, Values]], *, end: int | None = _STEPS
) -> RunRecord:
    """A run whose last validation report has these values, or with these reports (step, split, values)."""
    reports = [(_STEPS, VALIDATION, values)] if isinstance(values, Mapping) else values
    return RunRecord(WORKDIR / "run", config_, tuple(Report(*each) for each in reports), end)


def cell(
    name: str,
    config_: Mapping[str, Any],
    values: Sequence[Any],
    *,
    single_task: str | None = None,
    settings: Mapping[str, Any] | None = None,
    failures: Mapping[int, str] | None = None,
    end: int | None = _STEPS,
) -> CellRuns:
    """A cell with a run for each of `values`, by seeds from 0 on; None: there is no run of that seed."""
    runs = {seed: record(config_, each, end=end) for seed, each in enumerate(values) if each is not None}
    method = "sum" if single_task else name.split(" ")[0]
    return CellRuns(name, method, settings or {}, single_task, runs, failures or {}, WORKDIR / name)


def comparison(cells: Sequence[CellRuns], timing: Mapping[str, Timing] | None = None) -> Comparison:
    """A comparison of these cells, whose seeds are all that a cell has."""
    seeds = sorted({seed for each in cells for seed in (*each.runs, *each.failures)})
    return Comparison(WORKDIR, "python -m trainer.compare --config=made_up.py", seeds, cells, timing or {})
