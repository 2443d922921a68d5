"""TensorFlow's profiler over some steps of a run (`--profile=100:105`)."""

import contextlib
import pathlib
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from trainer.common.errors import ConfigError


def boundaries(steps: tuple[int, int] | None, *, first: int, last: int) -> tuple[int, ...]:
    """Returns the boundaries of the profiled steps, at which the loop must stop, in numbers of steps taken.

    The profiler starts at the first and stops at the last; each between them begins another step of the trace.

    Args:
      steps: first and last step to profile, counted from 1; None for none.
      first: number of steps taken when the run starts or resumes.
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
    """Profiles from the first boundary to the last and leaves the trace where TensorBoard looks.

    Args:
      directory: the run's event files.
      boundaries: the boundaries, as the function `boundaries` returns them.
    """

    def __init__(self, directory: pathlib.Path, boundaries: Sequence[int]):
        self._directory, self._boundaries, self._running = directory, boundaries, False

    def at(self, step: int) -> None:
        """Starts the profiler if `step`, the number of steps taken, is the first boundary; stops it at the last."""
        if self._running and step == self._boundaries[-1]:
            self.close()
        elif self._boundaries and step == self._boundaries[0]:
            tf.profiler.experimental.start(str(self._directory))
            self._running = True

    def step(self, step: int) -> contextlib.AbstractContextManager[Any]:
        """A context for the steps after `step`, which are one step of the trace where the profiler is running."""
        if not self._running:
            return contextlib.nullcontext()
        return tf.profiler.experimental.Trace("train", step_num=step + 1, _r=1)

    def close(self) -> None:
        """Stops, where it is running, and writes the trace."""
        if self._running:
            self._running = False
            tf.profiler.experimental.stop()
