"""The checkpoint of a run that is asked for: the best one or the last."""

import pathlib
from collections.abc import Callable

from trainer.common.errors import ConfigError
from trainer.output import checkpoint, manifest
from trainer.output.workdir import Workdir

BEST = "best"
_TRIES = 5  # a run that is training saves less often than its newest checkpoint is read


def checkpoint_of(workdir: Workdir, *, best: bool, warn: Callable[[str], None]) -> pathlib.Path:
    """Returns the folder of a run's best checkpoint, or of the newest one that is not damaged.

    Args:
      workdir: the run, which may be training meanwhile.
      best: whether it is the best one, by the configuration's `best`.
      warn: gets a line for each damaged checkpoint that is newer.

    Raises:
      ConfigError: there is no such checkpoint, or it is damaged.
    """
    newest = _newest(workdir, warn)
    if not best:
        return newest
    folder = _best(workdir, newest, warn)
    if folder is None:
        raise ConfigError(
            "--checkpoint", BEST, "the run keeps no best checkpoint; its configuration's 'best' names a metric"
        )
    return folder


def best_or_newest(workdir: Workdir, warn: Callable[[str], None]) -> pathlib.Path:
    """Returns the folder of a run's best checkpoint where it keeps one, else of the newest; raises as above."""
    newest = _newest(workdir, warn)
    return _best(workdir, newest, warn) or newest


def _newest(workdir: Workdir, warn: Callable[[str], None]) -> pathlib.Path:
    newest = checkpoint.newest_good(workdir.checkpoints, warn)
    if newest is None:
        raise ConfigError("--workdir", str(workdir.shown), "holds no checkpoint yet")
    return newest


def _best(workdir: Workdir, newest: pathlib.Path, warn: Callable[[str], None]) -> pathlib.Path | None:
    """The folder of the best checkpoint, which the newest one names; None where the run keeps none."""
    for _ in range(_TRIES):
        state = manifest.read(newest).monitors.get(BEST)
        if state is None or state["step"] is None:
            return None
        folder = checkpoint.folder_of(workdir.checkpoints, state["step"])
        if folder.exists():  # else a better one has taken its place meanwhile
            break
        newest = _newest(workdir, warn)
    if reason := checkpoint.damage(folder):
        raise ConfigError("--checkpoint", BEST, f"{folder.name} cannot be read: {reason}")
    return folder
