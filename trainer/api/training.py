"""The public function that trains from Python."""

import os
import pathlib
import signal
import sys
from collections.abc import Sequence
from typing import Any

import ml_collections
import tensorflow as tf
from rich.console import Console

from trainer.api import configuration, devices, process
from trainer.api.run import Run
from trainer.common import commands, import_paths
from trainer.common import trust as trust_lib
from trainer.common.errors import StoppedError
from trainer.distributed import signals
from trainer.output import new_names
from trainer.output import workdir as workdir_lib
from trainer.run import train as run_lib


def train(
    config: str | os.PathLike[str] | ml_collections.ConfigDict | dict[str, Any],
    workdir: str | os.PathLike[str] | None = None,
    *,
    combine: Any = None,
    strategy: str | tf.distribute.Strategy = "mirrored",
    virtual_devices: int | None = None,
    allow_cpu: bool = False,
    progress: bool = True,
    trust: Sequence[str] = (),
    **changes: Any,
) -> Run:
    """Trains a configuration to its last step, from the first or from where the run in `workdir` was.

    It computes what `python -m trainer.main` computes with the same configuration, bit for bit, and leaves the process
    as it was. An interrupt (Ctrl-C, a notebook's stop button) while it takes steps saves, and the run so far is
    returned; called again with the same workdir it continues.

    Args:
      config: the path of a Python file with `get_config()`, a ConfigDict or a nested dictionary. Models, optimizers,
        losses, metrics and functions in it may be objects, and `dataset` may hold arrays (trainer/api/README.md).
      workdir: the directory of the run, made where it is not there and resumed where it is; None: a new one under
        `runs/`, named for the date, the time, the configuration's file and the method, as the command takes.
      combine: the combination method; replaces `combine.name`.
      strategy: `mirrored` (all GPUs, else the CPU), `one_device`, or a strategy of TensorFlow's of this process alone.
      virtual_devices: mirror over this number of logical CPU devices. TensorFlow lays out its devices once in a
        process: the first run, or the first operation, decides how many there can be.
      allow_cpu: take the CPU where the machine's GPUs cannot be used.
      progress: whether to show the run on standard output; its `log.txt` has the same lines.
      trust: packages whose code a folder of TFDS may name.
      changes: further settings, by their keys: `batch_size=32`, `**{"losses.ink.weight": 0.5}`.

    Raises:
      ConfigError: something that was given cannot be used; nothing was written.
      RunError: the run cannot continue; the workdir is kept. NonFiniteError, LogarithmError and StoppedError (SIGTERM,
        SIGUSR1) are ones.
      KeyboardInterrupt: an interrupt came before the first step, or a second one before the first had saved.
    """
    base, output = workdir_lib.current(), sys.stdout  # before a user's code runs, which may change either
    with process.preserved():
        given = configuration.read(config, combine, changes)
        trusted = trust_lib.in_packages(trust)
        on = devices.chosen(strategy, virtual_devices, allow_cpu)
        name = pathlib.PurePath(config).stem if isinstance(config, str | os.PathLike) else ""
        path = os.fspath(workdir) if workdir is not None else _new(base, new_names.label(name, given.config))
        run = Run(base / path, given, trusted, shown=pathlib.Path(path))
        console = Console(highlight=False, file=output, quiet=not progress)
        try:
            with import_paths.objects(given.objects), signals.staying():
                origin = run_lib.Origin(name, "" if given.objects else _repeating(path))
                run_lib.train(given.config, path, on, console, trust=trusted, base=base, origin=origin)
        except StoppedError as error:
            if error.code != signals.EXIT_CODES[signal.SIGINT]:
                raise
        return run


def _new(base: pathlib.Path, label: str) -> str:
    return next(name for name in new_names.dated(label) if not (base / name).exists())


def _repeating(path: str) -> str:
    """The command that trains the configuration of a run once more."""
    code = f"import trainer; trainer.train(dict(trainer.load_run({path!r}).config))"
    return commands.joined(["python", "-c", code])
