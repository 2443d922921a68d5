"""The results of a comparison, computed from its runs. Needs no TensorFlow."""

import contextlib
import dataclasses
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.common import json_text
from trainer.compare import results_differences, results_from_runs, results_notes, results_statistics
from trainer.compare.collected import CellRuns, Comparison, Timing
from trainer.compare.results import (
    COMPLETE,
    DELTA_M,
    FORMAT,
    MEAN_RANK,
    CellResult,
    Cost,
    DeltaM,
    Metric,
    Results,
    RunResult,
)
from trainer.compare.results_statistics import Judged

_PACKAGES = ("multi-head-trainer", "tensorflow", "keras", "numpy")
_PLAIN = "sum"  # the method whose cost is 1


def compute(comparison: Comparison) -> Results:
    """Returns what a comparison's runs have found, however many of them are there."""
    runs = results_from_runs.runs_of(comparison)
    metrics = results_from_runs.metrics_of(comparison.cells, runs)
    split, at = results_from_runs.headline(comparison.cells, runs)
    numbers = results_statistics.judged(comparison.cells, runs, metrics, split, at)
    ranks = results_statistics.ranks(numbers)
    delta_metrics, deltas, of_seeds = _deltas(numbers)
    cells = [
        _cell(cell, comparison, [run for run in runs if run.cell == cell.name], ranks, numbers.metrics, deltas)
        for cell in sorted(comparison.cells, key=lambda cell: cell.single_task is not None)
    ]
    best = _best(cells)
    overall, of = (of_seeds, DELTA_M) if deltas else (results_statistics.ranks_of_seeds(numbers), MEAN_RANK)
    fixed = results_differences.fixed_method(numbers.ranked)
    results = Results(
        format=FORMAT,
        split=split,
        at=at,
        baseline="single task" if deltas else None,
        delta_metrics=tuple(metric.name for metric in delta_metrics),
        best=best,
        fixed=fixed,
        metrics=metrics,
        cells=tuple(cells),
        runs=tuple(runs),
        differences=tuple(results_differences.differences(numbers, overall, of, best, fixed) if best else ()),
        notes=(),
        commands=tuple(comparison.command.splitlines()),
        versions=_versions(),
    )
    return dataclasses.replace(results, notes=results_notes.of(results))


def _cell(
    cell: CellRuns,
    comparison: Comparison,
    runs: Sequence[RunResult],
    ranks: Mapping[str, Mapping[str, float]],
    metrics: Sequence[Metric],
    deltas: Mapping[str, DeltaM],
) -> CellResult:
    own = ranks.get(cell.name, {})
    return CellResult(
        name=cell.name,
        method=cell.method,
        settings=cell.settings,
        single_task=cell.single_task,
        seeds=tuple(run.seed for run in runs if run.state == COMPLETE),
        failures={run.seed: run.reason for run in runs if run.reason is not None},
        estimates=results_statistics.estimates(runs),
        ranks=own,
        mean_rank=results_statistics.mean_rank(own, metrics),
        delta_m=deltas.get(cell.name),
        cost=_cost(cell, comparison.cells, comparison.timing),
        tuning=_tuning(cell),
    )


def _deltas(numbers: Judged) -> tuple[Sequence[Metric], dict[str, DeltaM], dict[str, dict[int, float]]]:
    """The metrics of which Δm is made; ranked cell → Δm, and → that of each seed.

    All are empty where some cell has none, so that all are compared alike.
    """
    metrics, references = results_statistics.baselines(numbers)
    if not metrics:
        return (), {}, {}
    deltas = {
        cell.name: results_statistics.delta_m(numbers, cell, metrics, references[cell.name]) for cell in numbers.ranked
    }
    if None in deltas.values():
        return (), {}, {}
    weights = results_statistics.weights(metrics)
    of_seeds = {}
    for cell in numbers.ranked:
        shares = results_statistics.delta_of_seeds(numbers, cell, metrics, references[cell.name])
        of_seeds[cell.name] = {seed: float(each @ weights) for seed, each in shares.items()}
    return metrics, deltas, of_seeds


def _best(cells: Sequence[CellResult]) -> str | None:
    """The cell of the largest Δm, else of the smallest mean rank; the first of equals; None where none is ranked."""
    ranked = [cell for cell in cells if cell.mean_rank is not None]
    if not ranked:
        return None
    return min(ranked, key=lambda cell: -cell.delta_m.mean if cell.delta_m else cell.mean_rank).name


def _cost(cell: CellRuns, cells: Sequence[CellRuns], timing: Mapping[str, Timing]) -> Cost | None:
    if cell.name not in timing:
        return None
    own = timing[cell.name]
    plain = [each for each in cells if each.method == _PLAIN and each.name in timing]
    same = results_statistics.matching(cell, plain)
    other = timing.get(same.name if same is not None else _PLAIN)
    return Cost(
        seconds=own.seconds_per_step,
        relative_seconds=_ratio(own.seconds_per_step, other and other.seconds_per_step),
        memory=own.memory,
        relative_memory=_ratio(own.memory, other and other.memory),
        device=own.device,
        failure=own.failure,
        passes=own.passes,
    )


def _ratio(value: float | None, other: float | None) -> float | None:
    return value / other if value is not None and other else None


def _tuning(cell: CellRuns) -> Mapping[str, Any] | None:
    """Content of a cell's `tuning.json`; None where nothing was, or its file cannot be read."""
    try:
        return None if cell.path is None else json_text.parse((cell.path / "tuning.json").read_bytes())
    except (OSError, ValueError):
        return None


def _versions() -> dict[str, str]:
    """Package → version, of the process that makes the results."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # run from its folder, not installed
            found[package] = importlib.metadata.version(package)
    return found
