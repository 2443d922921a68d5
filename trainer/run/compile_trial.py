"""`compile: auto`: every way to compile takes a few steps, in turn, and the fastest is taken. Nothing else comes of it.

The ways read batches of the trial's own, and the variables get their values back after every call. All workers call
the same functions in the same order, and what follows from a time follows from the chief's.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from trainer.common.errors import ConfigError, LogarithmError, NonFiniteError, RunError, reason_of
from trainer.config.settings import COMPILED, LOOP, OFF
from trainer.distributed.workers import Workers
from trainer.run import failures
from trainer.run.experiment import Experiment
from trainer.run.timed_steps import TimedSteps
from trainer.step.captured import CapturedValues
from trainer.step.gathered import OnDevice

_CALL_SECONDS = 0.2  # of `off`: a call has fewer steps than `steps_per_loop` where they take longer
_SECONDS, _LEAST, _MOST = 1.5, 3, 300  # how long the calls of a way are timed, and how many at least and at most
_SINGLE = 3  # calls of one step by which a way is found far too slow
_COMPILING = "compil"  # in what TensorFlow says where XLA cannot do something, on any worker


class Way(NamedTuple):
    """A way to compile.

    Attributes:
      built: the experiment compiled so.
      steps: its steps.
    """

    built: Experiment
    steps: TimedSteps


class Trial:
    """A trial of all ways.

    Args:
      built: the experiment.
      workers: who takes part.
      say: is called with what is being done.

    Attributes:
      ways: name → the way, of those that can be taken.
      against: name of another → the reason.
    """

    def __init__(self, built: Experiment, workers: Workers, say: Callable[[str], None]):
        self.ways: dict[str, Way] = {}
        self.against: dict[str, str] = {}
        self._built, self._workers, self._say = built, workers, say
        functions = [function for way in COMPILED if (function := self._traced(way)) is not None]
        self._values = CapturedValues(functions)

    def seconds(self) -> dict[str, float]:
        """Returns name → the seconds of a step; nothing where `off` fails, as it will in the run."""
        try:
            return self._seconds()
        finally:
            self._values.restore()

    def _seconds(self) -> dict[str, float]:
        single: dict[str, float] = {}
        count, longest = 1, 0.0
        for way in (*self.ways,):
            self._say(f"compile: trying {way!r}")
            # The first call also prepares what later ones use.
            if self._take(way, 1) is None or (own := self._single(way, longest / count)) is None:
                if way == OFF:
                    return {}
                continue
            single[way] = own
            if way == OFF:
                count = self._count(own)
                longest = max(_SECONDS, _LEAST * count * own)  # of a call: as long as all calls of `off` together
        running = [way for way, own in single.items() if own * count <= longest]
        found = single | self._in_turn(running, count)
        return {way: found[way] for way in self.ways}

    def _traced(self, way: str) -> tf.types.experimental.ConcreteFunction | None:
        """The loop of a way, where it can be traced; with `off` raises the reason why it cannot."""
        self._say(f"compile: preparing {way!r}")
        function, reason = None, ""
        try:
            with failures.tracing():
                compiled = self._built.compiled(way)
                steps = TimedSteps(compiled, self._source(way))
                function = steps.traced()
        except ConfigError as error:
            if way == OFF:
                raise
            reason = f"it {error.allowed}" if error.field == "compile" else str(error)
            reason = reason.partition("; ")[0]  # what follows is for somebody who wants this way
        if reason := self._workers.first_text(reason):
            self.against[way] = reason
            return None
        self.ways[way] = Way(compiled, steps)
        return function

    def _source(self, way: str) -> Any:
        """The source of batches that another way reads, where this one can; so that data are on the device once."""
        found = self.ways[OFF].steps.source if OFF in self.ways else None
        return None if way == LOOP and not isinstance(found, OnDevice) else found

    def _take(self, way: str, count: int) -> float | None:
        """Takes steps; returns the chief's seconds of one, None where they cannot be taken.

        Raises:
          RunError: one of several workers alone cannot take them.
        """
        self._values.restore()
        own, reason = math.inf, ""
        try:
            with self._workers.watched():
                own = self.ways[way].steps.seconds(count)
        except (NonFiniteError, LogarithmError, tf.errors.OpError) as error:
            reason = reason_of(error) or type(error).__name__
            if self._workers.count > 1 and isinstance(error, tf.errors.OpError) and _COMPILING not in str(error):
                # The others may wait for this one in the step.
                raise RunError(f"a step with compile={way!r} failed in the trial: {reason}") from error
        if reason := self._workers.first_text(reason):
            self.against[way] = reason
            del self.ways[way]
            return None
        return float(self._workers.broadcast([tf.constant(own, tf.float64)])[0])

    def _single(self, way: str, enough: float) -> float | None:
        """The seconds of a step that is taken alone, the least of a few: until it is at most `enough`, or a while."""
        found: list[float] = []
        while len(found) < _SINGLE and sum(found) < _SECONDS and min(found, default=math.inf) > enough:
            if (own := self._take(way, 1)) is None:
                return None
            found.append(own)
        return min(found)

    def _count(self, single: float) -> int:
        """The number of steps of a call: that of most calls of the run, unless they take too long."""
        config, timeline = self._built.config, self._built.timeline
        count = min(config.steps_per_loop, timeline.steps, *self._built.intervals, int(_CALL_SECONDS / single))
        # As many of them find coefficients as of any other.
        return max(1, count - count % config.combine.update_every)

    def _in_turn(self, running: list[str], count: int) -> dict[str, float]:
        """Name → the least of calls that ways take in turn: whatever else the machine does makes them longer."""
        times: dict[str, list[float]] = {way: [] for way in running}
        while running:
            for way in (*running,):
                self._say(f"compile: timing {way!r}")
                if (own := self._take(way, count)) is None:
                    running.remove(way)
                    times.pop(way)
                    continue
                times[way].append(own)
            running = [way for way in running if not _is_enough(times[way], count)]
        return {way: min(own) for way, own in times.items()}


def _is_enough(times: list[float], count: int) -> bool:
    """True where a way needs no further calls, each of `count` steps that took these seconds."""
    return len(times) >= _LEAST and (len(times) >= _MOST or sum(times) * count >= _SECONDS)
