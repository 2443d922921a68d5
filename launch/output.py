"""Lines of the workers and of the launcher on the launcher's own output, whose reader may be gone or asleep."""

import contextlib
import os
import select
import threading
from collections.abc import Callable
from typing import BinaryIO

OUTPUT, ERRORS = 1, 2
_LONGEST_LINE = 1 << 16
_PATIENCE = 5.0  # seconds that a line of the launcher's own may wait for a reader


def _same() -> bool:
    with contextlib.suppress(OSError):  # one of them is closed
        return os.path.sameopenfile(OUTPUT, ERRORS)
    return False


_both = threading.Lock()
# A line at a time. Where they are two, a reader that sleeps over one does not keep the other.
_printing = {OUTPUT: _both, ERRORS: _both if _same() else threading.Lock()}


def open_all() -> None:
    """Opens what this process was started without: else a pipe of a worker would get the number, and the lines."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= ERRORS:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def say(text: str) -> None:
    """Prints a line of the launcher's own among the workers' errors; not where nobody takes it in some seconds."""
    _print(ERRORS, f"workers: {text}\n".encode(), _PATIENCE)


def copy(source: BinaryIO, prefix: bytes, target: int, unread: Callable[[], None]) -> None:
    """Copies lines, each behind the prefix, to the end of the source; calls `unread` once where nobody reads them."""
    reading = True
    while line := source.readline(_LONGEST_LINE):
        if reading and not (reading := _print(target, prefix + line.removesuffix(b"\n") + b"\n")):
            unread()


def _print(target: int, line: bytes, patience: float | None = None) -> bool:
    """Writes a line; returns false where its reader is gone, or has not taken it in time."""
    lock = _printing[target]
    if not lock.acquire(timeout=-1 if patience is None else patience):
        return False
    try:
        while line:
            # A pipe that is ready takes this much at once, so that only the reader's sleep is waited for here.
            if not select.select([], [target], [], patience)[1]:
                return False
            with contextlib.suppress(BlockingIOError):  # another process has made it so, and has filled it just now
                line = line[os.write(target, line[: select.PIPE_BUF]) :]
    except OSError:
        return False
    finally:
        lock.release()
    return True
