"""A thread that ends the process when it makes no progress: in a collective, a worker waits for a hung one for ever."""

import contextlib
import faulthandler
import os
import pathlib
import sys
import threading
from collections.abc import Iterator

from trainer.common import atomic_files

EXIT_CODE = 1
START_SECONDS = 1800  # schedulers start some workers long before others, and data may take their time
_LATER = 10  # seconds


class Watchdog:
    """Notes what the process is doing, and since when.

    Args:
      seconds: how long it may take over one thing; None: for ever.
      name: the process's name, for its message.
    """

    def __init__(self, seconds: int | None, name: str):
        self._seconds, self._name = seconds, name
        self._doing, self._waited, self._limit = "", 0, 0
        self._ended = threading.Event()
        self.log: pathlib.Path | None = None

    def doing(self, what: str, at_least: int = 0) -> None:
        """Restarts the clock for the next thing that the process does; it may take `at_least` seconds in any case."""
        if self._seconds is not None:
            self._doing, self._waited, self._limit = what, 0, max(self._seconds, at_least)
            # Needs no Python to run, which TensorFlow does not always leave any room for.
            faulthandler.dump_traceback_later(self._limit + _LATER, exit=True, file=sys.__stderr__)

    @contextlib.contextmanager
    def watching(self) -> Iterator["Watchdog"]:
        """Watches the process within this context."""
        if self._seconds is None:
            yield self
            return
        self.doing("meeting the other workers")
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        try:
            yield self
        finally:
            self._ended.set()
            faulthandler.cancel_dump_traceback_later()

    def _watch(self) -> None:
        # Seconds are counted, not measured: while the process itself is stopped, it is not to blame.
        while not self._ended.wait(1):
            self._waited += 1
            if self._waited >= self._limit:
                self._end()

    def _end(self) -> None:
        line = (
            f"error: {self._name}: no progress for {self._limit} s ({self._doing}): this worker or another one "
            "hangs; the stacks of all its threads are above; --hang_timeout is the limit"
        )
        sys.stdout.flush()
        faulthandler.dump_traceback(sys.__stderr__, all_threads=True)
        print(line, file=sys.__stderr__, flush=True)
        if self.log is not None:
            with contextlib.suppress(OSError), atomic_files.open_to_append(self.log) as file:
                faulthandler.dump_traceback(file, all_threads=True)
                file.write(f"{line}\n")
        os._exit(EXIT_CODE)
