"""Errors of a run: losses and variables that are not finite, logarithms that do not exist, and what a graph raises."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence

import keras
import tensorflow as tf

from trainer.common import import_paths
from trainer.common.errors import ConfigError, LogarithmError, NonFiniteError, RunError, reason_of
from trainer.distributed.drift import Drift
from trainer.distributed.workers import Workers
from trainer.output.reports import Report
from trainer.run.experiment import Experiment
from trainer.step.report import Failure


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """Turns whatever a model or a loss raises while it is traced into a ConfigError."""
    try:
        yield
    except ConfigError:
        raise
    except import_paths.USER_ERRORS as error:
        reason = f"{type(error).__name__}: {reason_of(error)}"
        raise ConfigError("configuration", ConfigError.ABSENT, f"the step cannot be built: {reason}") from error


@contextlib.contextmanager
def running(built: Experiment, workers: Workers, what: str, split: str, reading_from: int) -> Iterator[None]:
    """Turns an error from within the graph into a RunError: what was being done, and on which example.

    Args:
      built: the experiment.
      workers: who takes part; that one is gone is an error of its own.
      what: is being done.
      split: is read.
      reading_from: training reads its examples from this step on.
    """
    try:
        with workers.watched():
            yield
    except tf.errors.OpError as error:
        wrong = built.wrong_example(split, reading_from)
        raise RunError(f"{what}: {wrong or f'{type(error).__name__}: {reason_of(error)}'}") from error


def error_of(failure: Failure, method: str) -> RunError:
    """The error that ends a run whose step could not be taken; `method` is the combination's name."""
    finite = all(math.isfinite(value) for value in failure.losses.values())
    if failure.bounds is not None and finite:
        too_small = {name: value for name, value in failure.losses.items() if value <= failure.bounds[name]}
        if too_small:
            return LogarithmError(failure.step, too_small, failure.bounds, method)
    own = method if finite and import_paths.is_path(method) else None
    return NonFiniteError(failure.step, list(failure.losses), method=own)


def refuse_non_finite_result(final: Report, losses: Sequence[str]) -> None:
    """Raises NonFiniteError: the last update may have spoilt the variables, with no step after it to notice."""
    values = {name: final.values[f"loss/{name}"] for name in losses}
    wrong = [name for name, value in values.items() if value is not None and not math.isfinite(value)]
    if wrong:
        raise NonFiniteError(final.step, wrong, split=final.split)


def refuse_drift(step: int, drift: Drift | None, workers: Workers, replicas: int, saved: int | None) -> None:
    """Raises RunError, the same on every worker, where replicas have drifted apart: one value of each is saved.

    Args:
      step: number of steps taken.
      drift: what is not the same on all replicas; None: everything is.
      workers: who takes part.
      replicas: their number, on all workers.
      saved: number of steps taken at the last save; None where there is none.
    """
    if drift is None:
        return
    workers.leave_together()
    worker = f" (worker {drift.replica * workers.count // replicas})" if workers.count > 1 else ""
    others = f" (and {drift.count - 1} more)" if drift.count > 1 else ""
    last = "there is no earlier checkpoint" if saved is None else f"the last checkpoint is of step {saved}"
    raise RunError(
        f"step {step}: variable {drift.variable} is not the same on replica {drift.replica}{worker} as on replica 0"
        f"{others}; replicas have drifted apart (by a layer or a model that sets its variables by itself, different "
        f"processors, or faulty memory); this step was not saved, {last}"
    )


def refuse_non_finite_variables(step: int, variables: Mapping[str, keras.Variable]) -> None:
    """Raises RunError for a variable that is not finite: nobody could resume from a checkpoint that holds it."""
    finite = tf.stack([tf.reduce_all(tf.math.is_finite(variable.value)) for variable in variables.values()])
    for name, is_finite in zip(variables, finite.numpy(), strict=True):  # one host copy
        if not is_finite:
            raise RunError(
                f"step {step}: variable {name} became non-finite; this step was not saved; "
                "a lower learning rate or clip_norm often helps"
            )
