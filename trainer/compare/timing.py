"""The time and the memory that the steps of a configuration take, measured by themselves."""

import pathlib
import re
import statistics
from typing import Any

import tensorflow as tf

from trainer.common.trust import Trust
from trainer.config.settings import Config
from trainer.distributed.workers import Workers
from trainer.run import compile_choice, experiment
from trainer.run.timed_steps import TimedSteps

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
      else of the whole process; `device`, "CPU" or "GPU"; `passes`, the backward passes of a step in words.

    Raises:
      ConfigError: the experiment cannot be built.
      RunError: a step failed.
    """
    built = compile_choice.choose(experiment.build(config, strategy, None, trust), Workers(strategy)).built
    taken = TimedSteps(built)
    every = config.combine.update_every
    taken.seconds(every)  # with the trace
    count = min(steps, max(1, round(_SECONDS / taken.seconds(every))))
    seconds = [taken.seconds(-(-count // every) * every) for _ in range(_ROUNDS)]
    device, memory = _memory()
    passes = built.plan.passes(len(config.losses), every)
    return {"seconds_per_step": statistics.median(seconds), "memory": memory, "device": device, "passes": passes}


def _memory() -> tuple[str, int]:
    if tf.config.list_logical_devices("GPU"):
        return "GPU", tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return "CPU", int(_PEAK.search(pathlib.Path("/proc/self/status").read_text())[1]) * 1024
