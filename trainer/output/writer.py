"""Writing a run's files on a thread of its own, so that training continues meanwhile."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import tensorflow as tf

from trainer.common.errors import RunError, first_line, system_reason

_MOST_WAITING = 64  # a disk that is slower than the reports holds up training, not memory


class Writer:
    """Calls functions one after another on a thread of its own.

    After one has failed none is called any more: what is on the disk is what was there at the failure. Its error is
    raised where the next function is handed in, by `wait`, or at the end of the context.

    A context manager: at its end everything has been called and the thread is gone. Where the context ends with another
    error, a failure becomes a note of that one.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer")
        self._room = threading.BoundedSemaphore(_MOST_WAITING)
        self._failure: BaseException | None = None
        self._last: Future[None] | None = None

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown()
        if error is None:
            self._raise_failure()
        elif self._failure not in (None, error):
            error.add_note(str(self._failure))

    def submit(self, write: Callable[..., object], *args: object) -> Future[None]:
        """Hands in `write(*args)`, to be called after everything handed in before; waits where too much is waiting.

        Returns:
          A future that is done once `write` was called, or was not because of a failure before it; it holds no result.

        Raises:
          RunError: something handed in before met a disk that is full or cannot be written, or raised it itself.
        """
        self._raise_failure()
        self._room.acquire()
        self._last = self._executor.submit(self._call, write, args)
        return self._last

    def wait(self) -> None:
        """Returns once everything handed in is written; raises as `submit` does."""
        if self._last is not None:
            self._last.result()
        self._raise_failure()

    def _call(self, write: Callable[..., object], args: tuple[object, ...]) -> None:
        try:
            if self._failure is None:
                with disk_errors():
                    write(*args)
        except BaseException as error:
            self._failure = error
        finally:
            self._room.release()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Turns a disk that is full or cannot be written into a RunError."""
    try:
        yield
    except tf.errors.OpError as error:
        raise RunError(f"cannot write: {first_line(error)}") from error  # below it is what TensorFlow was doing
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        raise RunError(f"cannot write{where}: {system_reason(error)}") from error
