"""The way in which a run's steps are compiled where `compile: auto` leaves it open."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from rich.console import Console

from trainer.common.errors import ConfigError
from trainer.config import loading
from trainer.config.settings import AUTO, OFF
from trainer.distributed.watchdog import START_SECONDS, Watchdog
from trainer.distributed.workers import Workers
from trainer.output import terminal
from trainer.output import workdir as workdir_lib
from trainer.output.workdir import Workdir
from trainer.run.compile_trial import Trial
from trainer.run.experiment import Experiment
from trainer.step.in_graph_loop import Train

_FASTER = 1.03  # than `off` is a way that is taken in its place


class Choice(NamedTuple):
    """An experiment whose steps are compiled in one way.

    Attributes:
      built: the experiment.
      lines: for the user, on how the way was found.
      train: its in-graph loop, where that is traced already.
    """

    built: Experiment
    lines: tuple[str, ...] = ()
    train: Train | None = None


def of_run(
    built: Experiment, run: Workdir | None, workers: Workers, watchdog: Watchdog, console: Console | None
) -> Choice:
    """The experiment in the way that is configured; with `auto`, that of the run which resumes, or the fastest.

    Args:
      built: the experiment.
      run: on the chief, the directory of a run to resume.
      workers: who takes part; all of them call this.
      watchdog: is notified of what the process does.
      console: where the chief shows it.

    Raises:
      ConfigError: the model draws random numbers, and in this way others than the run; or the loop cannot be traced.
    """
    if built.config.compile == AUTO and (before := _before(run, workers)):
        try:
            return Choice(built.compiled(before), (f"compile: {before}, as before",))
        except ConfigError as error:  # other devices can have other ways
            if built.draws:
                reason = f"resumes a run of {before!r}, which {error.allowed}; and the model draws random numbers"
                raise ConfigError("compile", AUTO, f"{reason}, of which XLA draws others") from error
    elif run and built.draws:
        workdir_lib.refuse_other_draws(run, built.config)
    with terminal.progress(console, show=workers.is_chief) as show:

        def say(doing: str) -> None:
            watchdog.doing(doing, at_least=START_SECONDS)
            show(doing)

        return choose(built, workers, say)


def _before(run: Workdir | None, workers: Workers) -> str:
    """The way in which the run that resumes has been computed, on all workers; empty for a new run."""
    return workers.broadcast_text(loading.load_saved(run.config).compile if run else "")


def choose(built: Experiment, workers: Workers, say: Callable[[str], None] = lambda doing: None) -> Choice:
    """The experiment as it is, or with `auto` in the fastest way, which leaves its variables as they were.

    Args:
      built: the experiment.
      workers: who takes part; all of them call this.
      say: is called with what is being done.

    Raises:
      ConfigError: the loop cannot be traced.
    """
    if built.config.compile != AUTO:
        return Choice(built)
    start = time.monotonic()
    trial = Trial(built, workers, say)
    seconds = trial.seconds()
    if OFF not in seconds:  # the run will say more, and better
        return Choice(built.compiled(OFF), (f"compile: off, as the trial ended early: {trial.against[OFF]}",))
    way = _fastest(seconds)
    lines = [f"compile: {_words(way, seconds)} (found in {time.monotonic() - start:.1f} s)"]
    lines += [f"compile: {each} cannot be taken: {reason}" for each, reason in trial.against.items()]
    chosen = trial.ways[way]
    # Operations that draw from a state of their own would continue with what the trial has left there.
    return Choice(chosen.built, tuple(lines), chosen.steps.train if built.repeatable else None)


def _fastest(seconds: Mapping[str, float]) -> str:
    """The fastest way; `off` where it is nearly as fast."""
    best = min(seconds, key=seconds.__getitem__)
    return best if seconds[best] * _FASTER < seconds[OFF] else OFF


def _words(way: str, seconds: Mapping[str, float]) -> str:
    """The way and its time, beside those of the others."""
    speeds = {each: f"{seconds[OFF] / own:.2g}" for each, own in seconds.items()}
    others = [f"{each} {speed}" for each, speed in speeds.items() if each not in (OFF, way)]
    own, of_off = (f"{1e3 * seconds[each]:.3g}" for each in (way, OFF))
    if way != OFF:
        return "; ".join([f"{way}, {speeds[way]} times as fast as off ({own} against {of_off} ms a step)", *others])
    if others:
        others[0] += " times as fast"
    return "; ".join([f"off, {own} ms a step", *others])
