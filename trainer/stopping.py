"""Signals that ask a run to stop: SIGTERM, SIGINT and SIGUSR1 let it save first."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator

_POLL_SECONDS = 0.2
EXIT_CODES = {signal.SIGTERM: 42, signal.SIGUSR1: 42, signal.SIGINT: 130}


class StopRequest:
    """Whether the process has been asked to stop.

    Attributes:
      signal: the first signal that asked; None while none has.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """Ends the process on a signal within this context, while TensorFlow waits for other workers.

    There is nothing to save yet. Python's handlers do not run meanwhile, and TensorFlow puts one of its own, which does
    nothing, in the place of SIGTERM's: so the signals are blocked in this thread and all that it starts, and another
    one waits for them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, EXIT_CODES)
    over = threading.Event()

    def wait() -> None:
        while not over.is_set():
            if (received := signal.sigtimedwait(EXIT_CODES, _POLL_SECONDS)) is not None:
                os._exit(EXIT_CODES[received.si_signo])

    thread = threading.Thread(target=wait, name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, EXIT_CODES)


@contextlib.contextmanager
def listening() -> Iterator[StopRequest]:
    """Notes SIGTERM, SIGINT and SIGUSR1 instead of ending the process; a second SIGINT ends it at once.

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
    handlers = {number: signal.signal(number, lambda number, frame: None) for number in EXIT_CODES}
    threading.Thread(target=_listen, args=(reader, request), name="signals", daemon=True).start()
    try:
        yield request
    finally:
        for number, handler in handlers.items():
            # None: TensorFlow's own, which swallows SIGTERM once several workers have met.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(wakeup)
        writer.close()


def _listen(reader: socket.socket, request: StopRequest) -> None:
    interrupts = 0
    while received := reader.recv(1):
        number = received[0]
        if number not in EXIT_CODES:
            continue
        interrupts += number == signal.SIGINT
        if interrupts == 2:
            os._exit(EXIT_CODES[signal.SIGINT])
        if request.signal is None:
            request.signal = signal.Signals(number)
    reader.close()
