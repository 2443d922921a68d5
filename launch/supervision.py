"""Workers that live and end together: output with their ranks, signals passed on, the first failure ends all."""

import contextlib
import dataclasses
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

from launch import guardian

PREEMPTED = 42  # a worker's exit code after a signal, when the run is saved
_HEARTBEAT = 5.0  # seconds between two signs of life to the guardians
_GUARDIAN = 5.0  # seconds that a guardian has to end after its worker
_SETTLED = 0.5  # seconds; who fails within them may be the cause although another was seen to end before
_SSH_FAILED = 255
_LONGEST_LINE = 1 << 16
_PASSED_ON = {
    signal.SIGTERM: "TERM",
    signal.SIGUSR1: "USR1",
    signal.SIGINT: "INT",
    signal.SIGHUP: "TERM",  # the terminal is gone; a worker would not listen to it
}
_printing = threading.Lock()


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


@dataclasses.dataclass(frozen=True)
class RoundOutcome:
    """The end of a round of workers.

    Attributes:
      code: the first exit code that is not 0 (128 + n of a death by signal n), or 0.
      seconds: how long the round was.
      lost: whether the end of a worker is not certain: its guardian did not report it.
    """

    code: int
    seconds: float
    lost: bool


class _Ended(NamedTuple):
    worker: "_Worker"
    code: int


class Supervisor:
    """Runs rounds of workers; while it is entered, signals are theirs.

    Attributes:
      stopped: whether a signal has asked for the end.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._events: queue.SimpleQueue[_Ended | signal.Signals] = queue.SimpleQueue()
        self._handlers: dict = {}

    def __enter__(self) -> "Supervisor":
        guardian.adopt_orphans()
        for number in _PASSED_ON:
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup wants it
                note = lambda number, frame: self._events.put(signal.Signals(number))  # noqa: E731
                self._handlers[number] = signal.signal(number, note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def run(self, plans: Sequence[WorkerStart], grace: float) -> RoundOutcome:
        """Starts a worker for each plan, rank by rank, and returns when no process of theirs is left.

        Args:
          plans: the workers.
          grace: seconds that the others have from the first failure until they are killed.
        """
        start = time.monotonic()
        workers: list[_Worker] = []
        try:
            for rank, plan in enumerate(plans):
                workers.append(_Worker(rank, plan, self._events))
            code = self._watch(workers, grace)
        finally:
            for worker in workers:
                worker.kill()
            for worker in workers:
                worker.wait()
            guardian.end_children()  # whom a guardian left that was killed itself
            for worker in workers:
                worker.drain()
        return RoundOutcome(code, time.monotonic() - start, any(worker.lost for worker in workers))

    def pause(self, seconds: float) -> bool:
        """Waits; returns at once, and true, where a signal asks for the end."""
        deadline = time.monotonic() + seconds
        while not self.stopped:
            try:
                event = self._events.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                break
            self.stopped = isinstance(event, signal.Signals)
        return self.stopped

    def _watch(self, workers: Sequence["_Worker"], grace: float) -> int:
        running = set(workers)
        failures: list[_Ended] = []
        name_at = kill_at = float("inf")
        interrupts = 0
        while running:
            now = time.monotonic()
            if name_at < float("inf") and now >= min(name_at, kill_at):
                failures = [_cause(failures)]
                say(f"{_end(failures[0])}; the others have {grace:g} s to end")
                name_at = float("inf")
            if now >= kill_at:
                late = ", ".join(worker.name for worker in workers if worker in running)
                say(f"{late}: not ended {grace:g} s after the first; killed")
                return failures[0].code
            try:
                event = self._events.get(timeout=max(min(name_at, kill_at, now + _HEARTBEAT) - now, 0))
            except queue.Empty:
                for worker in running:
                    worker.send("")
                continue
            if isinstance(event, signal.Signals):
                self.stopped = True
                interrupts += event == signal.SIGINT
                if interrupts > 1:
                    return 128 + signal.SIGINT
                for worker in running:
                    worker.send(_PASSED_ON[event])
            elif event.worker in running:  # not one that was killed in the round before
                running.remove(event.worker)
                if event.code and not failures:
                    name_at, kill_at = time.monotonic() + _SETTLED, time.monotonic() + grace
                if event.code and name_at < float("inf"):
                    failures.append(event)
        if name_at < float("inf"):
            failures = [_cause(failures)]
            say(_end(failures[0]))
        return failures[0].code if failures else 0


class _Worker:
    """A worker's guardian with the threads that copy the output and wait for the end.

    Attributes:
      name: what messages call it.
    """

    def __init__(self, rank: int, plan: WorkerStart, events: queue.SimpleQueue) -> None:
        self.name, self._remote = plan.name, plan.remote
        self._process = subprocess.Popen(
            plan.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        self._write(plan.input)
        prefix = f"[{rank}] ".encode()
        self._copies = [
            threading.Thread(target=_copy, args=(source, prefix, target), daemon=True)
            for source, target in ((self._process.stdout, 1), (self._process.stderr, 2))
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

    def drain(self) -> None:
        """Waits for the last of the output, once nobody is left who could write more."""
        for thread in self._copies:
            thread.join()

    @property
    def lost(self) -> bool:
        """True where the guardian has not reported how the worker ended."""
        code = self._process.returncode
        return code is None or code < 0 or (self._remote and code == _SSH_FAILED)

    def _write(self, text: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended, which the thread that waits for it reports
            self._process.stdin.write(text)
            self._process.stdin.flush()

    def _wait(self, events: queue.SimpleQueue) -> None:
        code = self._process.wait()
        for thread in self._copies:
            thread.join(_SETTLED)  # what it wrote last comes before what is said of its end
        events.put(_Ended(self, code if code >= 0 else 128 - code))


def _end(ended: _Ended) -> str:
    unsure = (
        ", which is also ssh's own when it has no connection" if ended.worker.lost and ended.code == _SSH_FAILED else ""
    )
    return f"{ended.worker.name} {how(ended.code)}{unsure}"


def _cause(failures: Sequence[_Ended]) -> _Ended:
    """Returns the first that a signal killed, which a lost peer cannot cause; else the first of all."""
    return next((ended for ended in failures if _killed_by(ended.code) not in (None, signal.SIGABRT)), failures[0])


def _killed_by(code: int) -> signal.Signals | None:
    with contextlib.suppress(ValueError):
        number = signal.Signals(code - 128)
        return None if number == signal.SIGINT else number  # who catches that ends with the same code by itself
    return None


def how(code: int) -> str:
    """Returns an exit code in words, for a sentence that begins with the worker."""
    if code == PREEMPTED:
        return f"was stopped by a signal (exit code {code})"
    if number := _killed_by(code):
        return f"was killed by {number.name}"
    return f"ended with exit code {code}"


def say(text: str) -> None:
    """Prints a line of the launcher's own among the workers' errors."""
    _print(2, f"workers: {text}\n".encode())


def _copy(source: BinaryIO, prefix: bytes, target: int) -> None:
    reading = True
    while line := source.readline(_LONGEST_LINE):
        if reading and not (reading := _print(target, prefix + line.removesuffix(b"\n") + b"\n")):
            os.kill(os.getpid(), signal.SIGHUP)  # nobody reads, as if the terminal were gone


def _print(target: int, line: bytes) -> bool:
    with _printing:
        try:
            while line:
                line = line[os.write(target, line) :]
        except OSError:
            return False
    return True
