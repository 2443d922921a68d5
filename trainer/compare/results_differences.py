"""Differences of a comparison's cells from the best one and from fixed weights, on the seeds that both have."""

from collections.abc import Mapping, Sequence

from trainer.compare import results_statistics, statistics
from trainer.compare.collected import CellRuns
from trainer.compare.results import DELTA_M, TO_BEST, TO_FIXED, Difference
from trainer.compare.results_statistics import Judged
from trainer.config.directions import DOWN, UP

_FIXED = ("weighted", "sum")  # their weights stand in the configuration, or are 1


def fixed_method(cells: Sequence[CellRuns]) -> str | None:
    """Returns the method of fixed weights to which others are compared; None where no cell has one."""
    methods = {cell.method for cell in cells}
    return next((method for method in _FIXED if method in methods), None)


def differences(
    numbers: Judged, overall: Mapping[str, Mapping[int, float]], of: str, best: str, fixed: str | None
) -> list[Difference]:
    """Returns the differences of every ranked cell: of all tasks together, then of each metric that counts.

    Args:
      numbers: all numbers.
      overall: cell → seed → one number for all tasks.
      of: what that is, "delta_m" or "mean_rank".
      best: name of the best cell.
      fixed: the method of fixed weights; None: no cell has it.
    """
    cells = numbers.ranked
    candidates = [cell for cell in cells if cell.method == fixed]
    found = []
    for cell in cells:
        references = [(TO_BEST, next(each for each in cells if each.name == best))]
        references += [(TO_FIXED, results_statistics.matching(cell, candidates))] if cell not in candidates else []
        for kind, reference in references:
            if reference is not None and reference is not cell:
                found += _of_pair(numbers, overall, of, kind, cell, reference)
    return found


def _of_pair(
    numbers: Judged,
    overall: Mapping[str, Mapping[int, float]],
    of: str,
    kind: str,
    cell: CellRuns,
    reference: CellRuns,
) -> list[Difference]:
    directions = {of: UP if of == DELTA_M else DOWN} | {metric.name: metric.direction for metric in numbers.metrics}
    own, others = (
        {of: overall[each.name]} | {metric.name: numbers.by_seed(each, metric) for metric in numbers.metrics}
        for each in (cell, reference)
    )
    return [
        _difference(own[name], others[name], direction, (cell.name, reference.name, kind, name))
        for name, direction in directions.items()
    ]


def _difference(
    own: Mapping[int, float], others: Mapping[int, float], direction: str, names: tuple[str, str, str, str]
) -> Difference:
    """The difference of two cells' numbers by seeds; `names` are the first fields of the result."""
    values = [own[seed] - others[seed] for seed in sorted(own.keys() & others.keys())]
    mean, _ = statistics.mean_and_deviation(values)
    _, deviation = statistics.mean_and_deviation(list(others.values()))
    low, high = statistics.mean_interval(values)
    verdict = statistics.verdict(low, high, len(values), direction)
    is_small = mean is not None and deviation is not None and abs(mean) < deviation
    return Difference(*names, mean, low, high, len(values), verdict, is_small)
