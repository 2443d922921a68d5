"""Recording of a run while it lasts: its terminal, its files and its checkpoints."""

import contextlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from rich.console import Console

from trainer.output import checkpoint, manifest, reports, speed, tensorboard, terminal, workdir, writer
from trainer.output.manifest import Manifest
from trainer.output.profiling import Profiler
from trainer.output.reports import Report


class Recorder:
    """Takes the output of a run; a context manager. This one discards it and serves all workers but the chief."""

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def say(self, line: str) -> None:
        """Takes a line for the user."""

    def advance(self, step: int) -> None:
        """Takes note that `step` steps are taken."""

    def profile_at(self, step: int) -> None:
        """Starts or stops the profiler where it is due."""

    def profiled(self, step: int) -> contextlib.AbstractContextManager[Any]:
        """A context for the steps after `step`."""
        del step
        return contextlib.nullcontext()

    def publish(self, report: Report, lap: Report | None = None) -> None:
        """Takes a report, for the terminal and the files; with one of training its speed (`Stopwatch.lap`)."""

    def finish(self, lap: Report) -> None:
        """Takes the speed since the last report, once everything else is written."""

    def show_cosines(self, picture: np.ndarray | None, step: int) -> None:
        """Takes the picture of the cosines between gradients at the end of a run; None: it has none."""

    def save(self, step: int, state: checkpoint.State, best: int | None, monitors: Mapping[str, Any]) -> None:
        """Saves the variables as they are now, and the monitors' state; the checkpoint of step `best` must stay."""

    def wait(self) -> None:
        """Returns once everything is written."""


class Files(Recorder):
    """Writes to the run's directory and shows the run on the terminal.

    The bar and the lines of the terminal stay on the caller's thread, which knows when a step was taken; files are
    written on a thread of their own.

    Args:
      run: the run's directory.
      first: number of steps taken when the run starts or resumes.
      steps: length of the run.
      heads: loss name → head name.
      keep: how many of the last checkpoints stay.
      boundaries: the boundaries of the profiled steps.
      config: the configuration, as nested dictionaries.
      data: SHA-256 of `data.json`.
      damaged: the step up to which the reports in `metrics.jsonl` are damaged; None where none is.
      console: where to show progress; default standard output.
    """

    def __init__(
        self,
        run: workdir.Workdir,
        *,
        first: int,
        steps: int,
        heads: dict[str, str],
        keep: int,
        boundaries: Sequence[int],
        config: Mapping[str, Any],
        data: str,
        damaged: int | None,
        console: Console | None,
    ):
        self._run = run
        self._keep = keep
        self._config, self._data, self._damaged = config, data, damaged
        self._writer = writer.Writer()
        self._terminal = terminal.Terminal(run.log, first, steps, heads, self._writer.submit, console)
        self._lines, self._events = reports.JsonLines(run.metrics), tensorboard.TensorBoard(run.tensorboard)
        self._speed = reports.JsonLines(run.speed)
        self._profiler = Profiler(run.tensorboard, boundaries)
        if first == 0:
            self._writer.submit(self._events.describe, config)
        self._saving: Future[None] | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Files":
        self._stack.enter_context(self._terminal)
        self._stack.enter_context(self._terminal.logging_errors())
        for file in (self._lines, self._events, self._speed):
            self._stack.enter_context(contextlib.closing(file))
        self._stack.enter_context(self._writer)
        self._stack.enter_context(contextlib.closing(self._profiler))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def say(self, line: str) -> None:
        """Shows and logs a line."""
        self._terminal.say(line)

    def advance(self, step: int) -> None:
        """Moves the bar."""
        self._terminal.advance(step)

    def profile_at(self, step: int) -> None:
        """Starts or stops the profiler where it is due."""
        self._profiler.at(step)

    def profiled(self, step: int) -> contextlib.AbstractContextManager[Any]:
        """A context for the steps after `step`, which are one step of the trace where the profiler is running."""
        return self._profiler.step(step)

    def publish(self, report: Report, lap: Report | None = None) -> None:
        """Shows a report and writes it to `metrics.jsonl` and for TensorBoard, its speed to `speed.jsonl`."""
        self._writer.submit(self._run.refuse_lost)
        for file in (self._lines, self._events):
            self._writer.submit(file.write, report)
        if lap is not None:
            for file in (self._speed, self._events):
                self._writer.submit(file.write, lap)
        self._terminal.write(report, lap and lap.values[speed.STEPS_PER_SECOND])

    def finish(self, lap: Report) -> None:
        """Writes the speed since the last report."""
        self._writer.submit(self._speed.write, lap)
        self._writer.wait()

    def show_cosines(self, picture: np.ndarray | None, step: int) -> None:
        """Writes the picture for TensorBoard."""
        if picture is not None:
            self._writer.submit(self._events.show, "cosines between gradients", picture, step)

    def save(self, step: int, state: checkpoint.State, best: int | None, monitors: Mapping[str, Any]) -> None:
        """Takes a snapshot of the variables, to be written while the run continues; removes old checkpoints."""
        if self._saving is not None:
            self._saving.result()  # memory holds one snapshot at most
        self._writer.submit(self._run.refuse_lost)
        self._saving = self._writer.submit(self._write_checkpoint, step, checkpoint.snapshot(state), monitors)
        self._writer.submit(checkpoint.prune, self._run.checkpoints, self._keep, best)

    def wait(self) -> None:
        """Returns once everything is on the disk; raises what went wrong there."""
        self._writer.wait()

    def _write_checkpoint(self, step: int, saved: checkpoint.Snapshot, monitors: Mapping[str, Any]) -> None:
        """Saves a step, on the thread that has just written all reports up to it."""
        written = Manifest(
            self._config, self._data, self._lines.synced(), self._damaged, self._events.synced(), monitors
        )
        checkpoint.save(self._run.checkpoints, step, saved, {manifest.NAME: written.to_json()})
