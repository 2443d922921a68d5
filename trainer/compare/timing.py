"""The time and the memory that the steps of a configuration take, measured by themselves."""

import pathlib
import re
import statistics
import time
from typing import Any

import tensorflow as tf

from trainer.common.trust import Trust
from trainer.config.settings import Config
from trainer.run import experiment, failures, loop
from trainer.run.experiment import Experiment

_ROUNDS = 5
_SECONDS = 1.0  # of a round
_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")  # not inherited from the process that started this one, as getrusage's is


def measure(config: Config, strategy: tf.distribute.Strategy, trust: Trust, steps: int) -> dict[str, Any]:
    """Takes steps of a configuration and writes nothing.

    Args:
      config: the configuration.
      strategy: where to run.
      trust: whose code may be called where the data name it.
      steps: the most steps of a round, which has fewer where they take longer than a second.

    Returns:
      `seconds_per_step`, the median of five rounds; `memory`, the most bytes at once, of the GPU where there is one,
      else of the whole process; `device`, "CPU" or "GPU".

    Raises:
      ConfigError: the experiment cannot be built.
      RunError: a step failed.
    """
    taken = _Steps(experiment.build(config, strategy, None, trust))
    every = config.combine.update_every
    taken.seconds(every)  # with the trace
    count = min(steps, max(1, round(_SECONDS / taken.seconds(every))))
    seconds = [taken.seconds(-(-count // every) * every) for _ in range(_ROUNDS)]
    device, memory = _memory()
    return {"seconds_per_step": statistics.median(seconds), "memory": memory, "device": device}


class _Steps:
    """The steps of an experiment from the first on."""

    def __init__(self, built: Experiment):
        self._built, self._step = built, 0
        self._source, self._take = built.source(0), built.step.build()
        self._state, self._totals = built.step.initial_state(), built.step.initial_totals()

    def seconds(self, count: int) -> float:
        """Takes `count` further steps, and returns the seconds of one."""
        start, end = time.perf_counter(), self._step + count
        while self._step < end:
            next_ = min(self._step + self._built.config.steps_per_loop, end)
            given = loop.arguments(self._step, next_, False)
            self._state, self._totals = self._take(self._source, *given, self._state, self._totals)
            self._step = next_
        if failure := self._built.step.failure(self._totals):  # which waits for the numbers
            raise failures.error_of(failure, self._built.config.combine.name)
        return (time.perf_counter() - start) / count


def _memory() -> tuple[str, int]:
    if tf.config.list_logical_devices("GPU"):
        return "GPU", tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return "CPU", int(_PEAK.search(pathlib.Path("/proc/self/status").read_text())[1]) * 1024
