"""The memory of this process and of its GPUs."""

import contextlib
import os
import pathlib
import resource
import sys

import tensorflow as tf

from trainer.output.speed import GPU_MEMORY, MEMORY

_STATISTICS = pathlib.Path("/proc/self/statm")


def used() -> dict[str, float]:
    """The memory in use, in bytes by name.

    Returns:
      `speed/memory`, what of the process is resident (the most so far, where the system does not say how much it is
      now); `speed/gpu_memory/<number>`, the most that TensorFlow has held of each GPU of which it says so.
    """
    found = {MEMORY: _resident()}
    for number, _ in enumerate(tf.config.get_visible_devices("GPU")):
        with contextlib.suppress(ValueError):  # among several workers it is not the only one of this name
            found[f"{GPU_MEMORY}/{number}"] = tf.config.experimental.get_memory_info(f"GPU:{number}")["peak"]
    return found


def _resident() -> int:
    if _STATISTICS.exists():
        return int(_STATISTICS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # in kilobytes elsewhere
