"""Results of a comparison as plain data: `results.json` is this, field by field. Needs no TensorFlow."""

import dataclasses
from collections.abc import Mapping
from typing import Any

FORMAT = 1
FINAL, BEST = "final", "best"  # the variables that values are of: after the last step, or at a run's best one
COMPLETE, UNFINISHED, FAILED = "complete", "unfinished", "failed"
BETTER, WORSE, NOT_DISTINGUISHABLE, TOO_FEW_SEEDS = "better", "worse", "not distinguishable", "too few seeds"
DELTA_M, MEAN_RANK = "delta_m", "mean_rank"  # compared as metrics are: all tasks together
TO_BEST, TO_FIXED = "best", "fixed"  # kinds of references


@dataclasses.dataclass(frozen=True)
class Metric:
    """A value that runs report for a split.

    Attributes:
      name: as reports have it: `loss/<loss>` or `<loss>/<metric>`.
      task: the loss that it is of; for metrics without a loss their own name; None for what monitors report.
      direction: "up" or "down", the direction of better values, by which Keras' own callbacks go; None: not known.
      counts: whether Δm and ranks are made of it: of every loss its metrics with a direction, or the loss itself where
        it has none; and only those that all cells have.
    """

    name: str
    task: str | None
    direction: str | None
    counts: bool


@dataclasses.dataclass(frozen=True)
class RunResult:
    """One run: a cell with one seed.

    Attributes:
      cell: name of the cell.
      seed: its seed.
      folder: its directory, below that of the comparison where it lies there.
      state: "complete", "unfinished" (its values are the last ones that there are) or "failed".
      reason: why it is not complete, in one line; None where it is.
      last_step: of its last validation report; None where there is none.
      best_step: of its best validation report by `best.metric`; None where the configuration has no `best`.
      values: split → "final" or "best" → name → value, as its `metrics.jsonl` has them; None (null there): no number.
    """

    cell: str
    seed: int
    folder: str
    state: str
    reason: str | None
    last_step: int | None
    best_step: int | None
    values: Mapping[str, Mapping[str, Mapping[str, float | None]]]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The mean of one value over the seeds of a cell.

    Attributes:
      mean: of the complete runs that have it as a number; None: none has.
      deviation: the sample's standard deviation (n - 1); None with fewer than two numbers.
      count: how many numbers.
    """

    mean: float | None
    deviation: float | None
    count: int


@dataclasses.dataclass(frozen=True)
class DeltaM:
    """Percent by which a cell is better than the baseline; negative: worse.

    Attributes:
      mean: Δm of the means over seeds, which is the mean of that of each seed against the baseline's mean.
      deviation: of that of each seed; None with fewer than two.
      low: lower end of the bootstrap interval (95 %), in which the baseline varies, too; None with fewer than two.
      high: upper end.
      count: how many seeds.
      by_task: task → its share before the mean over tasks, in percent.
      dominated_by: the task that makes up more than three quarters of it, all shares taken as positive, because its
        baseline is small; None where there is none.
    """

    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    count: int
    by_task: Mapping[str, float]
    dominated_by: str | None


@dataclasses.dataclass(frozen=True)
class Cost:
    """Cost of a cell's steps, measured alone after the grid.

    Attributes:
      seconds: per step; None where it could not be measured.
      relative_seconds: as a multiple of those of `sum` on the same machine; None where that has none.
      memory: the most bytes at once; None as above.
      relative_memory: as a multiple of that of `sum`.
      device: "CPU" (memory is that of the whole process) or "GPU".
      failure: why it could not be measured; None where it was.
      passes: the backward passes of a step in words; empty where they are not known.
    """

    seconds: float | None
    relative_seconds: float | None
    memory: int | None
    relative_memory: float | None
    device: str
    failure: str | None
    passes: str


@dataclasses.dataclass(frozen=True)
class CellResult:
    """One cell: runs that differ in their seeds only.

    Attributes:
      name: its name, also of its folder.
      method: the combination method.
      settings: those that differ from other cells' besides, key → value.
      single_task: the only loss of a single-task reference; None for all others.
      seeds: those of its complete runs.
      failures: seed → why that run is not complete, in one line.
      estimates: split → "final" or "best" → name → mean and deviation over its complete runs.
      ranks: name of a metric that counts → the rank of its mean among all ranked cells, 1 the best; equal values share
        the mean of their ranks. Empty where the cell takes no part.
      mean_rank: the mean of `ranks` over each task's metrics, then over tasks.
      delta_m: against the baseline; None where there is none, or a value is missing.
      cost: None: not measured.
      tuning: what `--tuned` chose, as `tuning.json` of the cell has it; None: nothing was tuned.
    """

    name: str
    method: str
    settings: Mapping[str, Any]
    single_task: str | None
    seeds: tuple[int, ...]
    failures: Mapping[int, str]
    estimates: Mapping[str, Mapping[str, Mapping[str, Estimate]]]
    ranks: Mapping[str, float]
    mean_rank: float | None
    delta_m: DeltaM | None
    cost: Cost | None
    tuning: Mapping[str, Any] | None


@dataclasses.dataclass(frozen=True)
class Difference:
    """The difference of two cells on the seeds that both have: cell minus reference.

    Attributes:
      cell: name of the one.
      reference: name of the other.
      kind: "best": the reference is the best cell; "fixed": the one with fixed weights and the same settings.
      of: name of a metric that counts; "delta_m" or "mean_rank" for all tasks together.
      mean: of the differences; None: they have no seed in common.
      low: lower end of the bootstrap interval (95 %); None with fewer than two seeds.
      high: upper end.
      count: how many seeds both have.
      verdict: "better", "worse" (0 lies outside the interval), "not distinguishable", or "too few seeds" (below three).
      is_small: whether it is less than another seed changes: less than the reference's deviation over all its seeds.
    """

    cell: str
    reference: str
    kind: str
    of: str
    mean: float | None
    low: float | None
    high: float | None
    count: int
    verdict: str
    is_small: bool


@dataclasses.dataclass(frozen=True)
class Results:
    """All that a comparison has found.

    Attributes:
      format: the number of this format.
      split: the split of which Δm, ranks and differences are: `test` where all cells have one, else `validation`.
      at: "best" or "final": at each run's best step where all runs have one, else after their last steps.
      baseline: the baseline of Δm in words; None where no cell has a Δm.
      delta_metrics: names of the metrics of which Δm is made: those that count and have a baseline that is not 0.
      best: name of the best cell, by Δm or else by mean rank; None where no cell is ranked.
      fixed: the method with fixed weights to which others are compared, "weighted" or else "sum"; None: neither ran.
      metrics: every reported value, in the order of the configuration.
      cells: all cells, in the order in which they were asked for; single-task references last.
      runs: their runs.
      differences: of every ranked cell from the best one and from the one with fixed weights.
      notes: what a reader must know, a sentence each.
      commands: those that repeat the comparison.
      versions: name of a package → its version.
    """

    format: int
    split: str
    at: str
    baseline: str | None
    delta_metrics: tuple[str, ...]
    best: str | None
    fixed: str | None
    metrics: tuple[Metric, ...]
    cells: tuple[CellResult, ...]
    runs: tuple[RunResult, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    commands: tuple[str, ...]
    versions: Mapping[str, str]

    def cell(self, name: str) -> CellResult:
        """Returns the cell of that name; raises KeyError."""
        return {each.name: each for each in self.cells}[name]

    def estimate(self, cell: str, metric: str) -> Estimate | None:
        """Returns what is reported of a metric: that of `split` and `at`; None where the cell has no such value."""
        return self.cell(cell).estimates.get(self.split, {}).get(self.at, {}).get(metric)

    @property
    def counted(self) -> tuple[Metric, ...]:
        """The metrics of which Δm and ranks are made."""
        return tuple(metric for metric in self.metrics if metric.counts)
