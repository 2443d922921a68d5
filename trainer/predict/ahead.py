"""An iterator that works ahead of whoever reads it."""

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
_SECONDS = 0.1  # between looks at whether the reader has gone


def ahead(items: Iterable[Item], size: int = 2) -> Iterator[Item]:
    """Yields items that a thread of their own makes, up to `size` of them before they are asked for.

    What raises there raises here. The thread ends when the reader does.
    """
    made: queue.Queue = queue.Queue(size)
    gone = threading.Event()

    def put(kind: str, value: object) -> bool:
        while not gone.is_set():
            try:
                made.put((kind, value), timeout=_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put("item", item):
                    return
            put("end", None)
        except BaseException as error:  # for the reader, whatever it is
            put("error", error)
        finally:
            if isinstance(items, Generator):  # which may have a thread of its own
                items.close()

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = made.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        gone.set()
        thread.join()
