"""Trains the runs of a cell one after another in this process, each as an ordinary run."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf
from rich.console import Console

from input_pipelines.sources import catalogue
from trainer.api import process
from trainer.common import trust as trust_lib
from trainer.common.errors import ConfigError, NotPreparedError, StoppedError, text_of
from trainer.common.trust import Trust
from trainer.compare import timing, trials
from trainer.compare.messages import Event, Request, TuningRequest
from trainer.compare.trials import Trial, failure
from trainer.config import loading
from trainer.config.settings import Config
from trainer.distributed import strategy as strategy_lib
from trainer.distributed import usable_gpus
from trainer.output import workdir
from trainer.output.reports import TRAIN
from trainer.run import train as train_lib
from trainer.run.hooks import Hook, HookReport, TrainingRun

Say = Callable[[Event], None]


class Where(NamedTuple):
    """The place in which runs are trained.

    Attributes:
      strategy: of TensorFlow's.
      trust: whose code may be called where the data name it.
      base: the directory that relative paths are in.
    """

    strategy: tf.distribute.Strategy
    trust: Trust
    base: pathlib.Path


class Run(NamedTuple):
    """A run to be trained: its directory, and its resolved configuration, which has its seed."""

    path: str
    config: Config


def serve(request: Request, say: Say) -> None:
    """Does what a request asks for; raises StoppedError where a signal stopped it."""
    try:
        runs = [Run(each.path, loading.resolve(each.config)) for each in request.runs]
        trust = trust_lib.in_packages(request.trust)
        usable_gpus.check(request.strategy, virtual_devices=request.virtual_devices, allow_cpu=request.allow_cpu)
        if request.download:
            catalogue.prepare(runs[0].config.dataset, trust)
        strategy = strategy_lib.build(request.strategy, request.virtual_devices)
    except ConfigError as error:
        say(_refusal(error))
        return
    if request.timed_steps:
        time(runs[0].config, strategy, trust, request.timed_steps, say)
    else:
        where = Where(strategy, trust, workdir.current())
        train(runs if request.tuning is None else _tuned(runs, request.tuning, where, say), where, say)


def train(runs: Sequence[Run], where: Where, say: Say) -> None:
    """Trains runs one after another; what fails is said, and the next one follows.

    Args:
      runs: the runs.
      where: where to train them.
      say: gets what happens.

    Raises:
      StoppedError: a signal stopped a run, which is saved.
    """
    for run in runs:
        seed = run.config.seed
        say(Event("started", seed))
        try:
            _train(run, where, [_reporting(say, seed)])
        except StoppedError:
            raise
        except NotPreparedError as error:
            say(_refusal(error))
            return
        except Exception as error:
            say(Event("failed", seed, reason=failure(error)))
        else:
            say(Event("done", seed))


def time(config: Config, strategy: tf.distribute.Strategy, trust: Trust, steps: int, say: Say) -> None:
    """Times steps of a configuration, and says what was found."""
    try:
        say(Event("timed", values=timing.measure(config, strategy, trust, steps)))
    except Exception as error:
        say(Event("failed", reason=failure(error)))


def _tuned(runs: Sequence[Run], request: TuningRequest, where: Where, say: Say) -> list[Run]:
    """The runs with what tuning chooses, after the trials that are not there yet; none where it cannot choose."""
    from trainer.compare import tuning  # it needs a package of an extra

    config, cell = loading.resolve(request.config), pathlib.Path(request.path)

    def train_trial(config: Config, number: int, hook: Hook) -> None:
        say(Event("started", config.seed, trial=number))
        _train(Run(str(trials.path(cell, number)), config), where, [hook, _reporting(say, config.seed, number)])

    def say_end(trial: Trial) -> None:
        say(Event("done", config.seed, reason=trial.reason and f"{trial.state}, {trial.reason}", trial=trial.number))

    try:
        wanted = tuning.Wanted(request.trials, request.objective)
        chosen = tuning.tune(config, where.base / cell, wanted, train_trial, say_end)
    except StoppedError:
        raise
    except NotPreparedError as error:
        say(_refusal(error))
    except Exception as error:
        for run in runs:
            say(Event("failed", run.config.seed, reason=failure(error)))
    else:
        return [run._replace(config=dataclasses.replace(chosen, seed=run.config.seed)) for run in runs]
    return []


def _train(run: Run, where: Where, hooks: Sequence[Hook]) -> None:
    with process.preserved():
        console = Console(highlight=False)
        train_lib.train(run.config, run.path, where.strategy, console, trust=where.trust, base=where.base, hooks=hooks)


def _reporting(say: Say, seed: int, trial: int | None = None) -> Hook:
    return Hook(functools.partial(_report, say, seed, trial), __name__, {})


def _report(say: Say, seed: int, trial: int | None, run: TrainingRun, step: int, report: HookReport) -> None:
    values: Mapping[str, float | None] = {} if report.split == TRAIN else report.values
    say(Event("report", seed, step, run.steps, report.split, values, trial=trial))


def _refusal(error: ConfigError) -> Event:
    value = None if error.value is ConfigError.ABSENT else text_of(error.value)
    unprepared = isinstance(error, NotPreparedError)
    return Event("refused", reason=error.allowed, field=error.field, value=value, is_unprepared=unprepared)
