"""Trains the runs of a cell one after another in this process, each as an ordinary run."""

import functools
import pathlib
import traceback
from collections.abc import Callable, Mapping

import tensorflow as tf
from rich.console import Console

from input_pipelines.sources import catalogue
from trainer.api import process
from trainer.common import trust as trust_lib
from trainer.common.errors import ConfigError, NotPreparedError, RunError, StoppedError, first_line, text_of, with_notes
from trainer.common.trust import Trust
from trainer.compare import timing
from trainer.compare.messages import Event, Request
from trainer.config import loading
from trainer.config.settings import Config
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
    for run, config in zip(request.runs, configs, strict=True):
        say(Event("started", run.seed))
        hook = Hook(functools.partial(_report, say, run.seed), __name__, {})
        try:
            with process.preserved():
                train_lib.train(config, run.path, strategy, console, trust=trust, base=base, hooks=[hook])
        except StoppedError:
            raise
        except NotPreparedError as error:
            say(_refusal(error))
            return
        except Exception as error:
            say(Event("failed", run.seed, reason=_reason(error)))
        else:
            say(Event("done", run.seed))


def _time(config: Config, strategy: tf.distribute.Strategy, trust: Trust, steps: int, say: Say) -> None:
    try:
        say(Event("timed", values=timing.measure(config, strategy, trust, steps)))
    except Exception as error:
        say(Event("failed", reason=_reason(error)))


def _report(say: Say, seed: int, run: TrainingRun, step: int, report: HookReport) -> None:
    values: Mapping[str, float | None] = {} if report.split == TRAIN else report.values
    say(Event("report", seed, step, run.steps, report.split, values))


def _reason(error: Exception) -> str:
    if isinstance(error, ConfigError | RunError):
        return with_notes(error)
    traceback.print_exception(error)  # to the log
    return f"{type(error).__name__}: {first_line(error)}"


def _refusal(error: ConfigError) -> Event:
    value = None if error.value is ConfigError.ABSENT else text_of(error.value)
    unprepared = isinstance(error, NotPreparedError)
    return Event("refused", reason=error.allowed, field=error.field, value=value, is_unprepared=unprepared)
