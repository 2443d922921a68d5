"""Arithmetic of a comparison: over seeds, over the metrics of a task, over tasks. Plain numbers and numpy.

A metric's direction is "up" or "down", that of its better values. Every interval is the percentile bootstrap's: 95 %
between the percentiles of 10,000 means of values that are drawn from the given ones with replacement, always the same
draws. It always exists, but it is too narrow with few values (Hesterberg 2015,
https://doi.org/10.1080/00031305.2015.1089789): `one_in` says how much.
"""

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from trainer.compare.results import BETTER, NOT_DISTINGUISHABLE, TOO_FEW_SEEDS, WORSE
from trainer.config.directions import UP

RESAMPLES, LEVEL = 10_000, 0.95
FEWEST = 3  # values from which a verdict is made
_SEED = 0
_ONE_IN = ((50, 17), (20, 14), (10, 10), (8, 9), (7, 8), (6, 7), (5, 6), (4, 5), (FEWEST, 4))


def mean_and_deviation(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Returns the mean (None of no values) and the sample's standard deviation (n - 1; None of fewer than two)."""
    if not values:
        return None, None
    with np.errstate(all="ignore"):
        mean = _number(np.mean(values))
        return mean, _number(np.std(values, ddof=1)) if len(values) > 1 else None


def ranks(values: Sequence[float], direction: str) -> list[float]:
    """Returns the rank of every value, 1 the best; equal values share the mean of their ranks."""
    signed = -np.asarray(values, np.float64) if direction == UP else np.asarray(values, np.float64)
    below = (signed[:, None] > signed[None, :]).sum(1)
    equal = (signed[:, None] == signed[None, :]).sum(1)
    return [float(rank) for rank in below + (equal + 1) / 2]


def task_weights(tasks: Sequence[str]) -> np.ndarray:
    """Returns the weight of every metric in a mean over each task's metrics first, then over tasks.

    So does LibMTL for its Δp, and a task of many metrics counts as one of few. CAGrad and papers after it take the mean
    over all metrics at once; where every task has one, all are the same.

    Args:
      tasks: the task of each metric.
    """
    return np.array([1 / (len(set(tasks)) * tasks.count(task)) for task in tasks])


def improvements(values: np.ndarray, baselines: np.ndarray, directions: Sequence[str]) -> np.ndarray:
    """Returns by how much values are better than baselines, in percent of the baselines' size; negative: worse.

    Of a loss or an error it is 100 (B - M) / |B|, of an accuracy 100 (M - B) / |B|: the sign of Maninis 2019
    (https://arxiv.org/abs/1904.08918) and LibMTL. CAGrad and papers after it print the opposite one.

    Args:
      values: (..., metrics).
      baselines: (..., metrics), none of them 0.
      directions: of each metric.
    """
    signs = np.array([1.0 if direction == UP else -1.0 for direction in directions])
    return 100 * signs * (values - baselines) / np.abs(baselines)


@functools.cache
def resamples(count: int, stream: int = 0) -> np.ndarray:
    """Returns the weights of `count` values in each mean of a bootstrap: (RESAMPLES, count), each row of sum 1.

    Args:
      count: how many values.
      stream: draws of another stream have nothing to do with these.
    """
    drawn = np.random.default_rng((_SEED, stream)).integers(count, size=(RESAMPLES, count))
    rows = np.arange(RESAMPLES)[:, None] * count
    return np.bincount((drawn + rows).ravel(), minlength=RESAMPLES * count).reshape(RESAMPLES, count) / count


def interval(statistics: np.ndarray) -> tuple[float | None, float | None]:
    """Returns the percentiles between which 95 % of the resamples' statistics lie; None where they are no numbers."""
    if not np.all(np.isfinite(statistics)):
        return None, None
    low, high = np.percentile(statistics, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def mean_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Returns the bootstrap interval of a mean; None of fewer than two values."""
    return interval(resamples(len(values)) @ np.asarray(values, np.float64)) if len(values) > 1 else (None, None)


def delta_interval(
    means: np.ndarray, baselines: np.ndarray, directions: Sequence[str], tasks: Sequence[str]
) -> tuple[float | None, float | None]:
    """Returns the bootstrap interval of Δm; None where a resampled baseline is 0.

    Args:
      means: of the resampled seeds of a cell, (RESAMPLES, metrics).
      baselines: the same of its references.
      directions: of each metric.
      tasks: of each metric.
    """
    with np.errstate(all="ignore"):
        return interval(improvements(means, baselines, directions) @ task_weights(tasks))


def verdict(low: float | None, high: float | None, count: int, direction: str) -> str:
    """Returns what an interval says of a mean difference of `count` values whose better ones go in `direction`."""
    if count < FEWEST or low is None or high is None:
        return TOO_FEW_SEEDS
    if low <= 0 <= high:
        return NOT_DISTINGUISHABLE
    return BETTER if (low > 0) == (direction == UP) else WORSE


def one_in(count: int) -> int:
    """Returns n where one in n intervals leaves out 0 although there is no difference; 20 is what 95 % asks for.

    Of `count` normal differences: the probability that |t| of Student's distribution is above 1.96 √((n - 1) / n).

    Args:
      count: how many differences, FEWEST at least.
    """
    return next(one for fewest, one in _ONE_IN if count >= fewest)


def dominating(by_task: Mapping[str, float]) -> str | None:
    """Returns the task whose share is more than three quarters of all, in size, and above 10 %; None: none is."""
    task = max(by_task, key=lambda name: abs(by_task[name]))
    total = math.fsum(map(abs, by_task.values()))
    return task if len(by_task) > 1 and abs(by_task[task]) > max(0.75 * total, 10) else None


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
