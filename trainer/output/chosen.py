"""The checkpoint of a run that is asked for: the best one or the last."""

import pathlib
from collections.abc import Callable

from trainer.common.errors import ConfigError
from trainer.output import checkpoint, manifest
from trainer.output.workdir import Workdir

BEST = "best"


def checkpoint_of(workdir: Workdir, *, best: bool, warn: Callable[[str], None]) -> pathlib.Path:
    """Returns the folder of a run's best checkpoint, or of the newest one that is not damaged.

    Args:
      workdir: the run.
      best: whether it is the best one, by the configuration's `best`.
      warn: gets a line for each damaged checkpoint that is newer.

    Raises:
      ConfigError: there is no such checkpoint, or it is damaged.
    """
    newest = checkpoint.newest_good(workdir.checkpoints, warn)
    if newest is None:
        raise ConfigError("--workdir", str(workdir.shown), "holds no checkpoint yet")
    if not best:
        return newest
    state = manifest.read(newest).monitors.get(BEST)
    if state is None or state["step"] is None:
        raise ConfigError(
            "--checkpoint", BEST, "the run keeps no best checkpoint; its configuration's 'best' names a metric"
        )
    folder = checkpoint.folder_of(workdir.checkpoints, state["step"])
    if reason := checkpoint.damage(folder):
        raise ConfigError("--checkpoint", BEST, f"{folder.name} cannot be read: {reason}")
    return folder
