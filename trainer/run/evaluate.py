"""Evaluates a run that is there, without training it."""

import dataclasses

import tensorflow as tf
from absl import logging
from rich.console import Console

from input_pipelines import saved_data
from input_pipelines.configuration import TRAIN
from input_pipelines.feed.mixture import Mixture
from input_pipelines.feed.splits import Split
from input_pipelines.feed.streaming import Streamed
from input_pipelines.feed.unread import Unread
from input_pipelines.rows import opening, prepared
from input_pipelines.rows.rows import OfSource
from trainer.common.errors import unknown
from trainer.common.trust import NOBODY, Trust
from trainer.config.settings import OFF, Config
from trainer.evaluation.evaluator import Evaluator
from trainer.output import checkpoint, terminal
from trainer.output import workdir as workdir_lib
from trainer.output.reports import VALIDATION, Report
from trainer.run import checks, experiment, restored
from trainer.run import network as network_lib

_DATA = "data"  # the split that a file is


def evaluate(
    config: Config,
    workdir: workdir_lib.Workdir,
    strategy: tf.distribute.Strategy,
    console: Console | None = None,
    trust: Trust = NOBODY,
    split: str = VALIDATION,
    *,
    best: bool = False,
) -> Report:
    """Evaluates a checkpoint of a run on a split and prints the table; writes nothing.

    The run may be training, and remove checkpoints meanwhile. `config` is called as it is; `trust` says whose code may
    be called where the data name it. The checkpoint is the best one where `best`, else the newest good one.

    Raises:
      ConfigError: there is no such checkpoint, it does not fit, or what it relies on is damaged; or there is no such
        split beside that of training.
    """
    workdir = workdir.absolute()
    # Before anything is built by what may be damaged.
    saved = restored.read(workdir, lambda folder: restored.refuse_damage(workdir, folder), best=best)
    kept = saved_data.load_saved(workdir.data)
    # No step is taken: what cannot be compiled on these devices can be evaluated there.
    built = experiment.build(dataclasses.replace(config, compile=OFF), strategy, kept, trust)
    if split not in built.evaluator.splits:
        raise unknown("--split", split, "split beside train", built.evaluator.splits)
    for line in saved_data.changes(kept, built.data.saved) if kept is not None else ():
        logging.warning("%s", line)
    parts = {"model": checkpoint.model_state(built.model), **built.step.averages()}
    saved = restored.read(workdir, lambda folder: checkpoint.restore(folder, parts), saved, best=best)
    step = checkpoint.step_of(saved)
    shown = workdir.shown / saved.relative_to(workdir.path)
    with built.step.averaged():
        report = built.watched.added(Report(step, split, built.evaluator.only(split).build()(step, split)))
    for line in built.watched.dividing_by_zero(report).values() if split == VALIDATION else ():
        logging.warning("%s", line)
    terminal.print_table(report, built.heads, title=f"{split.capitalize()} of {shown}", console=console)
    terminal.print_segments(report, built.heads, console=console)
    return report


def evaluate_data(
    config: Config,
    workdir: workdir_lib.Workdir,
    strategy: tf.distribute.Strategy,
    path: str,
    console: Console | None = None,
    trust: Trust = NOBODY,
    source: str | None = None,
    *,
    best: bool = False,
) -> Report:
    """Evaluates a checkpoint of a run on a file or folder that is none of its splits; needs nothing of its own data.

    Args:
      config: the run's configuration.
      workdir: the run.
      strategy: the devices.
      path: the file or folder, with inputs and targets.
      console: where to print the table; None: standard output.
      trust: whose code may be called where the data name it.
      source: which of several sources the file is of.
      best: whether to take the best checkpoint instead of the last one.

    Raises:
      ConfigError: there is no such checkpoint, it does not fit, or the file cannot be read.
    """
    workdir = workdir.absolute()
    field, of_source = opening.chosen(config.dataset, source)
    opening.check_path(of_source)
    found = restored.build(config, workdir, strategy, trust, best=best)
    opened = opening.of_path(of_source, field, path, found.kept, targets=True)
    own = opened.rows.source if isinstance(opened.rows, OfSource) else None
    split = Streamed(own, opened.preparation) if own is not None and own.records else prepared.loaded(opened)
    evaluator = _evaluator(found, _among_sources(found.kept.data.splits[TRAIN], source, split))
    report = Report(found.step, _DATA, evaluator.build()(found.step, _DATA))
    heads = {each.name: each.head or each.source for each in (*evaluator.losses, *evaluator.measured)}
    shown = workdir.shown / found.folder.relative_to(workdir.path)
    terminal.print_table(report, heads, title=f"{path}, {shown}", console=console)
    terminal.print_segments(report, heads, console=console)
    return report


def _among_sources(train: Split, source: str | None, split: Split) -> Split:
    """The examples of one of several sources, without a label for the targets that others alone have."""
    if not isinstance(train, Mixture):
        return split
    others = {name: Unread(part.spec, part.categories) for name, part in train.parts.items()}
    return dataclasses.replace(train, parts={**others, source: split})


def _evaluator(found: restored.Restored, split: Split) -> Evaluator:
    """The evaluator of a run's network on a split of new data."""
    config, network = found.config, found.network
    spec = network_lib.batch_spec(found.kept.data.splits[TRAIN], 1)
    outputs = checks.outputs(found.model, spec["inputs"], config.model.name)
    data = checks.classes(network.losses, outputs, dataclasses.replace(network.data, splits={_DATA: split}))
    return network_lib.build_evaluator(
        dataclasses.replace(network, data=data), config.segments, config.batch_size, config.seed, found.strategy
    )
