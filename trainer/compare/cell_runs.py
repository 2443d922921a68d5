"""Trains the runs of a cell one after another in this process, each as an ordinary run."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence

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
from trainer.config.settings import AUTO, Config
from trainer.distributed import strategy as strategy_lib
from trainer.distributed import usable_gpus
from trainer.output import workdir
from trainer.output.reports import TRAIN
from trainer.run import train as train_lib
from trainer.run.hooks import Hook, HookReport, TrainingRun

Say = Callable[[Event], None]


def serve(request: Request, say: Say) -> None:
    """Does what a request asks for; raises StoppedError where a signal stopped it."""
    try:
        trust = trust_lib.in_packages(request.trust)
        usable_gpus.check(request.strategy, virtual_devices=request.virtual_devices, allow_cpu=request.allow_cpu)
        if request.download:
            catalogue.prepare(loading.resolve(request.runs[0].config).dataset, trust)
        strategy = strategy_lib.build(request.strategy, request.virtual_devices)
    except ConfigError as error:
        say(_refusal(error))
        return
    work(request, strategy, trust, workdir.current(), Console(highlight=False), say)


def work(
    request: Request,
    strategy: tf.distribute.Strategy,
    trust: Trust,
    base: pathlib.Path,
    console: Console,
    say: Say,
) -> None:
    """Trains runs one after another, or times the first; what fails is said, and the next one follows.

    Args:
      request: the runs.
      strategy: where to run.
      trust: whose code may be called where the data name it.
      base: the directory that relative paths are in.
      console: where each run shows its progress.
      say: gets what happens.

    Raises:
      StoppedError: a signal stopped a run, which is saved.
    """
    configs = [loading.resolve(each.config) for each in request.runs]
    if request.timed_steps:
        _time(configs[0], strategy, trust, request.timed_steps, say)
        return

    way = AUTO

    def train(config: Config, path: str, hooks: Sequence[Hook]) -> None:
        nonlocal way
        saved, is_open = base / path / "config.json", config.compile == AUTO
        if is_open and not saved.exists():
            config = dataclasses.replace(config, compile=way)
        with process.preserved():
            train_lib.train(config, path, strategy, console, trust=trust, base=base, hooks=hooks)
        if is_open and way == AUTO:
            way = loading.load_saved(saved).compile  # for all further runs of the cell

    if request.tuning is not None:
        configs = _tuned(configs, request.tuning, train, base, say)
    for run, config in zip(request.runs, configs, strict=False):  # of those that have one
        say(Event("started", run.seed))
        try:
            train(config, run.path, [_reporting(say, run.seed)])
        except StoppedError:
            raise
        except NotPreparedError as error:
            say(_refusal(error))
            return
        except Exception as error:
            say(Event("failed", run.seed, reason=failure(error)))
        else:
            say(Event("done", run.seed))


def _time(config: Config, strategy: tf.distribute.Strategy, trust: Trust, steps: int, say: Say) -> None:
    try:
        say(Event("timed", values=timing.measure(config, strategy, trust, steps)))
    except Exception as error:
        say(Event("failed", reason=failure(error)))


def _tuned(
    configs: Sequence[Config],
    request: TuningRequest,
    train: Callable[[Config, str, Sequence[Hook]], None],
    base: pathlib.Path,
    say: Say,
) -> list[Config]:
    """The configurations of runs with what tuning chooses, after the trials that are not there yet.

    Returns:
      None of them where nothing can be chosen, which is said.
    """
    from trainer.compare import tuning  # it needs a package of an extra

    config, cell = loading.resolve(request.config), pathlib.Path(request.path)

    def train_trial(config: Config, number: int, hook: Hook) -> None:
        say(Event("started", config.seed, trial=number))
        train(config, str(trials.path(cell, number)), [hook, _reporting(say, config.seed, number)])

    def say_end(trial: Trial) -> None:
        say(Event("done", config.seed, reason=trial.reason and f"{trial.state}, {trial.reason}", trial=trial.number))

    try:
        wanted = tuning.Wanted(request.trials, request.objective)
        chosen = tuning.tune(config, base / cell, wanted, train_trial, say_end)
    except StoppedError:
        raise
    except NotPreparedError as error:
        say(_refusal(error))
    except Exception as error:
        reason = failure(error)
        for each in configs:
            say(Event("failed", each.seed, reason=reason))
    else:
        return [dataclasses.replace(chosen, seed=each.seed) for each in configs]
    return []


def _reporting(say: Say, seed: int, trial: int | None = None) -> Hook:
    return Hook(functools.partial(_report, say, seed, trial), __name__, {})


def _report(say: Say, seed: int, trial: int | None, run: TrainingRun, step: int, report: HookReport) -> None:
    values: Mapping[str, float | None] = {} if report.split == TRAIN else report.values
    say(Event("report", seed, step, run.steps, report.split, values, trial=trial))


def _refusal(error: ConfigError) -> Event:
    value = None if error.value is ConfigError.ABSENT else text_of(error.value)
    unprepared = isinstance(error, NotPreparedError)
    return Event("refused", reason=error.allowed, field=error.field, value=value, is_unprepared=unprepared)
