"""Runs as they are found in a comparison's directory → what each of them has reported, in the form of its results."""

import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from trainer.compare.collected import CellRuns, Comparison
from trainer.compare.results import BEST, COMPLETE, FAILED, FINAL, UNFINISHED, Metric, RunResult
from trainer.config import directions
from trainer.output import best
from trainer.output.records import RunRecord
from trainer.output.reports import TRAIN, VALIDATION

TEST = "test"
_LEFT_OUT = ("labels/", "segment/")  # of what evaluations report


def runs_of(comparison: Comparison) -> list[RunResult]:
    """Returns every run that is there or should be, cell by cell, by seeds."""
    return [_run(comparison, cell, seed) for cell in comparison.cells for seed in seeds_of(comparison, cell)]


def seeds_of(comparison: Comparison, cell: CellRuns) -> list[int]:
    """Returns the seeds with which a cell has runs or should have; of runs from elsewhere those that there are."""
    wanted = () if cell.path is None else comparison.seeds
    return sorted({*wanted, *cell.runs, *cell.failures})


def metrics_of(cells: Sequence[CellRuns], runs: Iterable[RunResult]) -> tuple[Metric, ...]:
    """Returns every value that runs have reported, task by task, and whether it counts.

    A value counts if all cells with a complete run have it, single-task references apart. One that has two directions
    in two cells has none.
    """
    complete = {run.cell for run in runs if run.state == COMPLETE}
    known = {cell.name: _directions(cell) for cell in cells}
    ways: dict[str, set[str | None]] = {}
    for name, direction in (each for of_cell in known.values() for each in of_cell.items()):
        ways.setdefault(name, set()).add(direction)
    found = {name: own.pop() if len(own := all_ways - {None}) == 1 else None for name, all_ways in ways.items()}
    judged = [known[cell.name] for cell in cells if cell.name in complete and cell.single_task is None]
    counted = _counted(found, judged)
    reported = {name for run in runs for values in run.values.values() for of in values.values() for name in of}
    others = sorted(reported - found.keys())
    tasks = list(dict.fromkeys(filter(None, map(_task, found))))
    named = [Metric(name, _task(name), found[name], name in counted) for name in found]
    named += [Metric(name, _task(name), directions.of_value(name, found), False) for name in others]
    return tuple(sorted(named, key=lambda metric: tasks.index(metric.task) if metric.task in tasks else len(tasks)))


def headline(cells: Sequence[CellRuns], runs: Iterable[RunResult]) -> tuple[str, str]:
    """Returns the split and the variables ("best" or "final") of which a comparison reports.

    `test` where all complete runs have it, else `validation`; at their best steps where all have one.
    """
    judged = {cell.name for cell in cells if cell.single_task is None}
    complete = [run for run in runs if run.state == COMPLETE and run.cell in judged]
    at = BEST if complete and all(run.best_step is not None for run in complete) else FINAL
    has_test = complete and all(at in run.values.get(TEST, {}) for run in complete)
    return (TEST if has_test else VALIDATION), at


def _run(comparison: Comparison, cell: CellRuns, seed: int) -> RunResult:
    record, reason = cell.runs.get(seed), cell.failures.get(seed)
    state = FAILED if reason is not None else UNFINISHED
    if record is None:
        return RunResult(cell.name, seed, "", state, reason or "not trained yet", None, None, {})
    if reason is None and record.is_complete:
        state = COMPLETE
    elif reason is None:
        reason = f"not finished: {record.last_step:,} steps are taken"
    validated = [report.step for report in record.reports if report.split == VALIDATION]
    last, chosen = (validated[-1] if validated else None), best.step_of(record.config, record.reports)
    folder = _below(comparison.workdir, record.path)
    return RunResult(cell.name, seed, folder, state, reason, last, chosen, _values(record, last, chosen))


def _values(
    record: RunRecord, last: int | None, chosen: int | None
) -> Mapping[str, Mapping[str, Mapping[str, float | None]]]:
    reports = {(report.split, report.step): report.values for report in record.reports if report.split != TRAIN}
    found: dict[str, dict[str, Mapping[str, float | None]]] = {}
    for split in dict.fromkeys(split for split, _ in reports):
        for at, step in ((FINAL, last), (BEST, chosen)):
            if step is not None and (split, step) in reports:
                values = reports[split, step]
                kept = {name: value for name, value in values.items() if not name.startswith(_LEFT_OUT)}
                found.setdefault(split, {})[at] = kept
    return found


def _directions(cell: CellRuns) -> dict[str, str | None]:
    return {name: way for run in cell.runs.values() for name, way in directions.of(run.config).items()}


def _counted(found: Mapping[str, str | None], judged: Sequence[Mapping[str, str | None]]) -> set[str]:
    """The values of which Δm and ranks are made: of every loss its metrics, or the loss itself where it has none."""
    common = [name for name in found if found[name] and judged and all(name in known for known in judged)]
    losses = [name for name in common if name.startswith("loss/")]
    counted: set[str] = set()
    for loss in losses:
        own = {name for name in common if name not in losses and _task(name) == _task(loss)}
        counted |= own or {loss}
    return counted


def _task(name: str) -> str | None:
    """The loss that a value is of, or the name of metrics without a loss; None for what monitors report."""
    first, _, rest = name.partition("/")
    if first == "loss":
        return rest.removesuffix("/worst")
    return None if first == "monitor" else first


def _below(folder: pathlib.Path, path: pathlib.Path) -> str:
    relative = os.path.relpath(path, folder)
    return str(path) if relative.startswith(os.pardir) else relative
