"""Messages between the process of a comparison and those that it starts, each a line of JSON."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class RunRequest:
    """A run to be trained.

    Attributes:
      seed: its seed.
      path: its directory, absolute or below the current one.
      config: its resolved configuration, as nested dictionaries.
    """

    seed: int
    path: str
    config: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class TuningRequest:
    """The tuning before a cell's runs, which then have the chosen values.

    Attributes:
      path: the cell's directory, absolute or below the current one.
      config: its resolved configuration, whose seed is that of all trials.
      trials: the number of trials.
      objective: what is optimized, as for `objectives.of`.
    """

    path: str
    config: Mapping[str, Any]
    trials: int
    objective: str | None


@dataclasses.dataclass(frozen=True)
class Request:
    """The work of a process.

    Attributes:
      runs: what it trains, one after another.
      strategy: "mirrored" or "one_device".
      virtual_devices: how many logical CPU devices to mirror over; None: as there are.
      allow_cpu: take the CPU where GPUs cannot be used.
      trust: packages whose code data may name.
      download: whether to prepare what the data need.
      tuning: what is tuned first; None: nothing.
      timed_steps: time that many steps of the first run's configuration instead, and write nothing; 0: train.
      events: the descriptor on which it answers.
    """

    runs: Sequence[RunRequest]
    strategy: str
    virtual_devices: int | None = None
    allow_cpu: bool = False
    trust: Sequence[str] | None = None
    download: bool = False
    tuning: TuningRequest | None = None
    timed_steps: int = 0
    events: int = -1

    def to_json(self) -> str:
        """Returns what `of_json` reads, in one line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def of_json(cls, line: str | bytes) -> "Request":
        """Reads a line that `to_json` wrote."""
        tree = json.loads(line)
        runs, tuning = [RunRequest(**each) for each in tree["runs"]], tree["tuning"]
        return cls(**tree | {"runs": runs, "tuning": tuning and TuningRequest(**tuning)})


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that has happened in a process.

    Attributes:
      kind: "started", "report", "done" or "failed", of a run; "timed"; "refused", of all that it was asked for.
      seed: the run's seed.
      step: of a report: number of steps taken.
      steps: of a report: the length of the run.
      split: of a report.
      values: of a report that is not of training: the losses and metrics; of "timed": its result.
      reason: of a failure: why, in a line; of a trial that is done: what became of it, where that is not plain; of a
        refusal: what is allowed.
      field: of a refusal: what is wrong.
      value: of a refusal: what was given; None: nothing.
      is_unprepared: of a refusal: whether the data must be prepared first.
      trial: the number of the trial that the run is; None: it is none.
    """

    kind: Literal["started", "report", "done", "failed", "timed", "refused"]
    seed: int = 0
    step: int = 0
    steps: int = 0
    split: str = ""
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reason: str = ""
    field: str = ""
    value: str | None = None
    is_unprepared: bool = False
    trial: int | None = None

    def to_json(self) -> str:
        """Returns what `of_json` reads, in one line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def of_json(cls, line: str | bytes) -> "Event":
        """Reads a line that `to_json` wrote."""
        return cls(**json.loads(line))
