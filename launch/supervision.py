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
class Plan:
    """How a worker is started.

    Attributes:
      name: what messages call it.
      command: runs `launch/guardian.py`, here or elsewhere.
      input: the first lines of that program's standard input.
    """

    name: str
    command: Sequence[str]
    input: bytes


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a round of workers ended.

    Attributes:
      code: the first exit code that is not 0 (128 + n of a death by signal n), or 0.
      seconds: how long the round was.
      lost: whether the end of a worker is not certain: its guardian did not report it.
    """

    code: int
    seconds: float
    lost: bool


class _Ended(NamedTuple):
    rank: int
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

    def run(self, plans: Sequence[Plan], grace: float) -> Outcome:
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
            guardian.end_children()
        return Outcome(code, time.monotonic() - start, any(worker.lost for worker in workers))

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
        running = dict(enumerate(workers))
        code, deadline, interrupts = 0, float("inf"), 0
        while running:
            try:
                event = self._events.get(timeout=max(min(deadline - time.monotonic(), _HEARTBEAT), 0))
            except queue.Empty:
                if time.monotonic() < deadline:
                    for worker in running.values():
                        worker.send("")
                    continue
                late = ", ".join(worker.name for worker in running.values())
                say(f"{late}: not ended {grace:g} s after the first; killed")
                return code
            if isinstance(event, signal.Signals):
                self.stopped = True
                interrupts += event == signal.SIGINT
                if interrupts > 1:
                    return 128 + signal.SIGINT
                for worker in running.values():
                    worker.send(_PASSED_ON[event])
                continue
            ended = running.pop(event.rank)
            if event.code and not code:
                code, deadline = event.code, time.monotonic() + grace
                say(f"{ended.name} {how(code)}" + (f"; the others have {grace:g} s to end" if running else ""))
        return code


class _Worker:
    """A worker's guardian with the threads that copy the output and wait for the end.

    Attributes:
      name: what messages call it.
    """

    def __init__(self, rank: int, plan: Plan, events: queue.SimpleQueue) -> None:
        self.name = plan.name
        self._process = subprocess.Popen(
            plan.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        self._write(plan.input)
        prefix = f"[{rank}] ".encode()
        copies = [
            threading.Thread(target=_copy, args=(source, prefix, target), daemon=True)
            for source, target in ((self._process.stdout, 1), (self._process.stderr, 2))
        ]
        for thread in copies:
            thread.start()
        self._waiting = threading.Thread(target=self._wait, args=(rank, copies, events), daemon=True)
        self._waiting.start()

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
            self._waiting.join(_GUARDIAN)

    @property
    def lost(self) -> bool:
        """Whether the guardian has not said how the worker ended."""
        return (
            self._process.returncode is None or self._process.returncode < 0 or self._process.returncode == _SSH_FAILED
        )

    def _write(self, text: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended, which the thread that waits for it reports
            self._process.stdin.write(text)
            self._process.stdin.flush()

    def _wait(self, rank: int, copies: Sequence[threading.Thread], events: queue.SimpleQueue) -> None:
        code = self._process.wait()
        for thread in copies:
            thread.join(_GUARDIAN)
        events.put(_Ended(rank, code if code >= 0 else 128 - code))


def how(code: int) -> str:
    """What an exit code says, for a sentence that begins with the worker."""
    if code == PREEMPTED:
        return f"was stopped by a signal (exit code {code})"
    with contextlib.suppress(ValueError):
        number = signal.Signals(code - 128)
        if number != signal.SIGINT:  # a program that catches it ends with that code by itself
            return f"was killed by {number.name}"
    return f"ended with exit code {code}"


def say(text: str) -> None:
    """A line of the launcher's own among the workers' errors."""
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
