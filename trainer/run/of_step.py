"""What a run asks of its step: what of it a checkpoint holds, what it reports, and where it could not go on.

All that a run knows of the inside of a step is here.
"""

import contextlib
from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from trainer.components import optimizers
from trainer.output import reports
from trainer.output.reports import Report
from trainer.step.step import Step
from trainer.step.values import State, Totals

# The parts of a checkpoint that are the step's: they stand beside those of the model and the optimizers.
_SINCE_REPORT, _REMEMBERED, _AVERAGE, _MOVING_ROWS = "since_report", "step", "average", "moving_rows"
_OF_TOTALS = ("losses", "counts", "fallbacks")  # what of the totals a report reads that later steps do not set

Parts = dict[str, dict[str, tf.Variable]]


class Failure(NamedTuple):
    """A step that could not be taken, and changed no variable.

    Attributes:
      step: its number, counted from 1.
      losses: the losses that could not be used, with their values.
      bounds: what the combination needs each of these to be above; None: they need only be finite.
    """

    step: int
    losses: dict[str, float]
    bounds: dict[str, float] | None


def arguments(first: int, end: int, diagnose: bool) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """What the in-graph loop is told to take the steps from `first` to `end`, measuring the last one or not."""
    return tf.constant(first, tf.int64), tf.constant(end - first, tf.int64), tf.constant(diagnose)


def checkpointed(step: Step, state: State, totals: Totals) -> Parts:
    """Everything of a step that a run must find again to go on as if it had not been interrupted: part → variables."""
    parts: Parts = {_SINCE_REPORT: {name: tf.Variable(getattr(totals, name)) for name in _OF_TOTALS}}
    if remembered := step.remembered(state):
        parts[_REMEMBERED] = {name: tf.Variable(value) for name, value in remembered.items()}
    parts |= averages(step)
    if step.moving_rows is not None:
        parts[_MOVING_ROWS] = step.moving_rows.by_name
    return parts


def restored(step: Step, parts: Mapping[str, Mapping[str, tf.Variable]]) -> tuple[State, Totals]:
    """State and totals of `checkpointed`, once its variables have got their values of the run that goes on."""
    remembered = {name: tf.convert_to_tensor(variable) for name, variable in parts.get(_REMEMBERED, {}).items()}
    since_report = {name: tf.convert_to_tensor(parts[_SINCE_REPORT][name]) for name in _OF_TOTALS}
    return step.with_remembered(remembered), step.initial_totals()._replace(**since_report)


def averages(step: Step) -> Parts:
    """The part of `checkpointed` that evaluations need beside the model: averages of its weights, if there are any."""
    return {} if step.average is None else {_AVERAGE: step.average.by_name}


def averaged(step: Step) -> contextlib.AbstractContextManager[None]:
    """The model holds the moving averages of its weights within this context, where the run keeps them."""
    return contextlib.nullcontext() if step.average is None else step.average.in_place()


def report(step: Step, number: int, state: State, totals: Totals) -> Report:
    """The report of the steps since the last one, once `number` steps are taken."""
    return reports.of_totals(
        number,
        totals,
        step.losses,
        optimizers.learning_rates(step.updates),
        sharing=bool(step.reach.shared),
        method=step.combination.method,
        loss_scale=float(state.loss_scale.scale) if step.scales_losses else None,
    )


def failure(step: Step, totals: Totals) -> Failure | None:
    """The first step since the last report that could not be taken; None where there is none."""
    failed = int(totals.failed_step)
    if failed < 0:
        return None
    wrong, values, bounds = totals.failed.numpy(), totals.failed_losses.numpy(), step.combination.lower_bounds
    failing = [k for k in range(len(step.losses)) if wrong[k]]
    names = [loss.name for loss in step.losses]
    return Failure(
        failed + 1,
        {names[k]: float(values[k]) for k in failing},
        None if bounds is None else {names[k]: float(bounds[k]) for k in failing},
    )
