"""The end of a program by an interrupt (Ctrl-C) while it has nothing to save: one line and exit code 130.

Imports are no place to raise anything: libraries make other errors of it, or print and forget it.
"""

import contextlib
import os
import signal
from collections.abc import Iterator

EXIT_CODE = 130


class _End:
    """A handler that ends the process, with a line on a descriptor that shows it."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor

    def __call__(self, number: int, frame: object) -> None:
        with contextlib.suppress(OSError):
            os.write(self._descriptor, b"error: interrupted\n")
        os._exit(EXIT_CODE)


def end_at_once() -> None:
    """Makes an interrupt end the process at once, unless something else was to become of it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _End(2))


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Makes an interrupt a KeyboardInterrupt within this context, where `end_at_once` was called before."""
    before = signal.getsignal(signal.SIGINT)
    if not isinstance(before, _End):
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def ending_at_once(descriptor: int) -> Iterator[None]:
    """Makes an interrupt end the process at once within this context; `descriptor` shows the line.

    The handler that was there before is there again afterwards, whatever the code within has done. Outside the main
    thread, and where interrupts are ignored, this does nothing.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        if before in (signal.SIG_IGN, None):
            raise ValueError
        signal.signal(signal.SIGINT, _End(descriptor))
    except ValueError:  # also of another thread, which gets no signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
