"""Step times of several contenders, measured in alternating rounds."""

import dataclasses
import json
import statistics
from collections.abc import Callable, Mapping
from typing import Any

from tests.benchmarks.bounds import NotInstalledError
from tests.benchmarks.problems import Gradients, Preset, Problem
from tests.benchmarks.workers import Worker, WorkerError

ROUNDS = 9


@dataclasses.dataclass(frozen=True)
class Contender:
    """A contender: a problem and the way in which a worker builds and steps it.

    Attributes:
      worker: which process; a key of `Workers`.
      kind: what it builds.
      problem: what it trains, combines or reads.
      multiple: steps can be taken in multiples of this.
      options: the kind's own.
    """

    worker: str
    kind: str
    problem: Problem | Gradients | Preset
    multiple: int = 1
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name under which its worker keeps it; sections with equal contenders share it."""
        return json.dumps([self.kind, self.problem.plain, self.options], sort_keys=True)


class Workers:
    """Processes by name, started when they are first asked for.

    Args:
      start: starts the process of a name; raises NotInstalledError where it needs a package that is not there.
      say: called with lines about the progress.
      round_seconds: how long a contender's turn takes at least.
    """

    def __init__(self, start: Callable[[str], Worker], say: Callable[[str], None], round_seconds: float = 0.3):
        self._start, self._say, self._round_seconds = start, say, round_seconds
        self._workers: dict[str, Worker] = {}
        self._steps: dict[str, dict[str, int]] = {}  # of a round, by worker and contender's name

    def step_times(self, section: str, contenders: Mapping[str, Contender]) -> dict[str, float | Exception]:
        """Milliseconds of a step of each contender of a section: the median of rounds in which they take turns."""
        times: dict[str, list[float]] = {}
        failures: dict[str, float | Exception] = {}
        for key, contender in contenders.items():
            try:
                self._ready(contender)
                times[key] = []
            except (WorkerError, NotInstalledError) as error:
                self._say(f"{section}: {key}: {error}")
                failures[key] = error
        for index in range(ROUNDS):
            for key in list(times)[:: 1 if index % 2 == 0 else -1]:
                try:
                    times[key].append(1e3 * self._round(contenders[key]))
                except WorkerError as error:
                    self._say(f"{section}: {key}: {error}")
                    failures[key] = error
                    del times[key]
        for key, own in times.items():
            self._say(f"{section}: {key}: {statistics.median(own):.3g} ms ({min(own):.3g} to {max(own):.3g})")
        return failures | {key: statistics.median(own) for key, own in times.items()}

    def get(self, name: str) -> Worker:
        """The process of a name, a new one where it has ended."""
        if name not in self._workers or not self._workers[name].alive:
            self._workers[name] = self._start(name)
            self._steps[name] = {}
        return self._workers[name]

    def close(self) -> None:
        """Ends the processes."""
        for worker in self._workers.values():
            worker.close()

    def _ready(self, contender: Contender) -> None:
        """Builds and warms up a contender that is not there yet, and chooses the length of its rounds."""
        name, worker = contender.name, self.get(contender.worker)
        if name in self._steps[contender.worker]:
            return
        worker.call("build", name=name, kind=contender.kind, problem=contender.problem.plain, **contender.options)
        worker.call("steps", name=name, count=contender.multiple)
        seconds = worker.call("steps", name=name, count=contender.multiple)
        rounds = max(1, round(self._round_seconds / seconds))
        self._steps[contender.worker][name] = contender.multiple * rounds

    def _round(self, contender: Contender) -> float:
        """Seconds of a step in one round."""
        name, worker = contender.name, contender.worker
        if name not in self._steps[worker]:
            raise WorkerError(f"the process that built {name} has ended")
        count = self._steps[worker][name]
        return self._workers[worker].call("steps", name=name, count=count) / count
