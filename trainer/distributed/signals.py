"""Signals that ask a run to stop: SIGTERM, SIGINT and SIGUSR1 let it save first."""

import contextlib
import contextvars
import os
import signal
import socket
import threading
from collections.abc import Iterator

from trainer.common.errors import StoppedError

EXIT_CODES = {signal.SIGTERM: 42, signal.SIGUSR1: 42, signal.SIGINT: 130}


class StopRequest:
    """The first signal that asked the process to stop, if one has.

    Attributes:
      signal: the first signal that asked; None while none has.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None


def hold() -> None:
    """Holds signals back until `ending_at_once` or `listening`; call it before anything starts a thread.

    Every thread inherits this. While TensorFlow lets workers meet, Python's handlers do not run, and TensorFlow
    replaces that of SIGTERM by one that does nothing.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, EXIT_CODES)


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """A signal within this context, or held back before it, raises a StoppedError: there is nothing to save yet."""

    def stop(number: int, frame: object) -> None:
        raise StoppedError(128 + number)  # as if nothing had caught it: 42 means that the run is saved

    for number in EXIT_CODES:
        signal.signal(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, EXIT_CODES)
    yield
    hold()


_ends_process = contextvars.ContextVar("ends_process", default=True)


@contextlib.contextmanager
def staying() -> Iterator[None]:
    """A context in which a second SIGINT does not end the process, which has more to do than the run (a notebook's)."""
    token = _ends_process.set(False)
    try:
        yield
    finally:
        _ends_process.reset(token)


@contextlib.contextmanager
def listening() -> Iterator[StopRequest]:
    """Notes SIGTERM, SIGINT and SIGUSR1 instead of ending the process; a second SIGINT ends it at once.

    Where the process is to stay (`staying`), a second SIGINT raises KeyboardInterrupt.

    Python runs signal handlers between its own instructions only, never during TensorFlow's in-graph loop; a thread
    that the system wakes directly sees them at once. Outside the main thread, where Python has no signals, this does
    nothing.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    ends_process = _ends_process.get()
    handle = _nothing if ends_process else _Second()
    handlers = {number: signal.signal(number, handle) for number in EXIT_CODES}
    threading.Thread(target=_listen, args=(reader, request, ends_process), name="signals", daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, EXIT_CODES)
    try:
        yield request
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        writer.close()


def _nothing(number: int, frame: object) -> None:
    """The thread that listens has noted the signal."""


class _Second:
    """A handler that raises a second SIGINT."""

    def __init__(self) -> None:
        self._interrupts = 0

    def __call__(self, number: int, frame: object) -> None:
        self._interrupts += number == signal.SIGINT
        if self._interrupts == 2:
            raise KeyboardInterrupt


def _listen(reader: socket.socket, request: StopRequest, ends_process: bool) -> None:
    interrupts = 0
    while received := reader.recv(1):
        number = received[0]
        if number not in EXIT_CODES:
            continue
        interrupts += number == signal.SIGINT
        if interrupts == 2 and ends_process:
            os._exit(EXIT_CODES[signal.SIGINT])
        if request.signal is None:
            request.signal = signal.Signals(number)
    reader.close()
