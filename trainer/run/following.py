"""Hooks and loggers, which follow a run from outside: from the configuration to their start."""

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from trainer.common.errors import RunError
from trainer.config.settings import Config
from trainer.distributed.workers import Workers
from trainer.output.history import Reports
from trainer.output.recorder import Recorder
from trainer.output.reports import VALIDATION, Report
from trainer.output.workdir import Workdir
from trainer.run import hooks as hooks_lib
from trainer.run import loggers as loggers_lib
from trainer.run.experiment import Experiment
from trainer.run.hooks import Hook, Hooks, TrainingRun
from trainer.run.loggers import Loggers
from trainer.run.resume import Start


class Loaded(NamedTuple):
    """The hooks and loggers of a configuration; loggers on the chief alone."""

    hooks: tuple[Hook, ...]
    loggers: tuple[loggers_lib.Named, ...]


def load(config: Config, workers: Workers, hooks: Sequence[Hook] = ()) -> Loaded:
    """Imports hooks and loggers, on all workers alike; raises ConfigError where one cannot be used.

    Args:
      config: names them.
      workers: who takes part.
      hooks: further ones, of the caller.
    """
    loggers = loggers_lib.build(config.loggers, is_chief=workers.is_chief)
    return Loaded((*hooks_lib.load(config.hooks), *hooks), loggers)


@contextlib.contextmanager
def started(
    loaded: Loaded, run: Workdir | None, built: Experiment, start: Start, recorder: Recorder, workers: Workers
) -> Iterator[tuple[Hooks, Loggers]]:
    """A context in which loggers are started; on workers that are not the chief it gives hooks and loggers of nobody.

    Args:
      loaded: what to start.
      run: on the chief, the run's directory.
      built: the experiment.
      start: where it starts.
      recorder: takes lines for the user.
      workers: who takes part.

    Raises:
      RunError: a logger cannot start; the same on all workers.
    """
    hooks, loggers, failure = Hooks(loaded.hooks), Loggers(), ""
    if run is not None:
        seen = TrainingRun(built.model, built.config, run.path, built.timeline.steps)
        hooks, loggers = Hooks(loaded.hooks, seen, start.stopped), Loggers(loaded.loggers, run, recorder.say)
    with loggers:
        if run is not None and loaded.loggers:
            failure = loggers.start(seen, Reports(run.metrics))
        if built.config.loggers and (failure := workers.first_text(failure)):
            raise RunError(failure)
        yield hooks, loggers


def last_validation(run: Workdir) -> Report:
    """The last validation report of a run that has ended, from its file."""
    return deque((report for report in Reports(run.metrics) if report.split == VALIDATION), maxlen=1)[0]
