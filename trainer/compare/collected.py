"""The runs of a comparison as they are found in its directory, from which all its results are made."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.common import json_text
from trainer.common.errors import ConfigError, first_line
from trainer.compare import plan_file
from trainer.compare.plan_file import Cell, Failures
from trainer.output import records
from trainer.output.records import RunRecord

TIMING = "timing.json"


@dataclasses.dataclass(frozen=True)
class Timing:
    """The time and the memory that a step of a cell takes, measured alone.

    Attributes:
      seconds_per_step: the median; None where it could not be measured.
      memory: the most bytes at once: of the GPU, or of the whole process where there is none; None as above.
      device: "CPU" or "GPU".
      failure: why it could not be measured; None where it was.
      passes: the backward passes of a step in words; empty where they are not known.
    """

    seconds_per_step: float | None
    memory: int | None
    device: str
    failure: str | None = None
    passes: str = ""


@dataclasses.dataclass(frozen=True)
class CellRuns:
    """A cell with its runs.

    Attributes:
      name: the cell's name.
      method: the name of the combination method.
      settings: what varies between the cells: key of the configuration → value.
      single_task: the only loss that is trained; None: all are.
      runs: seed → run, which may not have ended.
      failures: seed → why that run could not be trained (to its end).
      path: the cell's directory; None where its runs come from elsewhere.
    """

    name: str
    method: str
    settings: Mapping[str, Any]
    single_task: str | None
    runs: Mapping[int, RunRecord]
    failures: Mapping[int, str]
    path: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Everything from which a comparison's results are made.

    Attributes:
      workdir: where they go.
      command: the commands that repeat it, a line for each.
      seeds: the seeds of each cell's runs.
      cells: the cells.
      timing: cell's name → its timing; those of all methods, and of `sum`, where they were timed.
    """

    workdir: pathlib.Path
    command: str
    seeds: Sequence[int]
    cells: Sequence[CellRuns]
    timing: Mapping[str, Timing]


def read(workdir: pathlib.Path) -> Comparison:
    """Reads all runs of the comparison in a directory; raises ConfigError where there is none."""
    plan = plan_file.read(workdir)
    if plan is None:
        raise ConfigError(plan_file.FIELD, str(workdir), f"holds no comparison (it has no {plan_file.NAME})")
    cells = [_cell(workdir, cell, plan.seeds) for cell in plan.cells]
    return Comparison(workdir, plan.command, plan.seeds, cells, read_timing(workdir))


def _cell(workdir: pathlib.Path, cell: Cell, seeds: Sequence[int]) -> CellRuns:
    runs, failures = {}, Failures(workdir, cell).read()
    for seed in seeds:
        path = plan_file.run_path(workdir, cell, seed)
        if (path / "config.json").exists():
            try:
                runs[seed] = records.read(path)
            except ConfigError as error:
                failures[seed] = str(error)
    named = (cell.name, cell.method, cell.settings, cell.single_task)
    return CellRuns(*named, runs, failures, workdir / cell.folder)


def read_timing(workdir: pathlib.Path) -> dict[str, Timing]:
    """Cell's name → its timing; empty where nothing was timed. Raises ConfigError where the file cannot be read."""
    try:
        tree = json_text.parse((workdir / TIMING).read_bytes())
        return {name: Timing(**each) for name, each in tree["cells"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"its {TIMING} cannot be read ({first_line(error)}); remove it to measure again"
        raise ConfigError(plan_file.FIELD, str(workdir), reason) from error
