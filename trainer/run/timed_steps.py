"""The steps of an experiment, taken to find out how long they take."""

import time
from typing import Any

from trainer.run import failures, loop
from trainer.run.experiment import Experiment


class TimedSteps:
    """The steps of an experiment from the first on, each of which changes the variables as any other does.

    Args:
      built: the experiment.
      source: what they read; by default `Experiment.source`.

    Attributes:
      source: what they read.
      train: the in-graph loop.
    """

    def __init__(self, built: Experiment, source: Any = None):
        self._built, self._step = built, 0
        self.source, self.train = source or built.source(0), built.step.build()
        self._state, self._totals = built.step.initial_state(), built.step.initial_totals()

    def traced(self) -> Any:
        """The concrete function of the loop; takes no step. Raises whatever tracing does."""
        given = loop.arguments(0, 0, False)
        return self.train.get_concrete_function(self.source, *given, self._state, self._totals)

    def seconds(self, count: int) -> float:
        """Takes `count` further steps, `steps_per_loop` in a call, and returns the seconds of one.

        Raises:
          RunError: a step could not be taken.
        """
        start, end = time.perf_counter(), self._step + count
        while self._step < end:
            next_ = min(self._step + self._built.config.steps_per_loop, end)
            given = loop.arguments(self._step, next_, False)
            self._state, self._totals = self.train(self.source, *given, self._state, self._totals)
            self._step = next_
        if failure := self._built.step.failure(self._totals):  # which waits for the numbers
            raise failures.error_of(failure, self._built.config.combine.name)
        return (time.perf_counter() - start) / count
