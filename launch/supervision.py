"""Workers that live and end together: output with their ranks, signals passed on, the first failure ends all."""

import contextlib
import dataclasses
import queue
import signal
import time
from collections.abc import Sequence

from launch import guardian
from launch.output import say
from launch.worker_process import SETTLED, SSH_FAILED, Ended, Event, Unread, WorkerProcess, WorkerStart

PREEMPTED = 42  # a worker's exit code after a signal, when the run is saved
_HEARTBEAT = 5.0  # seconds between two signs of life to the guardians
_LAST_OUTPUT = 10.0  # seconds that a reader has for what is left, once all have ended
_LOOK = 1.0  # seconds between two looks at who is stopped, after a failure
_PASSED_ON = {
    signal.SIGTERM: "TERM",
    signal.SIGUSR1: "USR1",
    signal.SIGINT: "INT",
    signal.SIGHUP: "TERM",  # the terminal is gone; a worker would not listen to it
}


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


class Supervisor:
    """Runs rounds of workers; while it is entered, signals are theirs.

    Attributes:
      stopped: whether a signal, or the loss of the output's reader, has asked for the end.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
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

    def run(self, plans: Sequence[WorkerStart], grace: float, stop_timeout: float) -> RoundOutcome:
        """Starts a worker for each plan, rank by rank, and returns when no process of theirs is left.

        Args:
          plans: the workers.
          grace: seconds that the others have from the first failure until they are killed.
          stop_timeout: seconds that all have from the first signal until they are killed.
        """
        start = time.monotonic()
        workers: list[WorkerProcess] = []
        try:
            for rank, plan in enumerate(plans):
                workers.append(WorkerProcess(rank, plan, self._events))
            code = self._watch(_Round(workers, grace, stop_timeout))
        finally:
            for worker in workers:
                worker.kill()
            for worker in workers:
                worker.wait()
            guardian.end_children()  # whom a guardian left that was killed itself
            deadline = time.monotonic() + _LAST_OUTPUT
            for worker in workers:
                worker.drain(deadline)
        return RoundOutcome(code, time.monotonic() - start, any(worker.lost for worker in workers))

    def pause(self, seconds: float) -> bool:
        """Waits; returns at once, and true, where a signal asks for the end."""
        deadline = time.monotonic() + seconds
        while not self.stopped:
            try:
                event = self._events.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                break
            self.stopped = not isinstance(event, Ended)
        return self.stopped

    def _watch(self, round_: "_Round") -> int:
        while round_.running:
            if (code := round_.overdue()) is not None:
                return code
            try:
                event = self._events.get(timeout=round_.until_next())
            except queue.Empty:
                round_.look()
                continue
            if isinstance(event, Ended):
                round_.end(event)
                continue
            self.stopped = True
            if round_.stop(event):
                return 128 + signal.SIGINT
        return round_.code()


class _Round:
    """The workers of one start: who still runs, who has failed, and until when the others may take.

    Attributes:
      running: the workers that have not ended.
    """

    def __init__(self, workers: Sequence[WorkerProcess], grace: float, stop_timeout: float) -> None:
        self.running = list(workers)
        self._grace, self._stop_timeout = grace, stop_timeout
        self._failures: list[Ended] = []
        self._is_named = False
        self._name_at = self._kill_at = self._stop_by = float("inf")
        self._cause_of_stop = ""
        self._interrupts = 0

    def until_next(self) -> float:
        """Seconds until something is due, at most until the next sign of life."""
        now = time.monotonic()
        next_look = now + (_LOOK if self._is_named else _HEARTBEAT)
        return max(min(self._name_at, self._kill_at, self._stop_by, next_look) - now, 0)

    def overdue(self) -> int | None:
        """Names the first failure once that is certain; returns the exit code where the workers' time is over."""
        now = time.monotonic()
        if self._failures and not self._is_named and now >= min(self._name_at, self._kill_at):
            self._name(f"; the others have {self._grace:g} s to end")
            self.look()
        if now >= self._kill_at:
            say(f"{self._late()}: not ended {self._grace:g} s after the first; killed")
            return self.code()
        if now >= self._stop_by:
            say(f"{self._late()}: not ended {self._stop_timeout:g} s after {self._cause_of_stop}; killed")
            return self._failures[0].code if self._failures else 128 + signal.SIGKILL
        return None

    def look(self) -> None:
        """Gives all a sign of life; after a failure those are killed that are stopped: they cannot end in time."""
        for worker in self.running:
            worker.send(guardian.END_IF_STOPPED if self._is_named else "")

    def end(self, event: Ended) -> None:
        """Notes that a worker has ended."""
        if event.worker not in self.running:  # one that was killed in the round before
            return
        self.running.remove(event.worker)
        if event.code and not self._failures:
            self._name_at, self._kill_at = time.monotonic() + SETTLED, time.monotonic() + self._grace
        if event.code and not self._is_named:
            self._failures.append(event)

    def stop(self, event: signal.Signals | Unread) -> bool:
        """Passes on what asks for the end; returns whether it asks for that at once."""
        if self._stop_by == float("inf"):
            self._stop_by = time.monotonic() + self._stop_timeout
            self._cause_of_stop = "nobody read the output" if isinstance(event, Unread) else event.name
        elif isinstance(event, Unread):
            return False  # each worker's output says so
        self._interrupts += event == signal.SIGINT
        if self._interrupts > 1:
            return True
        if isinstance(event, Unread):
            say("nobody reads the output any more; the workers are told to end")
        for worker in self.running:
            worker.send("TERM" if isinstance(event, Unread) else _PASSED_ON[event])
        return False

    def code(self) -> int:
        """The exit code of all of them, after the first failure was named."""
        if self._failures and not self._is_named:
            self._name()
        return self._failures[0].code if self._failures else 0

    def _name(self, what_follows: str = "") -> None:
        self._failures = [_cause(self._failures)]
        say(f"{_end(self._failures[0])}{what_follows}")
        self._is_named, self._name_at = True, float("inf")

    def _late(self) -> str:
        return ", ".join(worker.name for worker in self.running)


def _end(ended: Ended) -> str:
    unsure = (
        ", which is also ssh's own when it has no connection" if ended.worker.lost and ended.code == SSH_FAILED else ""
    )
    return f"{ended.worker.name} {how(ended.code)}{unsure}"


def _cause(failures: Sequence[Ended]) -> Ended:
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
