"""A worker's guardian as the launcher sees it: its input, the copies of its output, and how it ended."""

import contextlib
import dataclasses
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from launch import output

SETTLED = 0.5  # seconds; who fails within them may be the cause although another was seen to end before
SSH_FAILED = 255
_GUARDIAN = 5.0  # seconds that a guardian has to end after its worker


@dataclasses.dataclass(frozen=True)
class WorkerStart:
    """The command and the input that start a worker.

    Attributes:
      name: what messages call it.
      command: runs `launch/guardian.py`, here or elsewhere.
      input: the first lines of that program's standard input.
      remote: whether the command is ssh, which has an exit code of its own.
    """

    name: str
    command: Sequence[str]
    input: bytes
    remote: bool = False


class Ended(NamedTuple):
    """The end of a worker with its exit code, 128 + n where signal n killed it."""

    worker: "WorkerProcess"
    code: int


class Unread(NamedTuple):
    """Nobody reads what workers print any more."""


Event = Ended | Unread | signal.Signals


class WorkerProcess:
    """A worker's guardian with the threads that copy the output and wait for the end.

    Attributes:
      name: what messages call it.
    """

    def __init__(self, rank: int, plan: WorkerStart, events: "queue.SimpleQueue[Event]") -> None:
        self.name, self._remote = plan.name, plan.remote
        self._process = subprocess.Popen(
            plan.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        self._write(plan.input)
        prefix = f"[{rank}] ".encode()
        unread = lambda: events.put(Unread())  # noqa: E731
        self._copies = [
            threading.Thread(target=output.copy, args=(source, prefix, target, unread), daemon=True)
            for source, target in ((self._process.stdout, output.OUTPUT), (self._process.stderr, output.ERRORS))
        ]
        self._waiting = threading.Thread(target=self._wait, args=(events,), daemon=True)
        for thread in (*self._copies, self._waiting):
            thread.start()

    def send(self, line: str) -> None:
        """Tells the guardian the name of a signal, or nothing."""
        self._write(f"{line}\n".encode())

    def kill(self) -> None:
        """Lets the guardian kill the worker with all of its processes."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def wait(self) -> None:
        """Waits for the guardian's end, which must follow."""
        self._waiting.join(_GUARDIAN)
        if self._waiting.is_alive():
            self._process.kill()  # its worker dies with it
            self._waiting.join()

    def drain(self, deadline: float) -> None:
        """Waits for the last of the output, once nobody is left who could write more; its reader may be asleep."""
        for thread in self._copies:
            thread.join(max(deadline - time.monotonic(), 0))

    @property
    def lost(self) -> bool:
        """True where the guardian has not reported how the worker ended."""
        code = self._process.returncode
        return code is None or code < 0 or (self._remote and code == SSH_FAILED)

    def _write(self, text: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended, which the thread that waits for it reports
            self._process.stdin.write(text)
            self._process.stdin.flush()

    def _wait(self, events: queue.SimpleQueue) -> None:
        code = self._process.wait()
        for thread in self._copies:
            thread.join(SETTLED)  # what it wrote last comes before what is said of its end
        events.put(Ended(self, code if code >= 0 else 128 - code))
