"""The classes that a loss's target holds, told from the loss's kind and from shapes."""

from collections.abc import Mapping
from typing import Any

from input_pipelines.class_counts import BINARY, INDICES, ONE_HOT, Classes
from trainer.common import import_paths
from trainer.common.errors import ConfigError
from trainer.components.loss_functions import Kind
from trainer.components.losses import NamedLoss
from trainer.config.loss_settings import LossConfig

_ONE_HOT = ("CategoricalCrossentropy", "CategoricalFocalCrossentropy", "CategoricalHinge")
_WEIGHTED = "ClassWeightedBinaryCrossentropy"


def of(loss: NamedLoss, config: LossConfig, outputs: Mapping[str, Any], target: Any) -> Classes:
    """Returns the form in which a loss's target holds classes.

    Args:
      loss: the loss.
      config: its configuration.
      outputs: head name → tensor or Keras' symbolic tensor, batch first.
      target: the same, or a specification, of its target.

    Raises:
      ConfigError: it holds none, or they cannot be told.
    """
    read, given = tuple(loss.prediction(outputs).shape[1:]), tuple(target.shape[1:])
    ignored = config.loss.get("ignore_class")
    if import_paths.is_path(config.loss["name"]):
        return _of_own(loss, config, read, given, ignored)
    if loss.targets_are_classes:
        return Classes(INDICES, read[-1], has_axis=given != read[:-1], ignored=ignored)
    if loss.function_name in _ONE_HOT:
        return Classes(ONE_HOT, read[-1], has_axis=given != read)
    if loss.function_name == _WEIGHTED:
        raise _refused(loss, config, f"stands beside losses.{loss.name}.loss.class_weights; give one of them")
    if loss.scores.kind in (Kind.LABELS, Kind.MARGINS):
        return _binary(loss, config, read, given)
    raise _refused(loss, config, f"is for losses of classes (cross-entropies, hinges), not {loss.function_name}")


def _binary(loss: NamedLoss, config: LossConfig, read: tuple[int, ...], given: tuple[int, ...]) -> Classes:
    if read[-1] == 1 and given in (read, read[:-1]):
        return Classes(BINARY, 2, has_axis=given == read)
    if given != read:
        raise _refused(loss, config, f"needs a target of shape {read}, as {loss.source} has, but it has {given}")
    if not loss.pointwise:
        raise _refused(loss, config, f"is for a single label where the loss is {loss.function_name}, not {read[-1]}")
    return Classes(BINARY, 2, labels=read[-1])


def _of_own(
    loss: NamedLoss, config: LossConfig, read: tuple[int, ...], given: tuple[int, ...], ignored: int | None
) -> Classes:
    """The classes of a loss by import path: whether the target's numbers are classes is known once they are counted."""
    if read[-1:] in ((), (1,)) and given in (read, read[:-1]):
        return Classes(BINARY, 2, has_axis=given == (*read[:-1], 1))
    if read[-1:] not in ((), (1,)) and given in (read[:-1], (*read[:-1], 1)):
        return Classes(INDICES, read[-1], has_axis=given != read[:-1], ignored=ignored)
    raise _refused(
        loss,
        config,
        f"needs class indices, or a single output with zeros and ones, where the loss is one of your own; the target "
        f"has shape {given} and {loss.source} gives {read}",
    )


def _refused(loss: NamedLoss, config: LossConfig, reason: str) -> ConfigError:
    return ConfigError(f"losses.{loss.name}.class_weights", config.class_weights, reason)
