"""The logger of Weights & Biases."""

import importlib
import uuid
from collections.abc import Mapping
from typing import Any

from trainer.common import atomic_files, import_paths
from trainer.common.errors import ConfigError, first_line
from trainer.run.hooks import TrainingRun

_ID = "wandb_id.txt"  # in the run's directory
_PROJECT = "multi-head-trainer"
_QUIET = {"silent": True, "console": "off"}  # the trainer has a terminal and a log of its own


class WandB:
    """Logs to a run of Weights & Biases, which a resumed run continues.

    Args:
      wandb: the module.
      options: arguments of `wandb.init`, in place of those that it gets otherwise.
    """

    def __init__(self, wandb: Any, options: Mapping[str, Any]):
        self._wandb, self._options, self._run = wandb, options, None

    def start(self, run: TrainingRun) -> None:
        """Starts the run there, or continues it; its files are in `wandb/` of the run's directory."""
        file = run.path / _ID
        if not file.exists():
            atomic_files.write_whole(file, uuid.uuid4().hex[:12] + "\n")
        given = {"project": _PROJECT, "name": run.path.name, "config": run.config, "dir": str(run.path)}
        given |= {"id": file.read_text().strip(), "resume": "allow", **self._options}
        given["settings"] = {**_QUIET, **self._options.get("settings", {})}
        self._run = self._wandb.init(**given)
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")  # values at the end may be of an earlier step

    def write(self, step: int, values: Mapping[str, float | None]) -> None:
        """Logs the values that exist."""
        self._run.log({"step": step, **{name: value for name, value in values.items() if value is not None}})

    def finish(self, result: Any) -> None:
        """Ends the run there: as failed where it was interrupted or failed here."""
        self._run.summary.update({"outcome": result.outcome, "reason": result.reason})
        self._run.finish(exit_code=0 if result.outcome in ("finished", "stopped") else 1)


def build(options: Mapping[str, Any], field: str) -> WandB:
    """The logger with arguments of `wandb.init`.

    Raises:
      ConfigError: the package is not there, or takes no such argument.
    """
    try:
        with import_paths.users_code():
            wandb = importlib.import_module("wandb")
    except import_paths.USER_ERRORS as error:
        reason = f"needs the package of the extra 'wandb', pip install wandb ({first_line(error)})"
        raise ConfigError(f"{field}.name", "wandb", reason) from error
    import_paths.check_arguments(wandb.init, options, field=field)
    return WandB(wandb, options)
