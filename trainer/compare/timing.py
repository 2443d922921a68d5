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

_ROUNDS = 5
_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")  # not inherited from the process that started this one, as getrusage's is


def measure(config: Config, strategy: tf.distribute.Strategy, trust: Trust, steps: int) -> dict[str, Any]:
    """Takes steps of a configuration and writes nothing.

    Args:
      config: the configuration.
      strategy: where to run.
      trust: whose code may be called where the data name it.
      steps: how many steps a round has; the first round is not counted.

    Returns:
      `seconds_per_step`, the median of the rounds; `memory`, the most bytes at once, of the GPU where there is one,
      else of the whole process; `device`, "CPU" or "GPU".

    Raises:
      ConfigError: the experiment cannot be built.
      RunError: a step failed.
    """
    built = experiment.build(config, strategy, None, trust)
    iterator = iter(built.batches(first_step=0))
    train_steps = built.step.build()
    state, totals = built.step.initial_state(), built.step.initial_totals()
    seconds = []
    for number in range(_ROUNDS + 1):
        start = time.perf_counter()
        for first in range(number * steps, (number + 1) * steps, config.steps_per_loop):
            end = min(first + config.steps_per_loop, (number + 1) * steps)
            state, totals = train_steps(iterator, *loop.arguments(first, end, False), state, totals)
        if failure := built.step.failure(totals):  # which waits for the numbers
            raise failures.error_of(failure, config.combine.name)
        seconds.append((time.perf_counter() - start) / steps)
    device, memory = _memory()
    return {"seconds_per_step": statistics.median(seconds[1:]), "memory": memory, "device": device}


def _memory() -> tuple[str, int]:
    if tf.config.list_logical_devices("GPU"):
        return "GPU", tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return "CPU", int(_PEAK.search(pathlib.Path("/proc/self/status").read_text())[1]) * 1024
