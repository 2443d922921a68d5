"""Functions of the user's own that follow a run: they see its reports, and may stop it."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras

from trainer.common import import_paths, schema
from trainer.config.settings import Config
from trainer.output.reports import TRAIN, Report

END = "end"


class TrainingRun:
    """A run as hooks and loggers see it.

    Attributes:
      model: the model as it is trained, with the last variables; other ones only where an evaluation at the end took
        the best checkpoint's.
      config: every setting, resolved, as nested dictionaries.
      path: the run's directory, absolute.
      steps: the length of the run.
      reason: the reason of the first call of `stop`; None before.
    """

    def __init__(self, model: keras.Model, config: Config, path: pathlib.Path, steps: int):
        self.model, self.config, self.path, self.steps = model, schema.as_dict(config), path, steps
        self.reason: str | None = None

    def stop(self, reason: str) -> None:
        """Ends training here, as early stopping does: the run is evaluated, saved, and says the reason."""
        self.reason = self.reason or " ".join(str(reason).split()) or "no reason given"


@dataclasses.dataclass(frozen=True)
class HookReport:
    """A report as hooks see it.

    Attributes:
      kind: "train" or "evaluation"; "end", once, when everything is written.
      split: "train", "validation" or another one; at the end "validation".
      values: names, as in `metrics.jsonl`, → numbers; None where a value does not exist. At the end those of the last
        validation report.
    """

    kind: str
    split: str
    values: Mapping[str, float | None]


class Hook(NamedTuple):
    """A function, its import path and its further arguments."""

    function: Callable[..., Any]
    name: str
    arguments: Mapping[str, Any]


class Hooks:
    """Calls hooks one after another; on the chief.

    Args:
      hooks: the hooks, on all workers alike.
      run: what they get; None on other workers, which call none.
      stopped: why one of them stopped the run in an earlier process; None: none did.

    Attributes:
      exist: whether there are any; the same on all workers.
      stopped: why one of them stopped the run, and which; None while none did.
      failure: a line on the one that failed, after which none is called any more; None while none did.
    """

    def __init__(self, hooks: Sequence[Hook] = (), run: TrainingRun | None = None, stopped: str | None = None):
        self._hooks, self._run = hooks if run is not None else (), run
        self.exist = bool(hooks)
        self.stopped, self.failure = stopped, None

    @property
    def is_over(self) -> bool:
        """True where the run must not continue."""
        return self.stopped is not None or self.failure is not None

    def call(self, report: Report, kind: str | None = None) -> None:
        """Calls all of them with a report; `kind` says that of `HookReport` where the split does not."""
        kind = kind or (TRAIN if report.split == TRAIN else "evaluation")
        for each in self._hooks:
            if self.failure is not None:
                return
            given = HookReport(kind, report.split, dict(report.values))
            try:
                with import_paths.users_code():
                    each.function(self._run, report.step, given, **each.arguments)
            except import_paths.USER_ERRORS as error:
                self.failure = f"hook {each.name} raised {import_paths.describe(error)} (step {report.step})"
            if self._run.reason is not None and self.stopped is None:
                self.stopped = f"{self._run.reason} ({each.name})"


def load(specs: Sequence[Mapping[str, Any]]) -> tuple[Hook, ...]:
    """The hooks of a configuration.

    Raises:
      ConfigError: one cannot be imported, or does not take its arguments.
    """
    hooks = []
    for index, spec in enumerate(specs):
        field, arguments = f"hooks.{index}", {key: value for key, value in spec.items() if key != "name"}
        function = import_paths.load(spec["name"], f"{field}.name")
        import_paths.check_arguments(function, arguments, field=field, positional=3)
        hooks.append(Hook(function, spec["name"], arguments))
    return tuple(hooks)
