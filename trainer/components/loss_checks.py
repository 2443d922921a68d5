"""Checks of losses against outputs and targets: slices, shapes of targets, logits taken for probabilities."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from trainer.common.errors import ConfigError
from trainer.components import target_shapes
from trainer.components.losses import NamedLoss
from trainer.components.target_shapes import Given

_ROUNDING = 1e-3  # a softmax in half precision exceeds 1 by less


def check_shapes(losses: Sequence[NamedLoss], outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> None:
    """Checks that every loss's slice lies within its head's output, and that its target has the shape of what it reads.

    Args:
      losses: the losses.
      outputs: head name → tensor or Keras' symbolic tensor, batch first.
      targets: target name → the same.

    Raises:
      ConfigError: naming the first loss whose shapes do not match.
    """
    for loss in losses:
        if loss.head is None:
            continue
        _check_slice(loss, tuple(outputs[loss.head].shape[1:]))
        field, prediction = f"losses.{loss.name}", loss.prediction(outputs).shape[1:]
        target = Given(f"{field}.target", loss.target, targets[loss.target].shape[1:])
        of_head = Given(f"{field}.head", loss.head, prediction)
        target_shapes.check(loss.function, loss.targets_are_classes, target, of_head, loss.source)


def logits_taken_for_probabilities(
    losses: Sequence[NamedLoss], outputs: Mapping[str, tf.Tensor], metrics: Mapping[str, Sequence[str]]
) -> list[str]:
    """One line for each loss that takes probabilities and reads, in these outputs, something else; or for its metrics.

    Args:
      losses: the losses.
      outputs: head name → predictions for some examples.
      metrics: loss name → its metrics that take what the head gives for probabilities.
    """
    lines = []
    for loss in losses:
        if loss.head is None or (not loss.takes_probabilities and not metrics[loss.name]):
            continue
        prediction = loss.prediction(outputs)
        low, high = float(tf.reduce_min(prediction)), float(tf.reduce_max(prediction))
        if low >= -_ROUNDING and high <= 1 + _ROUNDING:
            continue
        given = f"losses.{loss.name}: {loss.source} gives values from {low:.3g} to {high:.3g}, but "
        if loss.takes_probabilities:
            lines.append(
                f"{given}{loss.function_name} takes probabilities (0 to 1): set "
                f"losses.{loss.name}.loss.from_logits=True, or end the head with a softmax or sigmoid."
            )
        else:
            lines.append(f"{given}its metrics take probabilities (0 to 1): {', '.join(metrics[loss.name])}.")
    return lines


def _check_slice(loss: NamedLoss, output: tuple[int | None, ...]) -> None:
    if loss.slice is None:
        return
    size = output[-1] if output else 0
    if size is not None and loss.slice[1] > size:
        raise ConfigError(
            f"losses.{loss.name}.slice",
            list(loss.slice),
            f"must end within the last axis of head {loss.head!r}, which gives {output} per example",
        )
