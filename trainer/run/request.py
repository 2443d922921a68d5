"""The request for a run, as far as its configuration does not hold it."""

from collections.abc import Sequence
from typing import NamedTuple

from trainer.run.hooks import Hook


class RunRequest(NamedTuple):
    """A run's name, the command that asks for it, and hooks of the caller's.

    Attributes:
      name: of the configuration, for the name of a new directory; empty: it has none.
      command: the one that asks for the same again, in a new directory; empty: there is none.
      hooks: called after those of the configuration, which does not hold them; the same on all workers.
    """

    name: str = ""
    command: str = ""
    hooks: Sequence[Hook] = ()


NOTHING = RunRequest()
