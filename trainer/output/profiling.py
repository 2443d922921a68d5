"""TensorFlow's profiler over some steps of a run (`--profile=100:105`)."""

import contextlib
import pathlib
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from trainer.common.errors import ConfigError


def marks(steps: tuple[int, int] | None, *, first: int, last: int) -> tuple[int, ...]:
    """The numbers of steps taken at which the profiler starts, marks a step and stops, where the loop must come by.

    Args:
      steps: first and last step to profile, counted from 1; None for none.
      first: number of steps taken when the run starts or goes on.
      last: number of steps of the run.

    Raises:
      ConfigError: the run does not take these steps.
    """
    if steps is None:
        return ()
    if not first < steps[0] <= steps[1] <= last:
        given = f"{steps[0]}:{steps[1]}"
        raise ConfigError("--profile", given, f"must lie within the steps to come, {first + 1} to {last}")
    return tuple(range(steps[0] - 1, steps[1] + 1))


class Profiler:
    """Profiles from the first mark to the last and leaves the trace where TensorBoard looks.

    Args:
      directory: the run's event files.
      marks: as `marks` gives them.
    """

    def __init__(self, directory: pathlib.Path, marks: Sequence[int]):
        self._directory, self._marks, self._running = directory, marks, False

    def at(self, step: int) -> None:
        """Starts or stops where `step` steps are taken and that is a mark."""
        if self._running and step == self._marks[-1]:
            self.close()
        elif self._marks and step == self._marks[0]:
            tf.profiler.experimental.start(str(self._directory))
            self._running = True

    def step(self, step: int) -> contextlib.AbstractContextManager[Any]:
        """A context for the steps after `step`: where it is running, one step of its own in the trace."""
        if not self._running:
            return contextlib.nullcontext()
        return tf.profiler.experimental.Trace("train", step_num=step + 1, _r=1)

    def close(self) -> None:
        """Stops, where it is running, and writes the trace."""
        if self._running:
            self._running = False
            tf.profiler.experimental.stop()
