"""Evaluates a run that is there, without training it."""

import tensorflow as tf
from absl import logging
from rich.console import Console

from input_pipelines import data as data_lib
from trainer.common.errors import ConfigError
from trainer.common.trust import NOBODY, Trust
from trainer.config.settings import Config
from trainer.output import checkpoint, terminal
from trainer.output import workdir as workdir_lib
from trainer.output.reports import VALIDATION, Report
from trainer.run import experiment


def evaluate(
    config: Config,
    workdir: workdir_lib.Workdir,
    strategy: tf.distribute.Strategy,
    console: Console | None = None,
    trust: Trust = NOBODY,
) -> Report:
    """Evaluates the newest good checkpoint of a run on its validation split and prints the table; writes nothing.

    `config` is called as it is; `trust` says whose code may be called where the data name it.

    Raises:
      ConfigError: there is no good checkpoint, or it does not fit.
    """
    saved = checkpoint.newest_good(workdir.checkpoints, logging.warning)
    if saved is None:
        raise ConfigError("--workdir", str(workdir.path), "holds no checkpoint yet")
    kept = data_lib.load_saved(workdir.data)
    built = experiment.build(config, strategy, kept, trust)
    for line in data_lib.changes(kept, built.data.saved) if kept is not None else ():
        logging.warning("%s", line)
    checkpoint.restore(saved, {"model": checkpoint.model_state(built.model), **built.step.averages()})
    step = checkpoint.step_of(saved)
    with built.step.averaged():
        report = Report(step, VALIDATION, built.evaluator.build()(step))
    terminal.print_table(report, built.heads, title=f"Validation of {saved}", console=console)
    return report
