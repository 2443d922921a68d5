"""Messages between workers beside their collectives, so that one that has failed can still say why.

They go through the store of TensorFlow's coordination service, which the chief's server holds: it works when
collectives do not. It has no public name.
"""

import contextlib
import dataclasses
import time

import tensorflow as tf
from tensorflow.python.eager import context


@dataclasses.dataclass(frozen=True)
class Exchange:
    """An exchange of texts between the processes of a run.

    Attributes:
      rank: which of them this is.
      workers: how many there are.
    """

    rank: int = 0
    workers: int = 1

    @property
    def others(self) -> tuple[int, ...]:
        """The ranks of the others."""
        return tuple(rank for rank in range(self.workers) if rank != self.rank)

    def all_gather(self, key: str, text: str, seconds: float) -> dict[int, str]:
        """Gives `text` to all workers and waits for theirs.

        Args:
          key: what it is; used once only.
          text: what this worker has to say.
          seconds: how long to wait for the others.

        Returns:
          Rank → the worker's text, without the workers that gave none in time.
        """
        if not self.others:
            return {self.rank: text}
        end = time.monotonic() + seconds
        _put(f"{key}/{self.rank}", text)
        heard = {rank: _get(f"{key}/{rank}", end - time.monotonic()) for rank in self.others}
        return {self.rank: text} | {rank: given for rank, given in heard.items() if given is not None}

    def silent(self, key: str) -> list[int]:
        """The others that have given nothing under this key yet."""
        return [rank for rank in self.others if _get(f"{key}/{rank}", 0.05) is None]

    def alarm(self, key: str, text: str) -> None:
        """Tells the others, wherever they are, that this worker has failed in what `key` stands for."""
        if self.others:
            _put(f"{key}/alarm", f"worker {self.rank}: {text}")

    def alarmed(self, key: str, seconds: float) -> str | None:
        """Returns the text of another worker's `alarm`; None where none has come after `seconds`."""
        if not self.others:
            time.sleep(seconds)
            return None
        start = time.monotonic()
        heard = _get(f"{key}/alarm", seconds)
        if heard is None:  # it may have failed at once, the chief being gone
            time.sleep(max(0.0, start + seconds - time.monotonic()))
        return heard

    def part(self, seconds: float) -> None:
        """Waits, on the chief, which holds the store, at most `seconds` until the others have read it."""
        if self.rank:
            _put(f"parting/{self.rank}", "")
            return
        end = time.monotonic() + seconds
        for rank in self.others:
            _get(f"parting/{rank}", end - time.monotonic())


def _put(name: str, text: str) -> None:
    with contextlib.suppress(tf.errors.OpError):  # the chief is gone, or another worker was first
        context.context().set_config_key_value(f"selfcheck/{name}", text)


def _get(name: str, seconds: float) -> str | None:
    milliseconds = max(1, round(1000 * seconds))  # 0 would wait for ever
    with contextlib.suppress(tf.errors.OpError):
        return context.context().get_config_key_value(f"selfcheck/{name}", timeout_in_ms=milliseconds)
    return None
