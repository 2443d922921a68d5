"""Values of runs → means over seeds, ranks, Δm and paired differences of a comparison's cells."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from trainer.compare import statistics
from trainer.compare.collected import CellRuns
from trainer.compare.results import COMPLETE, DeltaM, Estimate, Metric, RunResult

_Values = Mapping[int, Mapping[str, float]]  # seed → metric → number


@dataclasses.dataclass(frozen=True)
class Judged:
    """The numbers of which ranks, Δm and differences are made.

    Attributes:
      cells: those to be compared, in their order, and single-task references.
      metrics: those that count.
      values: cell → seed → metric → number, of complete runs.
    """

    cells: Sequence[CellRuns]
    metrics: Sequence[Metric]
    values: Mapping[str, _Values]

    @property
    def ranked(self) -> list[CellRuns]:
        """The cells with a number of every metric that counts, single-task references apart."""
        return [cell for cell in self.cells if cell.single_task is None and self._has_all(cell)]

    def mean(self, cell: CellRuns, metric: Metric) -> float | None:
        """Returns the mean over the seeds that have a number; None where none has."""
        return statistics.mean_and_deviation(list(self.by_seed(cell, metric).values()))[0]

    def by_seed(self, cell: CellRuns, metric: Metric) -> dict[int, float]:
        """Returns seed → number."""
        values = self.values[cell.name]
        return {seed: own[metric.name] for seed, own in values.items() if metric.name in own}

    def complete_seeds(self, cell: CellRuns, metrics: Sequence[Metric]) -> list[int]:
        """Returns the seeds of a cell that have a number of every one of some metrics."""
        values = self.values[cell.name]
        return [seed for seed, own in values.items() if all(metric.name in own for metric in metrics)]

    def array(self, cell: CellRuns, seeds: Sequence[int], metrics: Sequence[Metric]) -> np.ndarray:
        """Returns the numbers of some seeds and metrics, (seeds, metrics)."""
        return np.array([[self.values[cell.name][seed][metric.name] for metric in metrics] for seed in seeds])

    def _has_all(self, cell: CellRuns) -> bool:
        return bool(self.metrics) and all(self.mean(cell, metric) is not None for metric in self.metrics)


def judged(
    cells: Sequence[CellRuns], runs: Sequence[RunResult], metrics: Sequence[Metric], split: str, at: str
) -> Judged:
    """Returns the numbers of the split and the variables of which a comparison reports."""
    values: dict[str, dict[int, Mapping[str, float]]] = {cell.name: {} for cell in cells}
    for run in runs:
        if run.state == COMPLETE:
            own = run.values.get(split, {}).get(at, {})
            values[run.cell][run.seed] = {name: value for name, value in own.items() if value is not None}
    return Judged(cells, [metric for metric in metrics if metric.counts], values)


def estimates(runs: Sequence[RunResult]) -> dict[str, dict[str, dict[str, Estimate]]]:
    """Returns split → "final" or "best" → name → mean and deviation over the complete runs among those of a cell."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for run in runs:
        for split, of_split in run.values.items() if run.state == COMPLETE else ():
            for at, values in of_split.items():
                for name, value in values.items():
                    numbers = found.setdefault(split, {}).setdefault(at, {}).setdefault(name, [])
                    numbers += [] if value is None else [value]
    return {
        split: {at: {name: _estimate(own) for name, own in values.items()} for at, values in of_split.items()}
        for split, of_split in found.items()
    }


def ranks(numbers: Judged) -> dict[str, dict[str, float]]:
    """Returns ranked cell → metric → the rank of its mean over seeds."""
    cells = numbers.ranked
    found: dict[str, dict[str, float]] = {cell.name: {} for cell in cells}
    for metric in numbers.metrics if cells else ():
        of_metric = statistics.ranks([numbers.mean(cell, metric) for cell in cells], metric.direction)
        for cell, rank in zip(cells, of_metric, strict=True):
            found[cell.name][metric.name] = rank
    return found


def mean_rank(of_metrics: Mapping[str, float], metrics: Sequence[Metric]) -> float | None:
    """Returns the mean of a cell's ranks, over each task's metrics and then over tasks; None without ranks."""
    if not of_metrics:
        return None
    return float(np.dot([of_metrics[metric.name] for metric in metrics], weights(metrics)))


def matching(cell: CellRuns, candidates: Sequence[CellRuns]) -> CellRuns | None:
    """Returns the candidate whose settings are the most of the cell's own, the first of equals; else the only one."""
    within = [each for each in candidates if each.settings.items() <= cell.settings.items()]
    if within:
        return max(within, key=lambda each: len(each.settings))
    return candidates[0] if len(candidates) == 1 else None


def baselines(numbers: Judged) -> tuple[list[Metric], dict[str, dict[str, CellRuns]]]:
    """Returns the metrics of which Δm is made, and ranked cell → task → its single-task reference.

    A metric is left out where some ranked cell has no reference for it, or the mean of one is 0.
    """
    found: dict[str, dict[str, CellRuns]] = {}
    for cell in numbers.ranked:
        of_cell = found[cell.name] = {}
        for task in {metric.task for metric in numbers.metrics}:
            reference = matching(cell, [each for each in numbers.cells if each.single_task == task])
            if reference is not None:
                of_cell[task] = reference

    def is_usable(metric: Metric) -> bool:
        means = [numbers.mean(own[metric.task], metric) if metric.task in own else None for own in found.values()]
        return bool(means) and all(means)  # neither None nor 0

    return [metric for metric in numbers.metrics if is_usable(metric)], found


def delta_of_seeds(
    numbers: Judged, cell: CellRuns, metrics: Sequence[Metric], references: Mapping[str, CellRuns]
) -> dict[int, np.ndarray]:
    """Returns seed → by how much each metric is better than the mean of its reference, in percent: (metrics,)."""
    seeds = numbers.complete_seeds(cell, metrics)
    means = np.array([numbers.mean(references[metric.task], metric) for metric in metrics])
    with np.errstate(all="ignore"):
        shares = statistics.improvements(numbers.array(cell, seeds, metrics), means, directions(metrics))
    return dict(zip(seeds, shares, strict=True))


def delta_m(
    numbers: Judged, cell: CellRuns, metrics: Sequence[Metric], references: Mapping[str, CellRuns]
) -> DeltaM | None:
    """Returns Δm of a cell against its references; None where no seed has all numbers, or it is no finite one.

    Args:
      numbers: all numbers.
      cell: a ranked cell.
      metrics: those of which Δm is made.
      references: task → its single-task reference, for the tasks of these metrics.
    """
    shares = delta_of_seeds(numbers, cell, metrics, references) if metrics else {}
    mean, deviation = statistics.mean_and_deviation([float(each @ weights(metrics)) for each in shares.values()])
    if mean is None:
        return None
    of_metrics = np.mean(list(shares.values()), axis=0)
    by_task: dict[str, list[float]] = {}
    for metric, share in zip(metrics, of_metrics, strict=True):
        by_task.setdefault(metric.task, []).append(float(share))
    of_tasks = {task: math.fsum(own) / len(own) for task, own in by_task.items()}
    interval = _delta_interval(numbers, cell, metrics, references)
    return DeltaM(mean, deviation, *interval, len(shares), of_tasks, statistics.dominating(of_tasks))


def _delta_interval(
    numbers: Judged, cell: CellRuns, metrics: Sequence[Metric], references: Mapping[str, CellRuns]
) -> tuple[float | None, float | None]:
    """The bootstrap interval of Δm; a resample takes the same seeds of a cell and of a reference that has the same."""
    seeds = numbers.complete_seeds(cell, metrics)
    columns = []
    for metric in metrics:
        of_reference = numbers.by_seed(references[metric.task], metric)
        if min(len(seeds), len(of_reference)) < 2:
            return None, None
        weights_ = statistics.resamples(len(of_reference), 0 if list(of_reference) == seeds else 1)
        columns.append(weights_ @ np.array(list(of_reference.values())))
    means = statistics.resamples(len(seeds)) @ numbers.array(cell, seeds, metrics)
    tasks = [metric.task for metric in metrics]
    return statistics.delta_interval(means, np.transpose(columns), directions(metrics), tasks)


def ranks_of_seeds(numbers: Judged) -> dict[str, dict[int, float]]:
    """Returns ranked cell → seed → its mean rank among the ranked cells by the values of that seed alone."""
    found: dict[str, dict[int, float]] = {cell.name: {} for cell in numbers.ranked}
    complete = {cell.name: numbers.complete_seeds(cell, numbers.metrics) for cell in numbers.ranked}
    for seed in sorted({seed for seeds in complete.values() for seed in seeds}):
        cells = [cell for cell in numbers.ranked if seed in complete[cell.name]]
        values = np.vstack([numbers.array(cell, [seed], numbers.metrics) for cell in cells])
        columns = [
            statistics.ranks(list(values[:, place]), metric.direction) for place, metric in enumerate(numbers.metrics)
        ]
        for cell, mean in zip(cells, np.transpose(columns) @ weights(numbers.metrics), strict=True):
            found[cell.name][seed] = float(mean)
    return found


def weights(metrics: Sequence[Metric]) -> np.ndarray:
    """Returns the weight of each metric in a mean over each task's metrics and then over tasks."""
    return statistics.task_weights([metric.task for metric in metrics])


def directions(metrics: Sequence[Metric]) -> list[str]:
    """Returns the direction of each metric."""
    return [metric.direction for metric in metrics]


def _estimate(numbers: Sequence[float]) -> Estimate:
    return Estimate(*statistics.mean_and_deviation(numbers), len(numbers))
