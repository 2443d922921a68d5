"""Evaluates a run that is there, without training it."""

import pathlib
from collections.abc import Callable

import tensorflow as tf
from absl import logging
from rich.console import Console

from input_pipelines import saved_data
from trainer.common.errors import ConfigError, unknown
from trainer.common.trust import NOBODY, Trust
from trainer.config import loading
from trainer.config.settings import Config
from trainer.output import checkpoint, manifest, terminal
from trainer.output import workdir as workdir_lib
from trainer.output.reports import VALIDATION, Report
from trainer.run import experiment, resume

_TRIES = 5  # a run that is training saves less often than a checkpoint is read


def evaluate(
    config: Config,
    workdir: workdir_lib.Workdir,
    strategy: tf.distribute.Strategy,
    console: Console | None = None,
    trust: Trust = NOBODY,
    split: str = VALIDATION,
    folder: pathlib.Path | None = None,
) -> Report:
    """Evaluates a checkpoint of a run on a split and prints the table; writes nothing.

    The run may be training, and remove checkpoints meanwhile. `config` is called as it is; `trust` says whose code may
    be called where the data name it. `folder` is the checkpoint's; None: the newest good one's.

    Raises:
      ConfigError: there is no good checkpoint, it does not fit, or what it relies on is damaged; or there is no such
        split beside that of training.
    """
    workdir = workdir.absolute()

    def refuse_damage(folder: pathlib.Path) -> None:
        resume.refuse_damage(workdir, loading.load_saved(workdir.config), folder, manifest.read(folder))

    saved = _read(workdir, refuse_damage, folder)  # before anything is built by what may be damaged
    kept = saved_data.load_saved(workdir.data)
    built = experiment.build(config, strategy, kept, trust)
    if split not in built.evaluator.splits:
        raise unknown("--split", split, "split beside train", built.evaluator.splits)
    for line in saved_data.changes(kept, built.data.saved) if kept is not None else ():
        logging.warning("%s", line)
    parts = {"model": checkpoint.model_state(built.model), **built.step.averages()}
    saved = _read(workdir, lambda folder: checkpoint.restore(folder, parts), saved)
    step = checkpoint.step_of(saved)
    shown = workdir.shown / saved.relative_to(workdir.path)
    with built.step.averaged():
        report = built.watched.added(Report(step, split, built.evaluator.only(split).build()(step, split)))
    for line in built.watched.dividing_by_zero(report).values() if split == VALIDATION else ():
        logging.warning("%s", line)
    terminal.print_table(report, built.heads, title=f"{split.capitalize()} of {shown}", console=console)
    terminal.print_segments(report, built.heads, console=console)
    return report


def _read(
    workdir: workdir_lib.Workdir, read: Callable[[pathlib.Path], None], saved: pathlib.Path | None = None
) -> pathlib.Path:
    """Calls `read` with a checkpoint, and with the newest one where that is removed meanwhile; returns which it was."""
    for _ in range(_TRIES):
        saved = saved or checkpoint.newest_good(workdir.checkpoints, logging.warning)
        if saved is None:
            break
        try:
            read(saved)
            return saved
        except (ConfigError, FileNotFoundError):
            if saved.exists():
                raise
        saved = None
    raise ConfigError("--workdir", str(workdir.shown), "holds no checkpoint yet")
