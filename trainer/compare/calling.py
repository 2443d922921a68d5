"""The public function that compares from Python."""

import functools
import json
import os
import pathlib
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from rich.console import Console

from trainer.api import configuration, devices, process
from trainer.api.configuration import Given
from trainer.api.run import Run
from trainer.common import import_paths, schema
from trainer.common import trust as trust_lib
from trainer.common.errors import ConfigError, StoppedError
from trainer.common.trust import Trust
from trainer.compare import children, comparing, grid, in_process, results_files
from trainer.compare.asking import Asked
from trainer.compare.children import Launch
from trainer.compare.comparing import Outcome
from trainer.compare.grid import Variation
from trainer.compare.messages import Request
from trainer.compare.plan_file import Tuned
from trainer.config import loading
from trainer.distributed import signals
from trainer.output import workdir as workdir_lib


class Compared:
    """A comparison that has ended.

    Attributes:
      path: its directory.
      results: its numbers as nested dictionaries, as `results.json` has them.
      report: the path of its page.
      failed: the runs that failed, as `<cell> (seed <n>)`; the results say why.
    """

    def __init__(self, outcome: Outcome, found: Mapping[str, Any], trust: Trust):
        self.path = outcome.comparison.workdir
        self.results: dict[str, Any] = json.loads(results_files.json_of(outcome.results))
        self.report = outcome.report
        self.failed = list(outcome.failed)
        self._outcome, self._objects, self._trust = outcome, found, trust

    def __repr__(self) -> str:
        return f"<Compared {str(self.path)!r}, {len(self.runs)} runs>"

    @functools.cached_property
    def runs(self) -> list[Run]:
        """All runs, cell by cell in the order of their seeds."""
        paths = (run.path for cell in self._outcome.comparison.cells for _, run in sorted(cell.runs.items()))
        return [Run(path, self._given(path), self._trust) for path in paths]

    def _given(self, path: pathlib.Path) -> Given:
        return Given(loading.load_saved(path / "config.json"), dict(self._objects))


def compare(
    config: Any,
    combine: Sequence[str] | str = (),
    *,
    seeds: int = 3,
    vary: Mapping[str, Sequence[Any]] | None = None,
    single_task: bool = False,
    tuned: int = 0,
    objective: str | None = None,
    workdir: str | os.PathLike[str] | None = None,
    timed_steps: int = 100,
    strategy: str | tf.distribute.Strategy = "mirrored",
    virtual_devices: int | None = None,
    allow_cpu: bool = False,
    progress: bool = True,
    trust: Sequence[str] = (),
    **changes: Any,
) -> Compared:
    """Trains several methods with several seeds each, compares them, and leaves what the command leaves.

    After an interrupt it returns what there is; called again with the same workdir it continues. Every cell is trained
    in a process of its own; in this one where the configuration holds objects, or the strategy is one.

    Args:
      config: as for `train`; so are `strategy`, `virtual_devices`, `allow_cpu`, `progress` and `trust`.
      combine: names of combination methods; none: the configuration's own.
      seeds: how many runs each has: with the configuration's seed, and with those after it.
      vary: key of the configuration → values; every method is trained with each combination of them.
      single_task: whether each loss is trained alone, too.
      tuned: how many trials tune each method first, on the configuration's seed; needs the extra `tune`. 0: none.
      objective: what tuning optimizes: a metric, or an expression to be least. None: `best.metric`, or all losses.
      workdir: the directory; None: a new one under `runs/`.
      timed_steps: the most steps of a round by which each method is timed alone in the end; 0: none is.
      changes: further settings, by their keys.

    Raises:
      ConfigError: something that was given cannot be used; nothing was written.
      RunError: the results cannot be written; or, as StoppedError, SIGTERM or SIGUSR1 stopped it, and all is saved.
    """
    base, output = workdir_lib.current(), sys.stdout  # before a user's code runs, which may change either
    with process.preserved():
        tree, found = configuration.read_tree(config, changes)
        trusted = trust_lib.in_packages(trust)
        asked = Asked(
            tree=tree,
            methods=_methods(combine),
            variations=_variations({} if vary is None else vary),
            seeds=schema.integer(1)(seeds, "seeds"),
            single_tasks=schema.boolean(single_task, "single_task"),
            workdir=None if workdir is None else os.fspath(workdir),
            command="trainer.compare(...)",
            timed_steps=timed_steps,
            tuned=_tuned(tuned, objective),
            devices=Request([], str(strategy), virtual_devices, allow_cpu, list(trust)),
        )
        console = Console(highlight=False, file=output, quiet=not progress)
        with import_paths.objects(found):
            launch = _launch(found, strategy, asked.devices, trusted)
            return _ended(comparing.compare(asked, base, console, launch), found, trusted)


def _methods(combine: Any) -> Sequence[str]:
    names = list(combine) if isinstance(combine, list | tuple) else [combine]
    for name in names:
        if not isinstance(name, str):
            reason = "must be a name or a list of names; a function's is its import path, package.module:function"
            raise ConfigError("combine", name, reason)
    return grid.methods(names, "combine")


def _variations(vary: Any) -> list[Variation]:
    if not isinstance(vary, Mapping):
        raise ConfigError("vary", vary, "must be a dictionary of keys and their values, {'batch_size': [32, 64]}")
    for key, values in vary.items():
        if not isinstance(values, list | tuple):
            raise ConfigError(f"vary.{key}", values, "must be a list of values")
    return [grid.varied(key, values, "vary") for key, values in vary.items()]


def _tuned(trials: int, objective: str | None) -> Tuned:
    if not schema.integer(0)(trials, "tuned") and objective is not None:
        raise ConfigError("objective", objective, "is for tuned")
    return Tuned(trials, objective)


def _launch(
    found: Mapping[str, Any], strategy: str | tf.distribute.Strategy, devices_: Request, trust: Trust
) -> Launch:
    """Processes of the cells; or this process, for what no other one can have."""
    if found or isinstance(strategy, tf.distribute.Strategy):
        return in_process.launcher(devices.chosen(strategy, devices_.virtual_devices, devices_.allow_cpu), trust)
    devices.check_name(strategy)
    return children.run


def _ended(outcome: Outcome, found: Mapping[str, Any], trust: Trust) -> Compared:
    if outcome.signal not in (None, signal.SIGINT):
        raise StoppedError(signals.EXIT_CODES[outcome.signal])
    return Compared(outcome, found, trust)
