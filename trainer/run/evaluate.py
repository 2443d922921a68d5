"""Evaluates a run that is there, without training it."""

import pathlib

import tensorflow as tf
from absl import logging
from rich.console import Console

from input_pipelines import data as data_lib
from trainer.common.errors import ConfigError
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
) -> Report:
    """Evaluates the newest good checkpoint of a run on its validation split and prints the table; writes nothing.

    The run may be training, and remove checkpoints meanwhile. `config` is called as it is; `trust` says whose code may
    be called where the data name it.

    Raises:
      ConfigError: there is no good checkpoint, it does not fit, or what it relies on is damaged.
    """
    workdir = workdir.absolute()
    saved = checkpoint.newest_good(workdir.checkpoints, logging.warning)
    if saved is None:
        raise _without_checkpoint(workdir)
    kept = data_lib.load_saved(workdir.data)
    built = experiment.build(config, strategy, kept, trust)
    for line in data_lib.changes(kept, built.data.saved) if kept is not None else ():
        logging.warning("%s", line)
    parts = {"model": checkpoint.model_state(built.model), **built.step.averages()}
    saved = _restored(workdir, saved, parts)
    resume.refuse_damage(workdir, loading.load_saved(workdir.config), saved, manifest.read(saved))
    step = checkpoint.step_of(saved)
    shown = workdir.shown / saved.relative_to(workdir.path)
    with built.step.averaged():
        report = Report(step, VALIDATION, built.evaluator.build()(step))
    terminal.print_table(report, built.heads, title=f"Validation of {shown}", console=console)
    return report


def _restored(workdir: workdir_lib.Workdir, saved: pathlib.Path, parts: checkpoint.State) -> pathlib.Path:
    """Reads a checkpoint, or the newest one where that has been removed since it was found; returns which it was."""
    for _ in range(_TRIES):
        try:
            checkpoint.restore(saved, parts)
            return saved
        except ConfigError:
            if saved.exists():
                raise
        saved = checkpoint.newest_good(workdir.checkpoints, logging.warning)
        if saved is None:
            break
    raise _without_checkpoint(workdir)


def _without_checkpoint(workdir: workdir_lib.Workdir) -> ConfigError:
    return ConfigError("--workdir", str(workdir.shown), "holds no checkpoint yet")
