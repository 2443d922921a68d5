"""Processes that measure on request: a line of JSON asks, a line of JSON answers. Needs no other package."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

_LONGEST = 120  # seconds; a process that takes longer over an answer hangs


class WorkerError(Exception):
    """A failure of a worker, in one line."""


class Worker:
    """A process that runs `serve`, idle until it is called.

    Args:
      command: starts the process.
      folder: where.
      environment: variables added to this process's.
    """

    def __init__(self, command: Sequence[str], folder: pathlib.Path, environment: Mapping[str, str] | None = None):
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
            text=True,
        )

    def call(self, function: str, **arguments: Any) -> Any:
        """Calls one of the worker's functions with plain values; raises WorkerError where it fails."""
        with contextlib.suppress(BrokenPipeError):  # it has ended; its answer, which is none, says so
            self._process.stdin.write(json.dumps([function, arguments]) + "\n")
            self._process.stdin.flush()
        timer = threading.Timer(_LONGEST, self._process.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if not line:
            command, code = " ".join(self._process.args), self._process.wait()
            raise WorkerError(f"{command} ended with code {code} in {function}({arguments.get('name', '')})")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer["value"]

    @property
    def alive(self) -> bool:
        """True while the process runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def serve(functions: Mapping[str, Callable[..., Any]]) -> None:
    """Answers calls on standard input until it ends; whatever else is printed goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            answer = {"value": functions[name](**arguments)}
        except Exception as error:  # the process that asks decides what it means
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
        print(json.dumps(answer), file=answers, flush=True)
    os._exit(0)  # threads of a training that waits for its next epoch have nothing to save


def peak_memory() -> int:
    """The largest resident memory that this process has had, in bytes."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):  # unlike getrusage's, not inherited from the process that started this one
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM")
