"""A comparison of runs that are there, of whatever origin: which of them belong together, and how to call them."""

import dataclasses
import glob
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from trainer.combine.registry import METHODS
from trainer.common.errors import ConfigError
from trainer.compare import plan_file
from trainer.compare.collected import CellRuns, Comparison
from trainer.compare.plan_file import Cell
from trainer.config import loading, resuming
from trainer.output import records
from trainer.output.records import RunRecord

FIELD = "--workdirs"
_COMBINE, _METHOD = "combine", "combine.name"
_LONGEST = 60  # characters of a name
_PATTERN = set("*?[")
# Whatever differs between a loss alone and all together.
_OF_LOSSES = ("losses", "metrics", "combine", "best", "early_stopping", "reduce_on_plateau", "reduction", "hooks")


class _Group(NamedTuple):
    """Runs that differ in nothing but their seed: what decides them, and they themselves."""

    fields: Mapping[str, Any]
    runs: dict[int, RunRecord]


def collect(given: Sequence[str], base: pathlib.Path, workdir: pathlib.Path, command: str) -> Comparison:
    """Reads runs and makes cells of those that differ in nothing but their seed and where their data are.

    Args:
      given: directories of runs or of comparisons, or patterns of them.
      base: the directory that relative ones are in.
      workdir: where the results go.
      command: the command that repeats it.

    Raises:
      ConfigError: none is given, one of them holds no run, or two of them are the same run.
    """
    if not given:
        raise ConfigError(FIELD, "", "needs at least one directory of a run or of a comparison")
    groups: dict[str, _Group] = {}
    for path in dict.fromkeys(path for each in given for path in _runs(each, base)):
        record = records.read(path)
        fields = resuming.deciding(loading.load_saved(path / "config.json"))
        group = groups.setdefault(repr(sorted(fields.items())), _Group(fields, {}))
        if record.seed in group.runs:
            reason = f"is the same run as {group.runs[record.seed].path}: configuration and seed are equal"
            raise ConfigError(FIELD, str(path), reason)
        group.runs[record.seed] = record
    found = list(groups.values())
    cells = [
        CellRuns(_name(cell, group), cell.method, cell.settings, cell.single_task, group.runs, {})
        for cell, group in zip(_cells(found), found, strict=True)
    ]
    seeds = sorted({seed for group in found for seed in group.runs})
    return Comparison(workdir, command, seeds, cells, {})


def _runs(given: str, base: pathlib.Path) -> Iterator[pathlib.Path]:
    """The directories of runs that are meant."""
    is_pattern = bool(_PATTERN & set(given))
    paths = sorted(glob.glob(given, root_dir=base)) if is_pattern else [given]
    found = [run for path in paths for run in _within(base / path)]
    if not found and not is_pattern:
        raise ConfigError(FIELD, given, "holds no run (it has no config.json)")
    if not found:
        raise ConfigError(FIELD, given, "is a pattern that no directory of a run matches")
    yield from found


def _within(path: pathlib.Path) -> list[pathlib.Path]:
    if (path / "config.json").is_file():
        return [path]
    plan = plan_file.read(path)
    runs = (plan_file.run_path(path, cell, seed) for cell in (plan.cells if plan else ()) for seed in plan.seeds)
    return [run for run in runs if (run / "config.json").is_file()]


def _cells(groups: Sequence[_Group]) -> list[Cell]:
    """The cell of each group, whose settings are those that tell it from others."""
    losses = [next(iter(group.runs.values())).losses for group in groups]
    most = max(losses, key=len)
    alone = [len(own) == 1 and len(most) > 1 and own[0] in most for own in losses]
    cells = []
    for group, own, is_alone in zip(groups, losses, alone, strict=True):
        method = group.fields[_METHOD]
        rest = [other.fields for other, others in zip(groups, alone, strict=True) if others == is_alone]
        settings = {
            field: value
            for field, value in group.fields.items()
            if not (is_alone and field.partition(".")[0] in _OF_LOSSES)
            and any(other.get(field) != value for other in _comparable(field, method, rest))
        }
        cells.append(Cell(method, settings, own[0] if is_alone else None))
    return cells


def _comparable(field: str, method: str, others: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The configurations in which a field may differ from that of a cell with this method."""
    first, _, rest = field.partition(".")
    if first != _COMBINE:
        return list(others)
    second = rest.partition(".")[0]
    return [other for other in others if other[_METHOD] == method and (second not in METHODS or second == method)]


def _name(cell: Cell, group: _Group) -> str:
    """The cell's name; where it says too much, the method and one of its runs."""
    if len(cell.name) <= _LONGEST:
        return cell.name
    first = dataclasses.replace(cell, settings={}).name
    return f"{first} as {next(iter(group.runs.values())).path}"
