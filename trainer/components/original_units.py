"""Target and prediction of a metric in the units that the target had before it was prepared (`units: "original"`)."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from input_pipelines.preparation.inverses import Inverse
from trainer.common.errors import ConfigError
from trainer.components import labels
from trainer.components.loss_functions import Kind
from trainer.components.losses import NamedLoss
from trainer.components.own_loss import OwnLoss

ORIGINAL = "original"


def check(
    units: Any, field: str, loss: NamedLoss, inverse: Inverse, target: Any, prediction: Any, *, of_values: bool
) -> Inverse:
    """Returns the way back to a target's own units, along which a metric's target and prediction are taken.

    Args:
      units: what the configuration says.
      field: its key.
      loss: the metric's.
      inverse: of the loss's target.
      target: `.shape` (batch first) of the target, as metrics compare it.
      prediction: the same of what they compare with it.
      of_values: whether the metric takes values, and not probabilities.

    Raises:
      ConfigError: `units` is anything else, or there is no such way.
    """
    if units != ORIGINAL:
        raise ConfigError(field, units, f"must be {ORIGINAL!r}")
    if reason := _hindrance(loss, inverse, target, prediction, of_values=of_values):
        raise ConfigError(field, units, reason)
    return inverse


@contextlib.contextmanager
def in_float64(wanted: bool) -> Iterator[None]:
    """Lets Keras make and compute in float64 within the context, where it is wanted."""
    floatx = keras.config.floatx()
    keras.config.set_floatx("float64" if wanted else floatx)
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)


def pair(
    inverse: Inverse, target: tf.Tensor, prediction: tf.Tensor, weights: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns a prepared target and a prediction in the target's own units, in the shapes that they have.

    Args:
      inverse: of the target.
      target: prepared, 0 where there is no label.
      prediction: as many numbers.
      weights: the weight of every label, as `LossMetric.update` has it. Without one, the prediction may be anything,
        also what becomes infinite, which no weight of 0 would take out again; so 0 stands there in both.
    """

    def undone(values: tf.Tensor) -> tf.Tensor:
        if weights is not None:
            values = tf.where(labels.broadcast(weights > 0, values), values, tf.zeros_like(values))
        return tf.reshape(inverse(values), tf.shape(values))

    return undone(target), undone(prediction)


def _hindrance(loss: NamedLoss, inverse: Inverse, target: Any, prediction: Any, *, of_values: bool) -> str | None:
    """Returns the reason why a metric cannot be in original units; None: it can."""
    own = loss.function if isinstance(loss.function, OwnLoss) else None
    has_values = loss.scores.are_probabilities and loss.scores.kind in (Kind.OTHER, Kind.LABELS)
    if not has_values or (own is not None and type(own).metric_target is not OwnLoss.metric_target):
        return f"needs predictions of the target's values, but {loss.source} gives scores for {loss.function_name}"
    if inverse.hindrance is not None:
        return f"cannot be undone of target {loss.target!r}: {inverse.hindrance}"
    if not inverse.changes:
        return f"needs something to undo, but nothing that prepares target {loss.target!r} changes its units"
    if not of_values:
        return "is for metrics of values, and this one takes probabilities"
    of_target, given = (tuple(spec.shape[1:]) for spec in (target, prediction))
    if given not in (of_target, (*of_target, 1)) and of_target != (*given, 1):
        return (
            f"needs a number for each of target {loss.target!r}, of shape {of_target}, but {loss.source} gives {given}"
        )
    return None
