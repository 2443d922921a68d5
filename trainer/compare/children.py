"""Processes that train for this one, one at a time: their start, their events, their end, and signals to them."""

import contextlib
import dataclasses
import os
import pathlib
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

from trainer.common import atomic_files
from trainer.compare.messages import Event, Request
from trainer.distributed import signals

_MODULE = "trainer.compare.cell_process"
_LOOK = 0.2  # seconds until the end of a process is noticed whose own processes hold its descriptors


class Stopping:
    """The signals that asked this process to stop; a context manager, within which they are passed on.

    A second SIGINT kills the process that trains. Outside the main thread, where Python has no signals, it does
    nothing.

    Attributes:
      signal: the first one; None while there was none.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._interrupts = 0
        self._child: subprocess.Popen | None = None
        self._raises = False
        self._handlers: dict = {}

    def __enter__(self) -> "Stopping":
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._pass_on) for number in signals.EXIT_CODES}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def passed_to(self, child: subprocess.Popen) -> Iterator[None]:
        """A context in which signals go to a process, which gets the one that came before, too."""
        self._child = child
        if self.signal is not None:
            child.send_signal(self.signal)
        try:
            yield
        finally:
            self._child = None

    @contextlib.contextmanager
    def raised(self) -> Iterator[None]:
        """A context in which this process trains: a signal that no run listens to raises KeyboardInterrupt."""
        self._raises = True
        try:
            yield
        finally:
            self._raises = False

    def note(self, code: int) -> None:
        """Takes note of the signal that stopped a run of this process, which had its own way to hear it.

        Args:
          code: the exit code that it stands for.
        """
        found = (number for number, own in signals.EXIT_CODES.items() if own == code)
        self.signal = self.signal or next(found, signal.SIGTERM)

    def _pass_on(self, number: int, frame: object) -> None:
        self.signal = self.signal or signal.Signals(number)
        self._interrupts += number == signal.SIGINT
        if self._raises:
            raise KeyboardInterrupt
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGKILL if self._interrupts > 1 else number)


# Request, log, current directory, signals, what takes events → exit code.
Launch = Callable[[Request, pathlib.Path, pathlib.Path, Stopping, Callable[[Event], None]], int]


def run(
    request: Request, log: pathlib.Path, base: pathlib.Path, stopping: Stopping, take: Callable[[Event], None]
) -> int:
    """Lets a process of its own do what is requested, and waits for its end.

    It ends with this process, however that ends.

    Args:
      request: what it does.
      log: gets what it prints, after what there is.
      base: its current directory.
      stopping: signals that are passed on.
      take: gets every event.

    Returns:
      Its exit code; -n where signal n ended it.
    """
    reader, writer = os.pipe()
    with atomic_files.open_to_append(log) as output, open(reader, "rb", buffering=0) as events:
        try:
            child = subprocess.Popen(
                [sys.executable, "-m", _MODULE],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=base,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or str(base) for path in sys.path)},
                pass_fds=[writer],
                start_new_session=True,  # a terminal's interrupt comes to it through this process
            )
        finally:
            os.close(writer)
        try:
            with stopping.passed_to(child):
                line = dataclasses.replace(request, events=writer).to_json() + "\n"
                with contextlib.suppress(BrokenPipeError):  # it has ended
                    child.stdin.write(line.encode())
                    child.stdin.flush()
                for each in _lines(events, child):
                    take(Event.of_json(each))
                return child.wait()
        finally:
            if child.poll() is None:
                _kill(child)
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()


def _lines(events: "os.RawIOBase", child: subprocess.Popen) -> Iterator[bytes]:
    """The whole lines that a process says until it has ended."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(events, selectors.EVENT_READ)
        while True:
            ended = child.poll() is not None  # first: what it said before its end is read below
            if not selector.select(0 if ended else _LOOK):
                if ended:
                    return
                continue
            block = events.read(2**16)
            if not block:
                return
            *lines, rest = (rest + block).split(b"\n")
            yield from lines


def _kill(child: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
