"""A real launcher with real workers that train a small problem, and ways to strike them."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping

from launch import plans
from tests import config_files, forked, problems

_MARK = "LAUNCHED_BY_A_TEST"


def write_config(path: pathlib.Path, **changes: object) -> None:
    """A configuration file of `tests.problems`, changed as `problems.tree` does."""
    path.write_text(config_files.text(problems.tree(**changes)))


def train(root: pathlib.Path, directory: pathlib.Path, workers: int, runs: Mapping[str, Mapping]) -> None:
    """Trains runs of `tests.problems` in `directory`, each by its name, one after another by the same workers.

    Their processes need not import TensorFlow; tests of how workers start take `Launched`.
    """
    command = ("tests.properties.worker", str(directory), json.dumps(runs))
    addresses = [f"127.0.0.1:{port}" for port in plans.free_ports(workers)]
    with contextlib.ExitStack() as stack:
        started = []
        for rank in range(workers):
            cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
            variables = {"CUDA_VISIBLE_DEVICES": "", "TF_CONFIG": json.dumps(cluster)}
            started.append(stack.enter_context(forked.started(*command, cwd=root, **variables)))
        ended = [program.wait() for program in started]
    assert not any(each.returncode for each in ended), "".join(each.stdout + each.stderr for each in ended)


class Launched:
    """`python -m launch.workers` with the trainer; a context manager that leaves nothing behind.

    Args:
      root: the project.
      directory: where it runs; holds `config.py`.
      workers: how many.
      launcher: flags of the launcher.
      trainer: flags of the trainer.
      module: runs it.
    """

    def __init__(
        self,
        root: pathlib.Path,
        directory: pathlib.Path,
        workers: int,
        *,
        launcher: tuple[str, ...] = (),
        trainer: tuple[str, ...] = (),
        module: str = "trainer.main",
    ):
        self._mark, self._workers = uuid.uuid4().hex, workers
        environment = os.environ | {"PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": "", _MARK: self._mark}
        environment.pop("TF_CONFIG", None)
        command = [sys.executable, "-m", "launch.workers", f"--workers={workers}", *launcher, "--"]
        command += [sys.executable, "-m", module, "--strategy=multi_worker", "--config=config.py", *trainer]
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.process = subprocess.Popen(command, cwd=directory, env=environment, **pipe)
        self.lines: list[tuple[float, str]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Launched":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        for pid in self.left():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    @property
    def output(self) -> str:
        """Everything that was printed so far."""
        return "\n".join(line for _, line in self.lines)

    def wait_for(self, pattern: str, since: int = 0, limit: float = 120) -> int:
        """Waits for a line from the `since`-th on; returns the number of the one after it."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            over = self.process.poll() is not None and not self._reader.is_alive()
            for number in range(since, len(self.lines)):
                if re.search(pattern, self.lines[number][1]):
                    return number + 1
            assert not over, f"ended with {self.process.returncode} before {pattern!r}:\n{self.output}"
            time.sleep(0.01)
        raise AssertionError(f"no {pattern!r} within {limit} s:\n{self.output}")

    def when(self, pattern: str, since: int = 0) -> float:
        """The moment of the first such line, from the `since`-th on."""
        return self.lines[self.wait_for(pattern, since, limit=0.1) - 1][0]

    def strike(self, number: signal.Signals, ranks: list[int]) -> float:
        """Sends a signal to the workers of these ranks; returns the moment."""
        pids = {rank: pid for pid, rank in self._processes().items() if rank is not None}
        moment = time.monotonic()
        for rank in ranks:
            os.kill(pids[rank], number)
        return moment

    def wait(self, limit: float = 180) -> int:
        """The launcher's exit code, once it has ended."""
        try:
            code = self.process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {limit} s:\n{self.output}") from None
        self._reader.join(timeout=10)
        return code

    def left(self) -> list[int]:
        """Processes of this launch that are there."""
        return list(self._processes())

    def cluster(self) -> dict:
        """TF_CONFIG's cluster and task as the last of the workers has them."""
        (last,) = (pid for pid, rank in self._processes().items() if rank == self._workers - 1)
        return json.loads(_environment(last)["TF_CONFIG"])

    def _processes(self) -> dict[int, int | None]:
        """Process of this launch → its rank; None for the launcher."""
        found = {}
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                environment = _environment(int(folder.name))
            except OSError:
                continue
            if environment.get(_MARK) == self._mark:
                cluster = environment.get("TF_CONFIG")
                found[int(folder.name)] = json.loads(cluster)["task"]["index"] if cluster else None
        return found

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), line.rstrip("\n")))


def _environment(pid: int) -> dict[str, str]:
    variables = pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    return dict(entry.partition("=")[::2] for entry in variables)
