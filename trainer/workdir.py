"""A run's directory: everything about the run, nothing of another.

config.json      the resolved configuration
metrics.jsonl    one JSON object per report
log.txt          what the terminal showed
tensorboard/     the same reports for TensorBoard, one folder per split
checkpoints/     `step_<number>`, variables of the model and of every optimizer
report.md        the final results; curves.png beside it
"""

import dataclasses
import datetime
import itertools
import os
import pathlib

from trainer.errors import ConfigError, first_line

_FIELD = "--workdir"


@dataclasses.dataclass(frozen=True)
class Workdir:
    """Paths within a run's directory."""

    path: pathlib.Path

    @property
    def config(self) -> pathlib.Path:
        """The resolved configuration."""
        return self.path / "config.json"

    @property
    def metrics(self) -> pathlib.Path:
        """One JSON object per report."""
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> pathlib.Path:
        """What the terminal showed."""
        return self.path / "log.txt"

    @property
    def tensorboard(self) -> pathlib.Path:
        """Event files, one folder per split."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> pathlib.Path:
        """One folder per saved step."""
        return self.path / "checkpoints"

    @property
    def report(self) -> pathlib.Path:
        """The final results."""
        return self.path / "report.md"

    @property
    def curves(self) -> pathlib.Path:
        """The plot of all reports."""
        return self.path / "curves.png"

    @property
    def contents(self) -> tuple[pathlib.Path, ...]:
        """Everything a run writes."""
        return (self.config, self.metrics, self.log, self.tensorboard, self.checkpoints, self.report, self.curves)


def check_free(path: str | None) -> None:
    """Raises ConfigError where a new run cannot be put at `path`; None stands for `create`'s own choice."""
    if path is not None and (not path.strip() or any(character in path for character in "*?[]")):
        # TensorFlow reads checkpoint paths as patterns.
        raise ConfigError(_FIELD, path, "must be a path without any of *?[] that is not empty")
    try:
        _check_target(path)
    except OSError as error:
        raise ConfigError(_FIELD, path, f"cannot be written: {error.strerror}") from error


def _check_target(path: str | None) -> None:
    target = pathlib.Path("runs" if path is None else path)
    if path is not None and Workdir(target).config.exists():
        raise ConfigError(_FIELD, path, "already holds a run; choose another directory, or --mode=eval to evaluate it")
    left = next((entry for entry in Workdir(target).contents if path is not None and entry.exists()), None)
    if left is not None:
        raise ConfigError(_FIELD, path, f"already holds {left.name}; a new run never writes over another's files")
    existing = next(candidate for candidate in (target, *target.absolute().parents) if candidate.exists())
    if not existing.is_dir():
        raise ConfigError(_FIELD, str(target), f"must be a directory, but {existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(_FIELD, str(target), f"cannot be written: no permission in {existing}")


def create(path: str | None) -> Workdir:
    """Makes the directory of a new run.

    Args:
      path: where; None for a new folder under `runs/`, named for the date and time.

    Raises:
      ConfigError: it cannot be made.
    """
    try:
        if path is not None:
            check_free(path)
            pathlib.Path(path).mkdir(parents=True, exist_ok=True)
            return Workdir(pathlib.Path(path))
        return Workdir(_new_dated())
    except OSError as error:
        raise ConfigError(
            _FIELD, path or "runs", f"cannot be written: {error.strerror or first_line(error)}"
        ) from error


def open_run(path: str | None) -> Workdir:
    """The directory of an existing run; raises ConfigError where there is none."""
    if path is None:
        raise ConfigError(_FIELD, ConfigError.ABSENT, "is missing: --mode=eval needs the directory of a run")
    workdir = Workdir(pathlib.Path(path))
    try:
        exists = workdir.config.is_file()
    except OSError:  # a name that no directory can have
        exists = False
    if not exists:
        raise ConfigError(_FIELD, path, "holds no run (it has no config.json)")
    return workdir


def _new_dated() -> pathlib.Path:
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for suffix in itertools.chain([""], (f"_{count}" for count in itertools.count(2))):
        path = pathlib.Path("runs") / f"{stamp}{suffix}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:  # another run started in the same second
            continue
        return path
    raise AssertionError
