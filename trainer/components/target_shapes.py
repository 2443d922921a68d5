"""The shape that a loss's target must have for a prediction: without it the two would be broadcast, unnoticed."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from trainer.common.errors import ConfigError
from trainer.components import loss_functions, own_loss
from trainer.components.loss_functions import PREDICTION, TARGET
from trainer.config.paths import Path

Shape = Sequence[int | None]


class Given(NamedTuple):
    """A target or a prediction that a configuration names.

    Attributes:
      field: the key that names it.
      name: the value of that key.
      shape: of one example.
    """

    field: str
    name: str
    shape: Shape


def check(function: Any, are_classes: bool | None, target: Given, prediction: Given, source: str) -> None:
    """Raises ConfigError where a loss's target has not the shape that belongs to a prediction.

    Args:
      function: the loss's.
      are_classes: whether its target holds class indices; None where its shape is the function's own affair.
      target: what it compares with.
      prediction: what it compares.
      source: the prediction in words.
    """
    if are_classes is None:
        return
    given = tuple(prediction.shape)
    expected = given[:-1] if are_classes else _of_numbers(function, prediction, source)
    allowed = [expected, (*expected, 1)]
    if expected[-1:] == (1,) and not are_classes:
        allowed.append(expected[:-1])
    if not any(tf.TensorShape(target.shape).is_compatible_with(shape) for shape in allowed):
        raise ConfigError(
            target.field,
            target.name,
            f"has shape {tuple(target.shape)} per example; with {source}, which gives {given}, this loss "
            f"needs {'class indices' if are_classes else 'a target'} of shape {expected}",
        )


def check_read(
    function: Any, are_classes: bool | None, reads: Mapping[str, Path], given: Mapping[str, tf.Tensor], field: str
) -> None:
    """As `check`, of the target and the prediction that one of Keras' losses reads by path.

    Args:
      function: the loss's.
      are_classes: as `check` has it.
      reads: the path of each.
      given: the tensor of each, batch first.
      field: the configuration's key of the function.
    """
    if any(given[name].shape.rank is None for name in (TARGET, PREDICTION)):
        return
    target, prediction = (
        Given(f"{field.removesuffix('.loss')}.reads.{name}", str(reads[name]), given[name].shape[1:])
        for name in (TARGET, PREDICTION)
    )
    check(function, are_classes, target, prediction, str(reads[PREDICTION]))


def _of_numbers(function: Any, prediction: Given, source: str) -> tuple[int | None, ...]:
    """The shape of the numbers of the target to which predictions belong, of which some losses take several."""
    count, given = own_loss.numbers_per_value(function), tuple(prediction.shape)
    if count > 1 and (not given or (given[-1] or count) % count):
        raise ConfigError(
            prediction.field,
            prediction.name,
            f"{source} gives {given} per example; {loss_functions.name_of(function)} needs {count} numbers on the "
            "last axis for each number of the target",
        )
    return own_loss.shape_of_numbers(function, given)
