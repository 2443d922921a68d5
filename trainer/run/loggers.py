"""Further places for a run's reports: loggers, each an object of three methods.

What a logger has got is kept in the run's directory: a resumed run gives it nothing twice, and what it missed.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from trainer.common import atomic_files, import_paths, json_text
from trainer.common.errors import ConfigError, StoppedError, with_notes
from trainer.config.followers import WANDB
from trainer.output.reports import TRAIN, Report
from trainer.output.workdir import Workdir
from trainer.run import wandb_logger
from trainer.run.hooks import TrainingRun

FINISHED, STOPPED, INTERRUPTED, FAILED = "finished", "stopped", "interrupted", "failed"
_METHODS = ("start", "write", "finish")


@dataclasses.dataclass(frozen=True)
class Result:
    """The end of a run.

    Attributes:
      outcome: "finished"; "stopped" by early stopping or a hook; "interrupted" by a signal; "failed".
      reason: why, in a line; empty where all steps are taken.
      values: `<split>/<name>` → the last value, of all splits but that of training.
    """

    outcome: str
    reason: str
    values: Mapping[str, float | None]


class Logger(Protocol):
    """A place to which reports go."""

    def start(self, run: TrainingRun) -> None:
        """Called before the first step of a process, of a resumed run, too."""

    def write(self, step: int, values: Mapping[str, float | None]) -> None:
        """Takes a report: `<split>/<name>` → the values after `step` steps; None where one does not exist."""

    def finish(self, result: Result) -> None:
        """Called at the end of a process, however it ends."""


class Named(NamedTuple):
    """A logger and its name in the configuration."""

    logger: Logger
    name: str


class Loggers:
    """Gives each report to loggers, on the chief; a context manager, which tells them of the end. Others have none.

    One that fails is given nothing more in this process, and a line says so: `metrics.jsonl` has everything.

    Args:
      loggers: the loggers.
      run: the run's directory; None where there are none.
      say: takes a line for the user.
    """

    def __init__(
        self, loggers: Sequence[Named] = (), run: Workdir | None = None, say: Callable[[str], None] = lambda line: None
    ):
        self._waiting, self._run, self._say = list(loggers), run, say
        self._active: list[Named] = []
        self._given: dict[str, dict[str, int]] = {}  # logger → split → step of the last report that it was given
        self._values: dict[str, float | None] = {}

    def __enter__(self) -> "Loggers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            outcome = INTERRUPTED if isinstance(error, StoppedError | KeyboardInterrupt) else FAILED
            self.finish(outcome, with_notes(error))

    def start(self, run: TrainingRun, reports: Iterable[Report]) -> str:
        """Starts all of them, and gives each what it missed of the reports that the run has.

        Returns:
          A line on the one that cannot start, or on what is kept of what they got; empty where all is well.
        """
        self._given = _read(self._run)
        if self._given is None:
            name = self._run.shown / self._run.loggers.name
            return f"{name} is damaged; without that file, loggers get all reports again; no step was taken"
        for each in self._waiting:
            try:
                with import_paths.users_code():
                    each.logger.start(run)
            except import_paths.USER_ERRORS as error:
                return f"logger {each.name} cannot start: {import_paths.describe(error)}; no step was taken"
            self._active.append(each)
        for report in reports:
            self.write(report)
        return ""

    def write(self, report: Report) -> None:
        """Gives a report to those that have not got it."""
        values = {f"{report.split}/{name}": value for name, value in report.values.items()}
        if report.split != TRAIN:
            self._values |= values
        for each in tuple(self._active):
            given = self._given.setdefault(each.name, {})
            is_new = report.step > given.get(report.split, -1)
            if is_new and self._call(each, "write", report.step, dict(values)):
                given[report.split] = report.step
                atomic_files.write_whole(self._run.loggers, json.dumps(self._given) + "\n")

    def finish(self, outcome: str, reason: str = "") -> None:
        """Tells them of the end of the process, once."""
        while self._active:
            each = self._active[0]
            if self._call(each, "finish", Result(outcome, reason, dict(self._values))):
                self._active.remove(each)

    def _call(self, each: Named, method: str, *arguments: Any) -> bool:
        """Calls a method; False where it failed, of which the user is told."""
        try:
            with import_paths.users_code():
                getattr(each.logger, method)(*arguments)
        except import_paths.USER_ERRORS as error:
            self._active.remove(each)
            line = f"logger {each.name}: {method} raised {import_paths.describe(error)}"
            self._say(f"warning: {line}; it gets nothing more; metrics.jsonl has every report")
            return False
        return True


def build(specs: Sequence[Mapping[str, Any]], *, is_chief: bool) -> tuple[Named, ...]:
    """The loggers of a configuration; beside the chief none, though their modules are imported as there.

    Raises:
      ConfigError: one cannot be imported or made, has not the methods, or stands there twice.
    """
    built: list[Named] = []
    for index, spec in enumerate(specs):
        field, name = f"loggers.{index}", spec["name"]
        if name in [other["name"] for other in specs[:index]]:
            raise ConfigError(f"{field}.name", name, "is there already; each logger can be there once")
        arguments = {key: value for key, value in spec.items() if key != "name"}
        if name == WANDB:
            logger = wandb_logger.build(arguments, field)
        elif is_chief:
            logger = import_paths.call(name, arguments, field=f"{field}.name", arguments_field=field)
        else:
            import_paths.load(name, f"{field}.name")
            continue
        lacking = [method for method in _METHODS if not callable(getattr(logger, method, None))]
        if lacking:
            reason = f"must be a class with the methods {', '.join(_METHODS)}; it lacks {', '.join(lacking)}"
            raise ConfigError(f"{field}.name", name, reason)
        built.append(Named(logger, name))
    return tuple(built) if is_chief else ()


def _read(run: Workdir) -> dict[str, dict[str, int]] | None:
    """Returns what loggers have got, as the run keeps it; None where that is damaged."""
    if not run.loggers.exists():
        return {}
    try:
        given = json_text.parse(run.loggers.read_bytes())
        whole = isinstance(given, dict) and all(
            isinstance(steps, dict) and all(type(step) is int for step in steps.values()) for steps in given.values()
        )
    except (OSError, ValueError):
        whole = False
    return given if whole else None
