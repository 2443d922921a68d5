"""The rate of a training pipeline by itself."""

import dataclasses
import time
from collections.abc import Iterator

from input_pipelines.feed.splits import Split

_WARM_UP_SECONDS, _LEAST_BATCHES = 0.2, 3


@dataclasses.dataclass(frozen=True)
class Rate:
    """A rate as it was measured.

    Attributes:
      batch_size: examples of a batch.
      first_batch: seconds from the first call to the first batch.
      examples_per_second: once it runs.
    """

    batch_size: int
    first_batch: float
    examples_per_second: float


def measure(split: Split, batch_size: int, seed: int, seconds: float = 0.5) -> Rate:
    """The rate at which batches are made that nothing is done with, measured for some seconds."""
    size = min(batch_size, split.largest_batch)
    start = time.perf_counter()
    batches = iter(split.training(batch_size=size, seed=seed, first_step=0, ends=[0, size]))
    next(batches)
    first_batch = time.perf_counter() - start
    _take(batches, _WARM_UP_SECONDS)  # what was made ahead of time is used up
    count, took = _take(batches, seconds)
    return Rate(size, first_batch, count * size / took)


def _take(batches: Iterator, seconds: float) -> tuple[int, float]:
    """Number of batches taken, and the seconds that it took."""
    count, start = 0, time.perf_counter()
    while count < _LEAST_BATCHES or time.perf_counter() - start < seconds:
        next(batches)
        count += 1
    return count, time.perf_counter() - start
