"""Lines of a picture from the curves of runs: means over runs, and over as many steps as a pixel has."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from trainer.output.curves import Curves

POINTS = 100  # of a line; more reports than these are means over intervals of steps


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that are drawn as one line.

    Attributes:
      label: their name.
      runs: the curves of each.
      style: a number that says how the line looks.
    """

    label: str
    runs: Sequence[Curves]
    style: int


@dataclasses.dataclass(frozen=True)
class Line:
    """A line and the band around it.

    Attributes:
      label: its name.
      style: a number that says how it looks.
      steps: float64, increasing.
      values: float64, of the same length: the mean over the runs and over the reports of an interval.
      low: the lower edge of the band: a sample deviation below the mean where there are several runs, the least value
        of the interval where there is one; equal to `values` where there is one run with one report.
      high: its upper edge.
      is_faint: drawn behind the others, thin.
    """

    label: str
    style: int
    steps: np.ndarray
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    is_faint: bool = False


def line(
    group: Group, name: str, split: str, *, is_faint: bool = False, label: str | None = None, most: int = POINTS
) -> Line | None:
    """Returns the line of a group's values of a name, `most` points at most; None where no run has a finite one."""
    label = group.label if label is None else label
    return of_points(points(group.runs, name, split), label, group.style, is_faint, most)


def of_points(
    runs: Sequence[tuple[np.ndarray, np.ndarray]], label: str, style: int, is_faint: bool = False, most: int = POINTS
) -> Line | None:
    """Returns the line of the points (steps, values) of each run, `most` at most; None where there is none."""
    if not runs:
        return None
    every = np.unique(np.concatenate([steps for steps, _ in runs]))
    edges = every if len(every) <= most else np.linspace(every[0], every[-1], most + 1)[1:]
    means = np.stack([interval_means(steps, values, edges) for steps, values in runs])
    known = np.isfinite(means).any(axis=0)
    means, edges = means[:, known], edges[known]
    counts = np.isfinite(means).sum(axis=0)
    middle = np.nansum(means / counts, axis=0)
    if len(runs) > 1:
        with np.errstate(over="ignore"):  # an edge may be infinite
            around = np.sqrt(np.nansum((means - middle) ** 2, axis=0) / np.maximum(counts - 1, 1))
            low, high = middle - around, middle + around
    else:
        low, high = (_extremes(*runs[0], edges, function) for function in (np.minimum, np.maximum))
    return Line(label, style, edges, middle, low, high, is_faint)


def points(runs: Iterable[Curves], name: str, split: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns (steps, values) of every run that has finite values of this name."""
    found = []
    for curves in runs:
        steps, values = (np.asarray(each, float) for each in curves.get(name, {}).get(split, ((), ())))
        finite = np.isfinite(values)
        if finite.any():
            found.append((steps[finite], values[finite]))
    return found


def interval_means(steps: np.ndarray, values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Returns the mean of the values in each interval, which ends with an edge; NaN where there is none."""
    index = _index(steps, edges)
    counts, sums = (np.bincount(index, weights, len(edges)) for weights in (None, values))
    return np.divide(sums, counts, out=np.full(len(edges), np.nan), where=counts > 0)


def _extremes(steps: np.ndarray, values: np.ndarray, edges: np.ndarray, function: np.ufunc) -> np.ndarray:
    """The least or the greatest value in each interval, none of which is empty."""
    return function.reduceat(values, np.unique(_index(steps, edges), return_index=True)[1])


def _index(steps: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.minimum(np.searchsorted(edges, steps, side="left"), len(edges) - 1)
