"""The description of an experiment before it is trained: summary, data, model, optimizers, the cost of a step."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import tensorflow as tf
from rich.console import Console
from rich.table import Table

from input_pipelines.configuration import TRAIN
from trainer.common.errors import ConfigError, reason_of
from trainer.common.trust import NOBODY, Trust
from trainer.config.settings import Config
from trainer.cost import counting
from trainer.describe import data_numbers, data_tables, layer_shapes, layers, model_tables, rate, step_cost
from trainer.output import summary as summary_lib
from trainer.run import experiment, overview
from trainer.run.experiment import Experiment

_WIDEST = 1000  # characters


class Description(NamedTuple):
    """Everything that is said of an experiment.

    Attributes:
      summary: lines that a run prints at its start too.
      data: tables of the data.
      data_notes: lines about them.
      model: tables of the model.
      step_notes: lines about a step.
      picture: training examples as a PNG; None where it was not asked for.
    """

    summary: list[str]
    data: list[Table]
    data_notes: list[str]
    model: list[Table]
    step_notes: list[str]
    picture: bytes | None


def describe(config: Config, console: Console, *, picture_title: str | None, trust: Trust = NOBODY) -> Description:
    """Builds an experiment on this machine's CPU and describes it; nothing is trained.

    GPUs are to be hidden before (`strategy.hide_gpus`).

    Args:
      config: the resolved configuration.
      console: shows what is being done.
      picture_title: what stands above the picture; None draws none.
      trust: whose code may be called where the data name it.

    Raises:
      ConfigError: anything that a run would refuse before its first step, or an example that cannot be read.
    """
    with console.status("Reading the data and building the model ..."):
        built = experiment.build(config, tf.distribute.OneDeviceStrategy("/cpu:0"), trust=trust)
    with console.status("Looking at the data ..."):
        data, data_notes = _of_data(built)
        picture = None if picture_title is None else _picture(built, picture_title)
    with console.status("Counting operations ..."):
        summary = overview.of(built)
        model, step_notes = _of_model(built, summary)
    return Description(summary_lib.lines(summary), data, data_notes, model, step_notes, picture)


def show(description: Description, console: Console) -> None:
    """Prints a description."""
    _print_lines([*description.summary, ""], console)
    for table in description.data:
        console.print(table)
    _print_lines([*description.data_notes, ""], console)
    for table in description.model:  # a tree whose lines are folded cannot be read
        table.width = console.measure(table, options=console.options.update(width=_WIDEST)).maximum
        console.print(table, crop=False)
    _print_lines(description.step_notes, console)


def _print_lines(lines: Sequence[str], console: Console) -> None:
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _of_data(built: Experiment) -> tuple[list[Table], list[str]]:
    """Tables and lines about the splits, and about how fast training examples are made."""
    data, batch_size, seed = built.data, built.micro_batch_size, built.config.seed
    numbers = {}
    for name, split in data.splits.items():
        with _explained(built, name):
            numbers[name] = data_numbers.summarise(split, batch_size, seed)
    with _explained(built, TRAIN):
        measured = rate.measure(built.train, batch_size, seed)
    tables = [
        data_tables.splits(built.config.dataset, data),
        data_tables.inputs(built.train, numbers[TRAIN]),
        data_tables.targets(numbers),
        *data_tables.balances(numbers, data.names),
        data_tables.statistics(data),
    ]
    counted = " and ".join(data_tables.counted(each, name) for name, each in numbers.items())
    notes = [
        f"Numbers are of {counted}, before augmentation.",
        *(data.notes or ["Nothing was left out."]),
        f"Training examples are made at {measured.examples_per_second:,.0f} a second in batches of "
        f"{measured.batch_size}; the first batch takes {measured.first_batch:.2f} s.",
    ]
    return [table for table in tables if table is not None], notes


def _picture(built: Experiment, title: str) -> bytes:
    from trainer.describe import picture  # Matplotlib takes a while to load

    with _explained(built, TRAIN):
        return picture.draw(built.train, built.data.names, built.micro_batch_size, built.config.seed, title)


def _of_model(built: Experiment, summary: summary_lib.ExperimentSummary) -> tuple[list[Table], list[str]]:
    """Tables of layers, reach and optimizers; lines about the parameters, the method and the cost of a step."""
    batch = built.micro_batch_size
    with layer_shapes.recorded() as shapes:
        workload, passes = counting.of_experiment(built, batch)
    names = [loss.name for loss in built.losses]
    tree = layers.tree(built.model, built.reach, shapes)
    tables = [model_tables.layers(tree, names, batch), model_tables.groups(summary), model_tables.optimizers(summary)]
    warnings = [f"Warning: {note}." for note in built.notes if note not in built.data.notes]
    return tables, [*summary_lib.at_length(summary), *step_cost.lines(workload, passes), *warnings]


@contextlib.contextmanager
def _explained(built: Experiment, split: str) -> Iterator[None]:
    """Turns an error from within a pipeline into a ConfigError that says which example cannot be used."""
    try:
        yield
    except tf.errors.OpError as error:
        reason = built.wrong_example(split)
        raise ConfigError("dataset", ConfigError.ABSENT, reason or reason_of(error)) from error
