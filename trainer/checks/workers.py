"""What workers tell each other beside their collectives, so that one that has failed can still say why.

It goes through the store of TensorFlow's coordination service, which the chief's server holds: it works when
collectives do not. It has no public name.
"""

import dataclasses
import time

import tensorflow as tf
from tensorflow.python.eager import context


@dataclasses.dataclass(frozen=True)
class Workers:
    """The processes of this run.

    Attributes:
      rank: which of them this is.
      addresses: `host:port` of each; none where there is but this one.
    """

    rank: int = 0
    addresses: tuple[str, ...] = ()

    @property
    def others(self) -> tuple[int, ...]:
        """The ranks of the others."""
        return tuple(rank for rank in range(len(self.addresses)) if rank != self.rank)

    def exchange(self, key: str, text: str, seconds: float) -> dict[int, str]:
        """Gives `text` to all workers.

        Args:
          key: what it is; used once only.
          text: what this worker has to say.
          seconds: how long to wait for the others.

        Returns:
          What every worker gave, by rank; without those of which nothing came.
        """
        if not self.others:
            return {self.rank: text}
        found, end = {self.rank: text}, time.monotonic() + seconds
        try:
            context.context().set_config_key_value(_name(key, self.rank), text)
        except tf.errors.OpError:  # the chief is gone
            return found
        for rank in self.others:
            given = _get(_name(key, rank), end - time.monotonic())
            if given is not None:
                found[rank] = given
        return found

    def part(self, seconds: float) -> None:
        """The chief, which holds the store, waits so long for the others to have read it; the others do not wait."""
        key = "parting"
        if self.rank:
            context.context().set_config_key_value(_name(key, self.rank), "")
            return
        end = time.monotonic() + seconds
        for rank in self.others:
            _get(_name(key, rank), end - time.monotonic())

    def silent(self, key: str) -> list[int]:
        """The others that have given nothing under this key yet."""
        return [rank for rank in self.others if _get(_name(key, rank), 0.1) is None]


def _name(key: str, rank: int) -> str:
    return f"selfcheck/{key}/{rank}"


def _get(name: str, seconds: float) -> str | None:
    try:
        # 0 would wait for ever.
        return context.context().get_config_key_value(name, timeout_in_ms=max(1, round(1000 * seconds)))
    except tf.errors.OpError:
        return None
