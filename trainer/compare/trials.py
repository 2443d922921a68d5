"""The trials of a cell and what was chosen: `tuning.json` in its directory. Needs neither TensorFlow nor Optuna."""

import dataclasses
import json
import pathlib
import traceback
from collections.abc import Mapping
from typing import Any

from trainer.common import atomic_files, json_text
from trainer.common.errors import ConfigError, RunError, first_line, with_notes
from trainer.compare import search_space
from trainer.config.settings import Config

NAME = "tuning.json"
COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Trial:
    """A run with some values.

    Attributes:
      number: its number, from 0 on; its directory is `trial_<number>`.
      values: name of a parameter → value.
      state: "complete"; "pruned", ended early because it was worse than the others; or "failed".
      value: of the objective; None unless it is complete.
      reason: why it is not complete, in a line; empty where it is.
    """

    number: int
    values: Mapping[str, Any]
    state: str
    value: float | None
    reason: str


@dataclasses.dataclass(frozen=True)
class Tuning:
    """All trials of a cell so far.

    Attributes:
      objective: what was optimized, in words or as an expression of validation values.
      mode: "min" or "max": whether less or more of it is better.
      seed: of all trials.
      wanted: the number of trials after which one is chosen.
      space: name of a parameter → {"low", "high", "log"} or {"values"}.
      trials: those that have ended, by their numbers.
      chosen: the number of the best one; None while others are to come.
      settings: key of the configuration → the value that was chosen, where it is not the configuration's own.
    """

    objective: str
    mode: str
    seed: int
    wanted: int
    space: Mapping[str, Any]
    trials: tuple[Trial, ...]
    chosen: int | None
    settings: Mapping[str, Any]


def path(cell: pathlib.Path, number: int) -> pathlib.Path:
    """Returns the directory of a trial of a cell."""
    return cell / f"trial_{number}"


def chosen(cell: pathlib.Path, config: Config) -> Config:
    """Returns the configuration with the values that are chosen; as it is where none are, or nothing is tuned."""
    tuning = read(cell)
    if tuning is None or tuning.chosen is None:
        return config
    return search_space.applied(config, tuning.trials[tuning.chosen].values)


def failure(error: Exception) -> str:
    """Returns in a line why a run failed; what is no failure of the trainer's own goes to standard error in full."""
    if isinstance(error, ConfigError | RunError):
        return with_notes(error)
    traceback.print_exception(error)
    return f"{type(error).__name__}: {first_line(error)}"


def write(cell: pathlib.Path, tuning: Tuning) -> None:
    """Writes `tuning.json`; raises OSError where it cannot."""
    atomic_files.write_whole(
        cell / NAME, json.dumps({"format": _FORMAT, **dataclasses.asdict(tuning)}, indent=1) + "\n"
    )


def read(cell: pathlib.Path) -> Tuning | None:
    """Reads `tuning.json`; None where there is none that can be read, since the journal has all that it holds."""
    try:
        tree = json_text.parse((cell / NAME).read_bytes())
        if tree.pop("format") != _FORMAT:
            return None
        return Tuning(**tree | {"trials": tuple(Trial(**each) for each in tree["trials"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
