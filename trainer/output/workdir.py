"""A run's directory: everything about the run, nothing of another.

config.json      the resolved configuration, and the format of everything else
data.json        what was learned from the training split, and fingerprints of the data
metrics.jsonl    one JSON object per report
log.txt          what the terminal showed
lock             held by the process that is writing here
tensorboard/     the same reports for TensorBoard, one folder per split
checkpoints/     `step_<number>`, variables of the model and of every optimizer
report.md        the final results; curves.png beside it
"""

import dataclasses
import datetime
import fcntl
import itertools
import os
import pathlib
import socket
from collections.abc import Sequence

from trainer.common import atomic_files
from trainer.common.errors import ConfigError, system_reason
from trainer.config import loading, resuming
from trainer.config.settings import Config

_FIELD = "--workdir"


@dataclasses.dataclass(frozen=True)
class Workdir:
    """Paths within a run's directory.

    Attributes:
      path: the directory.
      descriptor: of the lock, where this process holds it.
    """

    path: pathlib.Path
    descriptor: int | None = dataclasses.field(default=None, compare=False)

    def release(self) -> None:
        """Gives the lock back."""
        os.close(self.descriptor)

    @property
    def lock(self) -> pathlib.Path:
        """Locked by the process that is writing here; says which it is."""
        return self.path / "lock"

    @property
    def config(self) -> pathlib.Path:
        """The resolved configuration."""
        return self.path / "config.json"

    @property
    def data(self) -> pathlib.Path:
        """The statistics of the training split, and fingerprints of the data."""
        return self.path / "data.json"

    @property
    def metrics(self) -> pathlib.Path:
        """One JSON object per report."""
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> pathlib.Path:
        """Every line for the user, with the time."""
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
        """The files and folders that hold a run's results."""
        return (
            self.config,
            self.data,
            self.metrics,
            self.log,
            self.tensorboard,
            self.checkpoints,
            self.report,
            self.curves,
        )


def check(path: str | None, config: Config) -> None:
    """Raises ConfigError where a run of `config` can neither start nor resume at `path`.

    None stands for `create`'s own choice. Nothing is written.
    """
    held = claim(path, config)
    if held is not None:
        held.release()


def claim(path: str | None, config: Config) -> Workdir | None:
    """Returns the directory of a run to resume, locked; None where a new run can start at `path`.

    Args:
      path: the directory; None for `create`'s own choice.
      config: the configuration to resume with.

    Raises:
      ConfigError: another run is using the directory, its run has another configuration, or it cannot be used.
    """
    if path is not None and (not path.strip() or any(character in path for character in "*?[]")):
        # TensorFlow reads checkpoint paths as patterns.
        raise ConfigError(_FIELD, path, "must be a path without any of *?[] that is not empty")
    try:
        if path is not None:
            _refuse_links(Workdir(pathlib.Path(path)))
        if path is None or not Workdir(pathlib.Path(path)).config.exists():
            _check_free(path)
            return None
        workdir = Workdir(pathlib.Path(path))
        if reason := _why_not_resumed(workdir, config):  # before the lock, which writes
            raise ConfigError(_FIELD, path, reason)
        return _lock(workdir)
    except OSError as error:
        raise ConfigError(_FIELD, path, f"cannot be written: {system_reason(error)}") from error


def _why_not_resumed(workdir: Workdir, config: Config) -> str | None:
    try:
        different = resuming.differences(loading.load_saved(workdir.config), config)
    except ConfigError as error:
        return error.allowed
    return _is_another(different) if different else None


def refuse_other_draws(workdir: Workdir, config: Config) -> None:
    """Raises ConfigError where a run whose model draws random numbers would draw others when resumed with `config`."""
    reason = resuming.draws_otherwise(loading.load_saved(workdir.config), config)
    if reason is not None:
        raise ConfigError(_FIELD, str(workdir.path), _is_another([reason]))


def _is_another(different: Sequence[str]) -> str:
    return f"its run has another configuration: {'; '.join(different)}; choose another directory"


def _refuse_links(workdir: Workdir) -> None:
    link = next((entry for entry in (*workdir.contents, workdir.lock) if entry.is_symlink()), None)
    if link is not None:
        reason = f"its {link.name} is a symbolic link, which a run never writes through; choose another directory"
        raise ConfigError(_FIELD, str(workdir.path), reason)


def _check_free(path: str | None) -> None:
    target = pathlib.Path("runs" if path is None else path)
    left = next((entry for entry in Workdir(target).contents if path is not None and entry.exists()), None)
    if left is not None:
        raise ConfigError(
            _FIELD, path, f"holds {left.name} but no config.json; a new run never writes over another's files"
        )
    existing = next(candidate for candidate in (target, *target.absolute().parents) if candidate.exists())
    if not existing.is_dir():
        raise ConfigError(_FIELD, str(target), f"must be a directory, but {existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(_FIELD, str(target), f"cannot be written: no permission in {existing}")


def _lock(workdir: Workdir) -> Workdir:
    """Takes the directory for this process; the system gives it back when the process ends, in whatever way."""
    descriptor = atomic_files.open_no_link(workdir.lock, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise ConfigError(_FIELD, str(workdir.path), f"another run is using it ({holder})") from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return dataclasses.replace(workdir, descriptor=descriptor)


def create(path: str | None, config: Config) -> Workdir:
    """Makes and locks the directory of a new run and saves its configuration there.

    Args:
      path: where; None for a new folder under `runs/`, named for the date and time.
      config: the run's configuration.

    Raises:
      ConfigError: it cannot be made.
    """
    try:
        if path is not None:
            _check_free(path)
            pathlib.Path(path).mkdir(parents=True, exist_ok=True)
        workdir = _lock(Workdir(_new_dated() if path is None else pathlib.Path(path)))
        if workdir.config.exists():
            raise ConfigError(_FIELD, path, "another run has just started there")
        loading.save(config, workdir.config)
    except OSError as error:
        raise ConfigError(_FIELD, path or "runs", f"cannot be written: {system_reason(error)}") from error
    return workdir


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
