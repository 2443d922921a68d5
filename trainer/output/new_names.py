"""Names of the directories of runs that were given none."""

import datetime
import itertools
import re
from collections.abc import Iterator

from trainer.config.settings import Config

FOLDER = "runs"


def label(name: str, config: Config) -> str:
    """The words by which a run is told from others, for `dated`: a configuration's name and the method."""
    return "_".join(re.sub(r"[^\w.-]+", "-", each, flags=re.ASCII) for each in (name, config.combine.name) if each)


def dated(name: str = "") -> Iterator[str]:
    """Relative paths for a new run, by date, time and `name`; the first that is free is taken."""
    stamp = f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}" + (f"_{name}" if name else "")
    return (f"{FOLDER}/{stamp}{suffix}" for suffix in itertools.chain([""], (f"_{n}" for n in itertools.count(2))))
