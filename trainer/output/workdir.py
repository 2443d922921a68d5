"""A run's directory: everything about the run, nothing of another.

config.json      the resolved configuration, and the format of everything else
data.json        what was learned from the training split, and fingerprints of the data
initial_values.json  the variables that began with trained values, where `init_from` names some
metrics.jsonl    one JSON object per report
speed.jsonl      the speed and the memory at each training report, which no resumed run reads
log.txt          what the terminal showed
lock             held by the process that is writing here
tensorboard/     the same reports for TensorBoard, one folder per split
checkpoints/     `step_<number>`, variables of the model and of every optimizer
report.md        the final results; curves.png beside it, and report.html with everything in one page
loggers.json     how far each logger has got the reports, where the run has some
"""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Sequence

from trainer.common import atomic_files, locks
from trainer.common.errors import ConfigError, RunError, system_reason
from trainer.config import initial_values, loading, resuming
from trainer.config.settings import Config
from trainer.output import new_names

_FIELD = "--workdir"


@dataclasses.dataclass(frozen=True)
class Workdir:
    """Paths within a run's directory.

    Attributes:
      path: the directory.
      descriptor: of the lock, where this process holds it.
      given: the directory as messages name it, where `path` is another way to write it.
    """

    path: pathlib.Path
    descriptor: int | None = dataclasses.field(default=None, compare=False)
    given: pathlib.Path | None = dataclasses.field(default=None, compare=False)

    def release(self) -> None:
        """Gives the lock back."""
        os.close(self.descriptor)

    def refuse_lost(self) -> None:
        """Raises RunError where the directory is no longer the one that this process has locked."""
        if self.descriptor is not None and not atomic_files.is_still_at(self.lock, self.descriptor):
            reason = "was removed, renamed or replaced while the run was writing there; nothing more is written"
            raise RunError(f"--workdir={str(self.shown)!r}: {reason}")

    def absolute(self) -> "Workdir":
        """Returns the same directory, found wherever a user's code goes."""
        return dataclasses.replace(self, path=current() / self.path, given=self.shown)

    @property
    def shown(self) -> pathlib.Path:
        """The directory as messages name it."""
        return self.given or self.path

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
    def initial_values(self) -> pathlib.Path:
        """The variables that began with trained values, and where these were."""
        return self.path / "initial_values.json"

    @property
    def metrics(self) -> pathlib.Path:
        """One JSON object per report."""
        return self.path / "metrics.jsonl"

    @property
    def speed(self) -> pathlib.Path:
        """The speed and the memory at each training report."""
        return self.path / "speed.jsonl"

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
    def page(self) -> pathlib.Path:
        """The final results and all reports as one page."""
        return self.path / "report.html"

    @property
    def curves(self) -> pathlib.Path:
        """The plot of all reports."""
        return self.path / "curves.png"

    @property
    def loggers(self) -> pathlib.Path:
        """The step of the last report that each logger has got, of each split."""
        return self.path / "loggers.json"

    @property
    def contents(self) -> tuple[pathlib.Path, ...]:
        """The files and folders that hold a run's results."""
        records = (self.config, self.data, self.metrics, self.speed, self.log, self.tensorboard)
        return (*records, self.checkpoints, self.report, self.page, self.curves)


def current() -> pathlib.Path:
    """Returns the current directory; one that holds nothing where that is gone."""
    try:
        return pathlib.Path.cwd()
    except OSError:
        return pathlib.Path(".")


def check(path: str | None, config: Config, base: pathlib.Path | None = None) -> None:
    """Raises ConfigError where a run of `config` can neither start nor resume at `path` below `base`.

    None stands for `create`'s own choice. Nothing is written.
    """
    if (held := claim(path, config, base)) is not None:
        held.release()


def claim(path: str | None, config: Config, base: pathlib.Path | None = None) -> Workdir | None:
    """Returns the directory of a run to resume, locked; None where a new run can start at `path`.

    Args:
      path: the directory; None for `create`'s own choice.
      config: the configuration to resume with.
      base: the directory that a relative `path` is in; None for the current one.

    Raises:
      ConfigError: another run is using the directory, its run has another configuration, or it cannot be used; or
        there is nothing where a new run's `init_from` says.
    """
    if path is not None and (not path.strip() or any(character in path for character in "*?[]")):
        # TensorFlow reads checkpoint paths as patterns.
        raise ConfigError(_FIELD, path, "must be a path without any of *?[] that is not empty")
    if path is not None and ("\0" in path or path.encode(errors="ignore").decode() != path):
        raise ConfigError(_FIELD, path, "must be a path of characters that UTF-8 has, which is what TensorFlow reads")
    try:
        if path is not None:
            _refuse_links(_at(path, base))
        if path is None or not _at(path, base).config.exists():
            _check_free(path, base)
            if config.init_from is not None:
                initial_values.refuse_missing(config.init_from.path, base or current())
            return None
        workdir = _at(path, base)
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
        raise ConfigError(_FIELD, str(workdir.shown), _is_another([reason]))


def _is_another(different: Sequence[str]) -> str:
    return f"its run has another configuration: {'; '.join(different)}; choose another directory"


def _refuse_links(workdir: Workdir) -> None:
    others = (workdir.lock, workdir.loggers, workdir.initial_values)
    link = next((entry for entry in (*workdir.contents, *others) if entry.is_symlink()), None)
    if link is not None:
        reason = f"its {link.name} is a symbolic link, which a run never writes through; choose another directory"
        raise ConfigError(_FIELD, str(workdir.shown), reason)


def _at(path: str, base: pathlib.Path | None) -> Workdir:
    return Workdir((base or current()) / path, given=pathlib.Path(path))


def _check_free(path: str | None, base: pathlib.Path | None) -> None:
    target = _at(path or new_names.FOLDER, base)
    left = next(
        (entry for entry in (*target.contents, target.initial_values) if path is not None and entry.exists()), None
    )
    if left is not None:
        raise ConfigError(
            _FIELD, path, f"holds {left.name} but no config.json; a new run never writes over another's files"
        )
    existing = next(each for each in (target.path, *target.path.absolute().parents) if each.exists())
    where = target.shown if existing == target.path else existing
    if not existing.is_dir():
        raise ConfigError(_FIELD, str(target.shown), f"must be a directory, but {where} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(_FIELD, str(target.shown), f"cannot be written: no permission in {where}")


def _lock(workdir: Workdir) -> Workdir:
    """Takes the directory for this process; the system gives it back when the process ends, in whatever way."""
    descriptor = atomic_files.open_no_link(workdir.lock, os.O_RDWR | os.O_CREAT)
    if holder := locks.take(descriptor):
        os.close(descriptor)
        raise ConfigError(_FIELD, str(workdir.shown), f"another run is using it ({holder})")
    return dataclasses.replace(workdir, descriptor=descriptor)


def create(path: str | None, config: Config, base: pathlib.Path | None = None, name: str = "") -> Workdir:
    """Makes and locks the directory of a new run and saves its configuration there.

    Args:
      path: where; None for a new folder under `runs/`, one of `new_names.dated`.
      config: the run's configuration.
      base: the directory that a relative `path` is in; None for the current one.
      name: what a new folder's name says beside the date and time.

    Raises:
      ConfigError: it cannot be made.
      OSError: the configuration cannot be written; a run can still be started there.
    """
    try:
        if path is not None:
            _check_free(path, base)
            _at(path, base).path.mkdir(parents=True, exist_ok=True)
        workdir = _lock(_new_dated(base, name) if path is None else _at(path, base))
    except OSError as error:
        raise ConfigError(_FIELD, path or new_names.FOLDER, f"cannot be written: {system_reason(error)}") from error
    try:
        if workdir.config.exists():
            raise ConfigError(_FIELD, path, "another run has just started there")
        loading.save(config, workdir.config)
    except BaseException:
        workdir.release()
        raise
    return workdir


def open_run(path: str | None) -> Workdir:
    """The directory of an existing run; raises ConfigError where there is none."""
    if path is None:
        raise ConfigError(_FIELD, ConfigError.ABSENT, "is missing: the directory of a run")
    workdir = Workdir(pathlib.Path(path))
    try:
        exists = workdir.config.is_file()
    except OSError:  # a name that no directory can have
        exists = False
    if not exists:
        raise ConfigError(_FIELD, path, "holds no run (it has no config.json)")
    return workdir


def _new_dated(base: pathlib.Path | None, name: str) -> Workdir:
    for path in new_names.dated(name):
        with contextlib.suppress(FileExistsError):  # another run started in the same second
            workdir = _at(path, base)
            workdir.path.mkdir(parents=True)
            return workdir
    raise AssertionError
