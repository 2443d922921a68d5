"""The processes that measure."""

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


def start_worker(name: str, torch_python: str, torch_packages: Sequence[str] = ("torch", "torchjd")) -> Worker:
    """The process of a contender's `worker`; raises NotInstalledError where this Python lacks a package of torch's."""
    if name != "torch":
        return tensorflow_worker(_DEVICES[name.removeprefix(KERAS)])
    wanted = "import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, sys.argv[1:])))"
    if subprocess.run([torch_python, "-c", wanted, *torch_packages], check=False).returncode:
        raise NotInstalledError(f"{', '.join(torch_packages)} are not all installed (the extra `benchmark`)")
    return Worker([torch_python, "-m", "tests.benchmarks.torch_worker"], ROOT)


def tensorflow_worker(devices: int, environment: Mapping[str, str] | None = None) -> Worker:
    """Starts a process that measures on this number of logical devices."""
    return Worker([sys.executable, "-m", "tests.benchmarks.tensorflow_worker", str(devices)], ROOT, environment)
