"""The plan of a comparison in its directory, `comparison.json`, and the paths of what else it leaves there."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from trainer.common import atomic_files, json_text, locks
from trainer.common.errors import ConfigError, first_line, system_reason

NAME = "comparison.json"
FIELD = "--workdir"
_FORMAT = 1
_LONGEST = 24  # characters of a value in a name
_UNSAFE = re.compile(r"[^\w.=,+-]+")  # of a path that TensorFlow may read as a pattern


class InUseError(ConfigError):
    """Another comparison is using the directory."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """Runs that differ in their seed alone.

    Attributes:
      method: the name of the combination method.
      settings: what varies between the cells of a comparison: key of the configuration → value.
      single_task: the only loss that is trained; None: all are.
    """

    method: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    single_task: str | None = None

    @property
    def name(self) -> str:
        """The name by which tables and pictures call it: `pcgrad`, `cagrad c=0.2`, `single_task=ink`."""
        first = self.method if self.single_task is None else f"single_task={self.single_task}"
        own = f"combine.{self.method}."
        return " ".join([first, *(f"{key.removeprefix(own)}={_short(value)}" for key, value in self.settings.items())])

    @property
    def folder(self) -> str:
        """The name of its directory: its own without what a path must not have, and then with some digits of it."""
        plain = self.name.replace(" ", "_")
        safe = _UNSAFE.sub("_", plain)
        return safe if safe == plain and not safe.startswith(".") else f"{safe.strip('_.')}_{_digits(self.name)}"


def _short(value: Any) -> str:
    """The value, or where it is long its beginning with some digits of the whole."""
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}...{_digits(text)}"


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:6]


@dataclasses.dataclass(frozen=True)
class Tuned:
    """The way in which every cell is tuned.

    Attributes:
      trials: of each cell; 0: nothing is tuned.
      objective: what is optimized, as for `objectives.of`.
    """

    trials: int = 0
    objective: str | None = None

    def objective_of(self, cell: Cell) -> str | None:
        """Returns what is optimized in a cell: a loss that is trained alone has its own objective."""
        return self.objective if cell.single_task is None else None


NOT_TUNED = Tuned()


@dataclasses.dataclass(frozen=True)
class Plan:
    """The parts of a comparison.

    Attributes:
      command: the commands that began it and continued it with more, a line for each.
      config: the resolved configuration from which every cell is made, as nested dictionaries.
      cells: its cells, whose names and directories differ.
      seeds: the seeds of each cell's runs.
      tuned: how each cell is tuned before.
    """

    command: str
    config: Mapping[str, Any]
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    tuned: Tuned = NOT_TUNED


def run_path(workdir: pathlib.Path, cell: Cell, seed: int) -> pathlib.Path:
    """Returns the directory of a run."""
    return workdir / cell.folder / f"seed_{seed}"


def log_path(workdir: pathlib.Path, cell: Cell) -> pathlib.Path:
    """Returns the file with what a cell's process prints."""
    return workdir / cell.folder / "log.txt"


def read(workdir: pathlib.Path) -> Plan | None:
    """Reads a comparison's plan; None where there is none. Raises ConfigError where it cannot be read."""
    try:
        tree = json_text.parse((workdir / NAME).read_bytes(), finite=False)
        if tree["format"] != _FORMAT:
            raise ValueError(f"it is of format {tree['format']}, not {_FORMAT}")
        cells = tuple(Cell(**each) for each in tree["cells"])
        return Plan(tree["command"], tree["config"], cells, tuple(tree["seeds"]), Tuned(**tree["tuned"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"holds no readable comparison ({NAME}: {first_line(error)})"
        raise ConfigError(FIELD, str(workdir), reason) from error


def write(workdir: pathlib.Path, plan: Plan) -> None:
    """Writes a comparison's plan; raises OSError where it cannot."""
    tree = {"format": _FORMAT, **dataclasses.asdict(plan)}
    atomic_files.write_whole(workdir / NAME, json.dumps(tree, indent=1) + "\n")


@contextlib.contextmanager
def locked(workdir: pathlib.Path, given: pathlib.Path, *, shared: bool = False) -> Iterator[None]:
    """A context in which no other comparison can use the directory, which is made.

    Args:
      workdir: the directory.
      given: the directory as messages name it.
      shared: whether others that say so, too, can.

    Raises:
      InUseError: another comparison is using it.
      ConfigError: it cannot be used.
    """
    shown = str(given)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        descriptor = atomic_files.open_no_link(workdir / "lock", os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise ConfigError(FIELD, shown, f"cannot be written: {system_reason(error)}") from error
    try:
        if holder := locks.take(descriptor, shared=shared):
            raise InUseError(FIELD, shown, f"another comparison is using it ({holder})")
        yield
    finally:
        os.close(descriptor)


def united(before: Sequence[Any], now: Iterable[Any]) -> tuple[Any, ...]:
    """Returns what was there before, and after it what is new."""
    return (*before, *(each for each in now if each not in before))


class Failures:
    """Why runs of a cell could not be trained, by seed: `failures.json` in its directory.

    Args:
      workdir: the comparison's directory.
      cell: the cell.
    """

    def __init__(self, workdir: pathlib.Path, cell: Cell):
        self._path = workdir / cell.folder / "failures.json"

    def read(self) -> dict[int, str]:
        """Seed → the reason in a line; empty where nothing failed, or the file cannot be read."""
        try:
            return {int(seed): str(reason) for seed, reason in json_text.parse(self._path.read_bytes()).items()}
        except (OSError, ValueError, AttributeError):
            return {}

    def set(self, seed: int, reason: str | None) -> None:
        """Keeps the reason why a run failed; None where it did not."""
        found = self.read()
        if found.get(seed) == reason:
            return
        found[seed] = reason
        kept = {str(seed): reason for seed, reason in found.items() if reason is not None}
        if kept:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            atomic_files.write_whole(self._path, json.dumps(kept, indent=1) + "\n")
        else:
            self._path.unlink(missing_ok=True)
