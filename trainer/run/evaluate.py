"""Evaluates a run that is there, without training it."""

import tensorflow as tf
from absl import logging
from rich.console import Console

from input_pipelines import data as data_lib
from trainer.common.errors import ConfigError
from trainer.config import loading
from trainer.config.settings import Config
from trainer.output import checkpoint, manifest, terminal
from trainer.output import workdir as workdir_lib
from trainer.output.reports import VALIDATION, Report
from trainer.run import experiment, resume


def evaluate(
    config: Config, workdir: workdir_lib.Workdir, strategy: tf.distribute.Strategy, console: Console | None = None
) -> Report:
    """Evaluates the newest good checkpoint of a run on its validation split and prints the table; writes nothing.

    Raises:
      ConfigError: there is no good checkpoint, it does not fit, or what it relies on is damaged.
    """
    saved = checkpoint.newest_good(workdir.checkpoints, logging.warning)
    if saved is None:
        raise ConfigError("--workdir", str(workdir.path), "holds no checkpoint yet")
    resume.refuse_damage(workdir, loading.load_saved(workdir.config), saved, manifest.read(saved))
    kept = data_lib.load_saved(workdir.data)
    built = experiment.build(config, strategy, kept)
    for line in data_lib.changes(kept, built.data.saved):
        logging.warning("%s", line)
    checkpoint.restore(saved, {"model": checkpoint.model_state(built.model), **built.step.averages()})
    step = checkpoint.step_of(saved)
    with built.step.averaged():
        report = Report(step, VALIDATION, built.evaluator.build()(step))
    terminal.print_table(report, built.heads, title=f"Validation of {saved}", console=console)
    return report
