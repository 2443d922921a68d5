"""A comparison as it is asked for, and whether it can be trained: all that is known before anything is written."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.compare import grid, objectives, plan_file, training, trials
from trainer.compare.grid import Prepared, Variation
from trainer.compare.messages import Request
from trainer.compare.plan_file import NOT_TUNED, Plan, Tuned
from trainer.compare.training import Place
from trainer.config import loading, resuming
from trainer.config.settings import Config
from trainer.output import new_names
from trainer.output import workdir as workdir_lib


@dataclasses.dataclass(frozen=True)
class Asked:
    """A comparison as it is asked for.

    Attributes:
      tree: the configuration from which every cell is made, as nested dictionaries.
      methods: names of combination methods; empty: that of the configuration.
      variations: what varies besides.
      seeds: how many runs each cell has; the first has the configuration's own seed.
      single_tasks: whether each loss is trained alone, too.
      workdir: the directory; None: a new one.
      command: the command that repeats it.
      devices: where runs are trained.
      tuned: how each cell is tuned before: its trials have the configuration's own seed, the runs those after it.
      timed_steps: the most steps of a round by which each method is timed alone in the end; 0: none is.
    """

    tree: Mapping[str, Any]
    methods: Sequence[str] = ()
    variations: Sequence[Variation] = ()
    seeds: int = 1
    single_tasks: bool = False
    workdir: str | None = None
    command: str = ""
    devices: Request = dataclasses.field(default_factory=lambda: Request([], "mirrored"))
    tuned: Tuned = NOT_TUNED
    timed_steps: int = 0


class Begun(NamedTuple):
    """A comparison before its first run.

    Attributes:
      config: the resolved configuration.
      methods: names of its methods.
      prepared: the cells to be trained.
      place: its directory.
      plan: what is asked for.
      whole: that with what the directory holds already.
    """

    config: Config
    methods: Sequence[str]
    prepared: Sequence[Prepared]
    place: Place
    plan: Plan
    whole: Plan


def begin(asked: Asked, base: pathlib.Path, number: int | None = None) -> Begun:
    """Checks that a comparison can be trained; nothing is written.

    Args:
      asked: what it is to be.
      base: the directory that a relative one is in.
      number: the only cell that is to be trained, counted from 1; None: all are.

    Raises:
      ConfigError: it cannot.
    """
    config = loading.resolve(asked.tree)
    names = _methods(asked, config)
    cells = grid.cells(config, names, asked.variations, single_tasks=asked.single_tasks)
    prepared = grid.prepare(asked.tree, cells)
    if number is not None:
        if number > len(cells):
            raise ConfigError("--cell", number, f"must be at most {len(cells)}; --list shows the cells")
        prepared = prepared[number - 1 : number]
    first = config.seed + bool(asked.tuned.trials)
    seeds = tuple(range(first, first + asked.seeds))
    place = Place(pathlib.Path(asked.workdir or new_workdir(base)), base)
    _check_tuned(asked.tuned, prepared)
    _check(place, prepared, seeds)
    plan = Plan(asked.command, schema.as_dict(config), cells, seeds, asked.tuned)
    return Begun(config, names, prepared, place, plan, continued(place, plan, config))


def listed(asked: Asked) -> list[str]:
    """Returns the names of the cells that are asked for; raises ConfigError as `compare`."""
    config = loading.resolve(asked.tree)
    found = grid.cells(config, _methods(asked, config), asked.variations, single_tasks=asked.single_tasks)
    return [each.cell.name for each in grid.prepare(asked.tree, found)]


def continued(place: Place, plan: Plan, config: Config) -> Plan:
    """Returns the plan with what the directory holds already; raises ConfigError where that is of another one."""
    before = plan_file.read(place.path)
    if before is None:
        return plan
    different = resuming.differences_from_chief(loading.resolve_saved(before.config), config)
    if different:
        reason = f"holds a comparison with another configuration: {'; '.join(different)}; choose another directory"
        raise ConfigError(plan_file.FIELD, str(place.given), reason)
    if before.tuned != plan.tuned:
        objective = "" if before.tuned.objective is None else f" --objective={before.tuned.objective!r}"
        reason = f"holds a comparison with --tuned={before.tuned.trials}{objective}; choose another directory"
        raise ConfigError(plan_file.FIELD, str(place.given), reason)
    cells, seeds = (plan_file.united(getattr(before, each), getattr(plan, each)) for each in ("cells", "seeds"))
    command = "\n".join(plan_file.united(before.command.splitlines(), plan.command.splitlines()))
    return dataclasses.replace(plan, command=command, cells=cells, seeds=tuple(sorted(seeds)))


def new_workdir(base: pathlib.Path) -> str:
    """Returns a directory below `base` that is not there yet, named for the date and time."""
    return next(name for name in new_names.dated("compare") if not (base / name).exists())


def _methods(asked: Asked, config: Config) -> Sequence[str]:
    return asked.methods or (config.combine.name,)


def _check_tuned(tuned: Tuned, prepared: Sequence[Prepared]) -> None:
    """Raises ConfigError where a cell cannot be tuned."""
    if tuned.trials:
        objectives.check_installed(tuned.trials)
        for cell, config, _ in prepared:
            if config is not None:
                objectives.of(config, tuned.objective_of(cell))


def _check(place: Place, prepared: Sequence[Prepared], seeds: Sequence[int]) -> None:
    """Raises ConfigError where a run can neither start nor resume in its directory."""
    if (place.path / "config.json").exists():
        raise ConfigError(plan_file.FIELD, str(place.given), "is the directory of a run; choose another one")
    for cell, config, _ in prepared:
        chosen = None if config is None else trials.chosen(place.path / cell.folder, config)
        for seed in seeds if chosen is not None else ():
            path = plan_file.run_path(place.given, cell, seed)
            own = dataclasses.replace(chosen, seed=seed)
            if not training.is_complete(place.base / path):
                workdir_lib.check(str(path), own, place.base)
            elif different := resuming.differences(loading.load_saved(place.base / path / "config.json"), own):
                reason = f"its run has another configuration: {'; '.join(different)}; choose another directory"
                raise ConfigError(plan_file.FIELD, str(path), reason)
