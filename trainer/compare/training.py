"""Trains what of a comparison is not trained yet: cells one after another, each in a process of its own."""

import contextlib
import dataclasses
import pathlib
import signal
from collections.abc import Sequence
from typing import NamedTuple

from trainer.common import schema
from trainer.common.errors import ConfigError, NotPreparedError
from trainer.compare import plan_file
from trainer.compare.children import Launch, Stopping
from trainer.compare.grid import Prepared
from trainer.compare.messages import Event, Request, RunRequest, TuningRequest
from trainer.compare.plan_file import NOT_TUNED, Cell, Failures, Tuned
from trainer.compare.progress import Progress
from trainer.config.settings import Config
from trainer.distributed import signals
from trainer.output import records


class Place(NamedTuple):
    """The directory of a comparison.

    Attributes:
      given: as it was given.
      base: the directory that it is in where it is relative.
    """

    given: pathlib.Path
    base: pathlib.Path

    @property
    def path(self) -> pathlib.Path:
        """The directory, found wherever a user's code goes."""
        return self.base / self.given


@dataclasses.dataclass(frozen=True)
class Work:
    """The place and the way in which the runs of a comparison are trained.

    Attributes:
      place: the comparison's directory.
      devices: where to run, and what the data need; without runs.
      stopping: signals that end it.
      launch: does what a cell's process does.
      tuned: what is tuned before.
    """

    place: Place
    devices: Request
    stopping: Stopping
    launch: Launch
    tuned: Tuned = NOT_TUNED


def seeds_left(place: Place, cell: Cell, seeds: Sequence[int]) -> list[int]:
    """Returns the seeds whose runs have not ended."""
    return [seed for seed in seeds if not is_complete(plan_file.run_path(place.path, cell, seed))]


def train(prepared: Sequence[Prepared], seeds: Sequence[int], work: Work, progress: Progress) -> None:
    """Trains the runs that have not ended; why one cannot be trained is kept beside it, and the others go on.

    Args:
      prepared: the cells.
      seeds: of the runs of each.
      work: where and how.
      progress: shows it.

    Raises:
      ConfigError: the devices or the data cannot be used.
    """
    for cell, config, failure in prepared:
        failures = Failures(work.place.path, cell)
        if config is None:
            for seed in seeds:
                failures.set(seed, failure)
            progress.fail(cell.name, failure)
            continue
        trainer = _CellTrainer(cell, config, work, progress, failures)
        left = seeds_left(work.place, cell, seeds)
        for seed in seeds:
            if seed not in left:
                failures.set(seed, None)
        while left and work.stopping.signal is None:
            left = trainer.train(left)


@dataclasses.dataclass
class _CellTrainer:
    """Lets processes train a cell's runs, and keeps what they say."""

    cell: Cell
    config: Config
    work: Work
    progress: Progress
    failures: Failures
    left: list[int] = dataclasses.field(default_factory=list)
    current: int | None = None

    def train(self, seeds: Sequence[int]) -> list[int]:
        """Trains the runs with these seeds in a process; returns the seeds that it has left when it ends."""
        work, self.left, self.current = self.work, list(seeds), None
        log = plan_file.log_path(work.place.path, self.cell)
        log.parent.mkdir(parents=True, exist_ok=True)
        runs = [self._request(seed) for seed in seeds]
        request = dataclasses.replace(work.devices, runs=runs, tuning=self._tuning())
        code = work.launch(request, log, work.place.base, work.stopping, self._take)
        if code in signals.EXIT_CODES.values() or -code in signals.EXIT_CODES:  # whoever signals both, it was first
            work.stopping.note(signals.EXIT_CODES.get(-code, code))
        if work.stopping.signal is None and self.left:  # it ended before its work did
            for seed in [*self.left] if self.current is None else [self.current]:
                self._take(Event("failed", seed, reason=ended_early(code, log, work)))
        return self.left

    def _request(self, seed: int) -> RunRequest:
        path = plan_file.run_path(self.work.place.given, self.cell, seed)
        return RunRequest(seed, str(path), schema.as_dict(dataclasses.replace(self.config, seed=seed)))

    def _tuning(self) -> TuningRequest | None:
        tuned = self.work.tuned
        if not tuned.trials:
            return None
        path, tree = self.work.place.given / self.cell.folder, schema.as_dict(self.config)
        return TuningRequest(str(path), tree, tuned.trials, tuned.objective_of(self.cell))

    def _take(self, event: Event) -> None:
        if event.kind == "refused":
            raise refusal(event)
        if event.trial is not None:
            self.current = None
        elif event.kind == "started":
            self.current = event.seed
        elif event.kind in ("done", "failed"):
            self.failures.set(event.seed, event.reason or None)
            self.left.remove(event.seed)
            self.current = None
        self.progress.take(self.cell.name, event)


def refusal(event: Event) -> ConfigError:
    """Returns the error that a process has met before it could do anything."""
    kind = NotPreparedError if event.is_unprepared else ConfigError
    return kind(event.field, ConfigError.ABSENT if event.value is None else event.value, event.reason)


def ended_early(code: int, log: pathlib.Path, work: Work) -> str:
    """Returns in words how a process ended that had more to do, and the file in which it says more."""
    if code >= 0:
        how = f"its process ended with exit code {code}"
    else:
        hint = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
        how = f"{signal.Signals(-code).name} ended its process{hint}"
    return f"{how}; {work.place.given / log.relative_to(work.place.path)} says more"


def is_complete(path: pathlib.Path) -> bool:
    """True for the directory of a run that has ended."""
    with contextlib.suppress(ConfigError):
        return records.read(path).is_complete
    return False
