"""A comparison from what is asked for to its results: what is done in which order."""

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from trainer.common import atomic_files, schema
from trainer.common.errors import ConfigError, RunError, system_reason
from trainer.compare import (
    children,
    collected,
    grid,
    objectives,
    page,
    plan_file,
    results_files,
    timings,
    training,
    trials,
)
from trainer.compare.children import Launch, Stopping
from trainer.compare.collected import Comparison
from trainer.compare.grid import Prepared, Variation
from trainer.compare.messages import Request
from trainer.compare.plan_file import NOT_TUNED, Cell, Plan, Tuned
from trainer.compare.progress import Progress
from trainer.compare.results import Results
from trainer.compare.training import Place, Work
from trainer.config import loading, monitors, resuming
from trainer.config.settings import Config
from trainer.output import workdir as workdir_lib


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a comparison is to be.

    Attributes:
      tree: the configuration from which every cell is made, as nested dictionaries.
      methods: names of combination methods; empty: that of the configuration.
      variations: what varies besides.
      seeds: how many runs each cell has; the first has the configuration's own seed.
      single_tasks: whether each loss is trained alone, too.
      workdir: the directory; None: a new one.
      command: the command that repeats it.
      devices: where runs are trained.
      tuned: how each cell is tuned before: its trials have the configuration's own seed, the runs those after it.
      timed_steps: the most steps of a round by which each method is timed alone in the end; 0: none is.
    """

    tree: Mapping[str, Any]
    methods: Sequence[str] = ()
    variations: Sequence[Variation] = ()
    seeds: int = 1
    single_tasks: bool = False
    workdir: str | None = None
    command: str = ""
    devices: Request = dataclasses.field(default_factory=lambda: Request([], "mirrored"))
    tuned: Tuned = NOT_TUNED
    timed_steps: int = 0


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
    config = loading.resolve(asked.tree)
    names = asked.methods or (config.combine.name,)
    cells = grid.cells(config, names, asked.variations, single_tasks=asked.single_tasks)
    prepared = grid.prepare(asked.tree, cells)
    first = config.seed + bool(asked.tuned.trials)
    seeds = range(first, first + asked.seeds)
    place = Place(pathlib.Path(asked.workdir or _new(base)), base)
    plan = Plan(asked.command, schema.as_dict(config), cells, tuple(seeds), asked.tuned)
    _check_tuned(asked.tuned, prepared)
    _check(place, prepared, seeds)
    plan = _continued(place, plan, config)
    with _locked(place), Stopping() as stopping:
        plan_file.write(place.path, plan)
        counts = {cell.name: _count(place, cell, seeds, asked.tuned) for cell in cells}
        work = Work(place, asked.devices, stopping, launch, asked.tuned)
        with Progress(counts, _watched(config), console) as progress:
            training.train(prepared, seeds, work, progress)
            if asked.timed_steps:
                wanted = grid.cells(config, (*names, timings.REFERENCE), asked.variations, single_tasks=False)
                timings.measure(grid.prepare(asked.tree, wanted), asked.timed_steps, work, progress.say)
        outcome = _written(collected.read(place.path), cells, seeds, stopping.signal)
    for line in (page.headline(outcome.results), f"{place.given}: {page.NAME}, {', '.join(results_files.NAMES)}"):
        console.print(line, markup=False, soft_wrap=True)
    return outcome


def _written(
    comparison: Comparison, cells: Sequence[Cell], seeds: Sequence[int], stopped: signal.Signals | None
) -> Outcome:
    """Writes the results of all runs."""
    try:
        results = results_files.write(comparison)
        report = page.write(comparison, results)
    except OSError as error:
        reason = f"cannot write {error.filename or comparison.workdir}: {system_reason(error)}"
        raise RunError(reason) from error
    names = {cell.name for cell in cells}
    asked = [cell for cell in comparison.cells if cell.name in names]
    failed = [f"{cell.name} (seed {seed})" for cell in asked for seed in sorted(cell.failures) if seed in seeds]
    return Outcome(comparison, results, report, failed, stopped)


def _count(place: Place, cell: Cell, seeds: Sequence[int], tuned: Tuned) -> tuple[int, int]:
    """The number of a cell's runs, with its trials, and how many of them have ended."""
    ended = len(seeds) - len(training.seeds_left(place, cell, seeds))
    tuning = trials.read(place.path / cell.folder) if tuned.trials else None
    return tuned.trials + len(seeds), ended + (0 if tuning is None else len(tuning.trials))


def _check_tuned(tuned: Tuned, prepared: Sequence[Prepared]) -> None:
    """Raises ConfigError where a cell cannot be tuned."""
    if tuned.trials:
        objectives.check_installed(tuned.trials)
        for cell, config, _ in prepared:
            if config is not None:
                objectives.of(config, tuned.objective_of(cell))


def _watched(config: Config) -> str:
    return "" if config.best is None else monitors.reported_name(config.best.metric)


def _new(base: pathlib.Path) -> str:
    return next(name for name in workdir_lib.dated_names() if not (base / name).exists())


def _check(place: Place, prepared: Sequence[Prepared], seeds: Sequence[int]) -> None:
    """Raises ConfigError where a run can neither start nor resume in its directory."""
    if (place.path / "config.json").exists():
        raise ConfigError(plan_file.FIELD, str(place.given), "is the directory of a run; choose another one")
    for cell, config, _ in prepared:
        for seed in seeds if config is not None else ():
            path = plan_file.run_path(place.given, cell, seed)
            config = trials.chosen(place.path / cell.folder, config)
            workdir_lib.check(str(path), dataclasses.replace(config, seed=seed), place.base)


def _continued(place: Place, plan: Plan, config: Config) -> Plan:
    """The plan with what the directory holds already; raises ConfigError where that is of another configuration."""
    before = plan_file.read(place.path)
    if before is None:
        return plan
    different = resuming.differences_from_chief(loading.resolve(before.config), config)
    if different:
        reason = f"holds a comparison with another configuration: {'; '.join(different)}; choose another directory"
        raise ConfigError(plan_file.FIELD, str(place.given), reason)
    if before.tuned != plan.tuned:
        objective = "" if before.tuned.objective is None else f" --objective={before.tuned.objective!r}"
        reason = f"holds a comparison with --tuned={before.tuned.trials}{objective}; choose another directory"
        raise ConfigError(plan_file.FIELD, str(place.given), reason)
    cells, seeds = (plan_file.united(getattr(before, each), getattr(plan, each)) for each in ("cells", "seeds"))
    return dataclasses.replace(plan, cells=cells, seeds=tuple(sorted(seeds)))


@contextlib.contextmanager
def _locked(place: Place) -> Iterator[None]:
    """A context in which no other comparison can use the directory, which is made."""
    shown = str(place.given)
    try:
        place.path.mkdir(parents=True, exist_ok=True)
        descriptor = atomic_files.open_no_link(place.path / "lock", os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise ConfigError(plan_file.FIELD, shown, f"cannot be written: {system_reason(error)}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            raise ConfigError(plan_file.FIELD, shown, f"another comparison is using it ({holder})") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
