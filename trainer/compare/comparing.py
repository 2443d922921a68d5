"""A comparison from what is asked for to its results: what is done in which order."""

import dataclasses
import pathlib
import signal
import time
from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console

from trainer.common.errors import ConfigError, RunError, system_reason
from trainer.compare import (
    asking,
    children,
    collected,
    existing,
    grid,
    page,
    plan_file,
    results_files,
    results_verdict,
    timings,
    training,
    trials,
)
from trainer.compare.asking import Asked, Begun
from trainer.compare.children import Launch, Stopping
from trainer.compare.collected import Comparison
from trainer.compare.plan_file import Cell, InUseError, Tuned
from trainer.compare.progress import Progress
from trainer.compare.results import Results
from trainer.compare.training import Place, Work
from trainer.config import monitors

_WAIT = 60.0  # seconds for whoever writes the plan of the same comparison


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The end of a comparison.

    Attributes:
      comparison: all its runs.
      results: its numbers.
      report: its page.
      failed: the runs that were asked for and failed, as `<cell> (seed <n>)`.
      signal: what stopped it; None where nothing did.
    """

    comparison: Comparison
    results: Results
    report: pathlib.Path
    failed: Sequence[str]
    signal: signal.Signals | None


class CellOutcome(NamedTuple):
    """The end of one cell: its failed runs as an `Outcome` has them, and what stopped it; None where nothing did."""

    failed: Sequence[str]
    signal: signal.Signals | None


def compare(asked: Asked, base: pathlib.Path, console: Console, launch: Launch = children.run) -> Outcome:
    """Trains what is asked for and is not there yet, times it, and writes the results of all that is there.

    Args:
      asked: what the comparison is to be.
      base: the directory that a relative one is in.
      console: where to show progress.
      launch: does what a cell's process does.

    Raises:
      ConfigError: it cannot be; nothing was written, unless the devices or the data are what cannot be used.
      RunError: the results cannot be written.
    """
    begun = asking.begin(asked, base)
    place, seeds = begun.place, begun.plan.seeds
    with plan_file.locked(place.path, place.given), Stopping() as stopping:
        plan_file.write(place.path, begun.whole)
        work = Work(place, asked.devices, stopping, launch, asked.tuned)
        with _progress(begun, begun.plan.cells, console) as progress:
            training.train(begun.prepared, seeds, work, progress)
            if asked.timed_steps:
                names = (*begun.methods, timings.REFERENCE)
                timed = grid.cells(begun.config, names, asked.variations, single_tasks=False)
                timings.measure(grid.prepare(asked.tree, timed), asked.timed_steps, work, progress.say)
        _say_stopped(stopping, console)
        comparison = collected.read(place.path)
        results, page_ = write(comparison, place.given, console)
    return Outcome(comparison, results, page_, _failed(comparison, begun.plan.cells, seeds), stopping.signal)


def _say_stopped(stopping: Stopping, console: Console) -> None:
    if stopping.signal is not None:
        reason = "what was trained is saved, and the same command with this workdir continues"
        console.print(f"stopped by {stopping.signal.name}; {reason}", soft_wrap=True)


def _failed(comparison: Comparison, cells: Sequence[Cell], seeds: Sequence[int]) -> list[str]:
    wanted = {cell.name for cell in cells}
    found = [cell for cell in comparison.cells if cell.name in wanted]
    return [f"{cell.name} (seed {seed})" for cell in found for seed in sorted(cell.failures) if seed in seeds]


def train_cell(asked: Asked, number: int, base: pathlib.Path, console: Console) -> CellOutcome:
    """Trains one cell of what is asked for; other processes may train others of the same comparison meanwhile.

    Args:
      asked: the whole comparison.
      number: the cell's, counted from 1 as `listed` has them.
      base: the directory that a relative one is in.
      console: where to show progress.

    Raises:
      ConfigError: as `compare`; or there is no such cell.
    """
    if asked.workdir is None:
        raise ConfigError(plan_file.FIELD, ConfigError.ABSENT, "is missing: the folder of the whole comparison")
    begun = asking.begin(asked, base, number)
    place, cells, seeds = begun.place, [each.cell for each in begun.prepared], begun.plan.seeds
    _write_shared(place, begun)
    with plan_file.locked(place.path, place.given, shared=True), Stopping() as stopping:
        work = Work(place, asked.devices, stopping, children.run, asked.tuned)
        with _progress(begun, cells, console) as progress:
            training.train(begun.prepared, seeds, work, progress)
        _say_stopped(stopping, console)
    return CellOutcome(_failed(collected.read(place.path), cells, seeds), stopping.signal)


def _write_shared(place: Place, begun: Begun) -> None:
    """Writes the plan unless it is there already, as whoever trains another cell may have written it."""
    deadline = time.monotonic() + _WAIT
    while True:
        before = plan_file.read(place.path)
        whole = asking.continued(place, begun.plan, begun.config)
        if before is not None and (before.cells, before.seeds) == (whole.cells, whole.seeds):
            return
        try:
            with plan_file.locked(place.path, place.given):
                plan_file.write(place.path, asking.continued(place, begun.plan, begun.config))
            return
        except InUseError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_WAIT / 100)


def _progress(begun: Begun, cells: Sequence[Cell], console: Console) -> Progress:
    seeds, tuned = begun.plan.seeds, begun.plan.tuned
    counts = {cell.name: _count(begun.place, cell, seeds, tuned) for cell in cells}
    best = begun.config.best
    return Progress(counts, "" if best is None else monitors.reported_name(best.metric), console)


def report(given: Sequence[str], workdir: str | None, command: str, base: pathlib.Path, console: Console) -> None:
    """Writes the results of runs that are there; nothing is trained.

    Args:
      given: as for `existing.collect`.
      workdir: where the results go; None: a new directory.
      command: the command that repeats it.
      base: the directory that relative ones are in.
      console: where to say what they are.

    Raises:
      ConfigError: the runs cannot be compared, or the directory is used otherwise.
      RunError: the results cannot be written.
    """
    place = Place(pathlib.Path(workdir or asking.new_workdir(base)), base)
    comparison = existing.collect(given, base, place.path, command)
    for name in ("config.json", plan_file.NAME):
        if (place.path / name).exists():
            reason = f"holds {name}; results of other runs need a directory of their own"
            raise ConfigError(plan_file.FIELD, str(place.given), reason)
    with plan_file.locked(place.path, place.given):
        write(comparison, place.given, console)


def write(comparison: Comparison, shown: pathlib.Path, console: Console) -> tuple[Results, pathlib.Path]:
    """Writes the results of a comparison, and says in a line what they are.

    Args:
      comparison: its runs.
      shown: its directory as it was given.
      console: where to say it.

    Returns:
      The results, and the path of their page.

    Raises:
      RunError: they cannot be written.
    """
    try:
        results = results_files.write(comparison)
        report = page.write(comparison, results)
    except OSError as error:
        reason = f"cannot write {error.filename or comparison.workdir}: {system_reason(error)}"
        raise RunError(reason) from error
    for line in (
        " ".join(results_verdict.sentences(results)),
        f"{shown}: {page.NAME}, {', '.join(results_files.NAMES)}",
    ):
        console.print(line, markup=False, soft_wrap=True)
    return results, report


def _count(place: Place, cell: Cell, seeds: Sequence[int], tuned: Tuned) -> tuple[int, int]:
    """The number of a cell's runs, with its trials, and how many of them have ended."""
    ended = len(seeds) - len(training.seeds_left(place, cell, seeds))
    tuning = trials.read(place.path / cell.folder) if tuned.trials else None
    return tuned.trials + len(seeds), ended + (0 if tuning is None else len(tuning.trials))
