"""The processes that measure."""

import dataclasses
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence

from tests.benchmarks.bounds import NotInstalledError
from tests.benchmarks.workers import Worker

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# What is freed goes back to the system at once, so that the resident memory is the memory in use.
RETURN_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
KERAS = "keras, "  # what the names of Keras' workers begin with
_DEVICES = {"one device": 1, "two devices": 2}  # by worker; Keras has processes of its own


@dataclasses.dataclass(frozen=True)
class Other:
    """The needs of a worker that is none of TensorFlow's.

    Attributes:
      python: the Python that runs it.
      packages: what must be installed there.
    """

    python: str
    packages: Sequence[str]


def start_worker(name: str, others: Mapping[str, Other]) -> Worker:
    """The process of a contender's `worker`; raises NotInstalledError where a Python lacks a package.

    Args:
      name: of the worker: one of `others`, or one of TensorFlow's.
      others: by the worker's name, whose module is `tests.benchmarks.NAME_worker`.
    """
    if name not in others:
        return tensorflow_worker(_DEVICES[name.removeprefix(KERAS)])
    other = others[name]
    wanted = "import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, sys.argv[1:])))"
    if subprocess.run([other.python, "-c", wanted, *other.packages], check=False).returncode:
        raise NotInstalledError(f"{', '.join(other.packages)} are not all installed (the extra `benchmark`)")
    return Worker([other.python, "-m", f"tests.benchmarks.{name}_worker"], ROOT)


def tensorflow_worker(devices: int, environment: Mapping[str, str] | None = None) -> Worker:
    """Starts a process that measures on this number of logical devices."""
    return Worker([sys.executable, "-m", "tests.benchmarks.tensorflow_worker", str(devices)], ROOT, environment)
