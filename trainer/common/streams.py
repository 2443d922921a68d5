"""The standard streams of a program whose reader may go away, and in which code of the user's runs.

Nothing here raises for a stream that cannot be written: what else the program does may matter more than its output.
"""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO


class Output(io.TextIOWrapper):
    """A text stream on a duplicate of a descriptor, which stays open whatever is closed; it takes text of any encoding.

    Once it could not be written it discards what it gets. Closing it does not close it: `sys.stdout.close()` in a
    user's code would take the output of the program with it.

    Args:
      descriptor: what to duplicate.
      like: the stream whose encoding and buffering this one has.

    Attributes:
      failure: why it could not be written; None while it can.
    """

    def __init__(self, descriptor: int, like: TextIO):
        self.failure: OSError | None = None
        super().__init__(
            open(os.dup(descriptor), "wb", buffering=0 if like.write_through else -1),  # noqa: SIM115 (as long as this)
            encoding=like.encoding,
            errors="backslashreplace",
            line_buffering=like.line_buffering,
            write_through=like.write_through,
        )

    def write(self, text: str) -> int:
        """Writes or discards a text."""
        if self.failure is None:
            try:
                return super().write(text)
            except OSError as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Hands everything to the system, or discards it."""
        if self.failure is None:
            try:
                super().flush()
            except OSError as error:
                self._give_up(error)

    def close(self) -> None:
        """Flushes only."""
        self.flush()

    def _give_up(self, error: OSError) -> None:
        self.failure = error
        with contextlib.suppress(OSError):  # what is still in a buffer must not fail again when the process ends
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            super().flush()

    @property
    def is_unread(self) -> bool:
        """True where nobody reads it any more, as after `| head -1`."""
        return self.failure is not None and self.failure.errno == errno.EPIPE


def occupy() -> None:
    """Opens whichever of the descriptors 0, 1 and 2 is closed, on nothing.

    A file that is opened later would get its number, and messages that are meant for the terminal with it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Makes `sys.stdout` and `sys.stderr` an `Output` each, for the time of the context."""
    occupy()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        Output(descriptor, stream or open(os.devnull, "w"))  # noqa: SIM115 (read for its encoding)
        for descriptor, stream in zip((1, 2), before, strict=True)
    )
    mine = sys.stdout, sys.stderr
    try:
        yield
    finally:
        for stream in mine:
            stream.flush()
        occupy()
