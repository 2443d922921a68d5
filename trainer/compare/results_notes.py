"""Sentences that a reader of a comparison's results must know beside the numbers."""

from collections.abc import Iterable, Iterator, Sequence

from trainer.compare import statistics
from trainer.compare.results import BEST, COMPLETE, CellResult, Results
from trainer.output.page import digits
from trainer.output.reports import VALIDATION

_LISTED = 8  # of many names


def of(results: Results) -> tuple[str, ...]:
    """Returns the sentences, the general ones first."""
    parts = (_selection, _counted, _cells, _missing_numbers, _lengths, _baselines, _dominated, _certainty, _tuned)
    return tuple(sentence for part in parts for sentence in part(results))


def _selection(results: Results) -> Iterator[str]:
    if results.at != BEST:
        yield f"Values are of the {results.split} split after the last step of each run."
    elif results.split == VALIDATION:
        yield (
            "Values are of the validation split at the best step of each run by its `best.metric`, chosen on the same "
            "split: they are a little too good, of every cell alike."
        )
    else:
        yield (
            f"Values are of the {results.split} split at the best step of each run by its `best.metric`, chosen on "
            "validation."
        )


def _counted(results: Results) -> Iterator[str]:
    names: dict[str, list[str]] = {}
    for metric in results.counted:
        own = "the loss" if metric.name == f"loss/{metric.task}" else metric.name.removeprefix(f"{metric.task}/")
        names.setdefault(metric.task, []).append(own)
    if names:
        tasks = listed(f"{task} ({', '.join(own)})" for task, own in names.items())
        what = "Ranks and Δm are" if results.baseline else "Ranks are"
        yield f"{what} of {tasks}: means over the metrics of a task, then over tasks."
    losses = {metric.task for metric in results.metrics if metric.name.startswith("loss/")}
    own = [
        metric
        for metric in results.metrics
        if metric.task in losses and not metric.counts and not metric.name.endswith("/worst")
    ]
    unknown = [metric.name for metric in own if metric.direction is None]
    if unknown:
        yield f"Not counted, as it is not known whether more or less of it is better: {listed(unknown)}."
    unlike = [
        metric.name
        for metric in own
        if metric.direction is not None and (metric.task not in names or not metric.name.startswith("loss/"))
    ]
    if unlike and any(cell.seeds for cell in _main(results)):
        yield f"Not counted, as not all cells have it: {listed(unlike)}."


def _cells(results: Results) -> Iterator[str]:
    without: dict[str, list[str]] = {}
    for cell in results.cells:
        if cell.failures and cell.seeds:
            counts = f"{len(cell.failures)} of {len(cell.failures) + len(cell.seeds)} runs"
            yield f"{cell.name}: {counts} not complete and in no number ({_why(cell)})."
        elif cell.failures:
            without.setdefault(_why(cell), []).append(cell.name)
    for why, cells in without.items():
        yield f"No part, as no run is complete: {listed(cells)} ({why})."


def _why(cell: CellResult) -> str:
    """The reasons why runs of a cell are not complete, each with its seeds."""
    seeds: dict[str, list[int]] = {}
    for seed, reason in cell.failures.items():
        seeds.setdefault(reason.rstrip("."), []).append(seed)
    return "; ".join(f"{'seeds' if own[1:] else 'seed'} {listed(map(str, own))}: {why}" for why, own in seeds.items())


def _missing_numbers(results: Results) -> Iterator[str]:
    for cell in _main(results):
        counts = {metric.name: _count(results, cell, metric.name) for metric in results.counted}
        never = [name for name, count in counts.items() if not count]
        if cell.seeds and never:
            yield f"{cell.name} takes no part in ranks and Δm: {listed(never)} is no number in any of its runs."
        fewer = [name for name, count in counts.items() if 0 < count < len(cell.seeds)]
        if fewer:
            yield f"{cell.name}: {listed(fewer)} is a number in some of its runs only; its mean is over those."


def _lengths(results: Results) -> Iterator[str]:
    main = {cell.name for cell in _main(results)}
    steps = {run.last_step for run in results.runs if run.state == COMPLETE and run.cell in main} - {None}
    if len(steps) > 1:
        yield f"Runs were not equally long: {min(steps):,} to {max(steps):,} steps."


def _baselines(results: Results) -> Iterator[str]:
    if not any(cell.single_task for cell in results.cells):
        return
    left_out = [metric.name for metric in results.counted if metric.name not in results.delta_metrics]
    if left_out and results.baseline:
        yield f"Δm leaves out {listed(left_out)}: its single-task runs have no number for it, or it is 0."
    elif not results.baseline:
        yield "There is no Δm: no single-task runs have the numbers for it."


def _dominated(results: Results) -> Iterator[str]:
    tasks: dict[str, list[str]] = {}
    for cell in results.cells:
        if cell.delta_m is not None and cell.delta_m.dominated_by is not None:
            tasks.setdefault(cell.delta_m.dominated_by, []).append(cell.name)
    for task, cells in tasks.items():
        values = [
            f"{name} {digits.number(each.mean, 3)}"
            for name in results.delta_metrics
            for single in results.cells
            if single.single_task == task and (each := results.estimate(single.name, name))
        ]
        yield (
            f"Δm of {listed(cells)} is mostly that of {task}, whose differences are large beside its single-task "
            f"values ({listed(values)}): look at each task."
        )


def _certainty(results: Results) -> Iterator[str]:
    counts = [difference.count for difference in results.differences]
    if not counts:
        return
    most = max(counts)
    if not most:
        yield "The cells have no seed in common, so that no difference is known."
    elif most < 2:
        yield "With one seed there is no deviation and no interval: any difference may be chance."
    elif most < statistics.FEWEST:
        yield "With two seeds nothing can be told apart: any difference may be chance."
    else:
        one_in = statistics.one_in(most)
        usual = " (95 % asks for one in 20)" if one_in < 20 else ""
        yield (
            f"With {most} seeds about one in {one_in} intervals leaves out 0 although there is no difference{usual}, "
            f"and there are {len(counts)} intervals: read `better` and `worse` as hints."
        )
        yield "The best cell was chosen by the same numbers, so its lead is a little too large."


def _tuned(results: Results) -> Iterator[str]:
    trials = {len(cell.tuning.get("trials", ())) for cell in _main(results) if cell.tuning is not None}
    if trials:
        numbers = " or ".join(map(str, sorted(trials)))
        yield f"Every cell was tuned first, in {numbers} trials, chosen on validation; the seeds here are fresh ones."


def _main(results: Results) -> list[CellResult]:
    return [cell for cell in results.cells if cell.single_task is None]


def _count(results: Results, cell: CellResult, metric: str) -> int:
    estimate = results.estimate(cell.name, metric)
    return 0 if estimate is None else estimate.count


def listed(names: Iterable[str]) -> str:
    """Returns names in a row, the first ones where they are many."""
    found: Sequence[str] = list(names)
    if len(found) <= _LISTED + 1:  # the name of the last one is no longer than that there is one more
        return ", ".join(found)
    shown = ", ".join(found[:_LISTED])
    return f"{shown} and {len(found) - _LISTED} more"
