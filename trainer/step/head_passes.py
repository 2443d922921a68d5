"""A forward pass through a model that is cut at its features, and every loss's backward pass as far as there."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from trainer.components import comparisons
from trainer.components import predictions as predictions_lib
from trainer.components.loss_sums import LossSums
from trainer.components.losses import NamedLoss
from trainer.gradients.reach import Reach
from trainer.step import backward
from trainer.step.cut import CutModel


class HeadPasses(NamedTuple):
    """The results of the passes through the heads.

    Attributes:
      sums: every loss's sums.
      rows: the gradients at the features, one for every loss.
      columns: for every variable that is not in the trunk, by its position in the reach, the gradients of the losses
        that reach it, in their order.
      features: the trunk's output.
      tape: of the forward pass through the trunk.
      trunk: positions of the trunk's variables in the reach.
    """

    sums: tuple[LossSums, ...]
    rows: Sequence[tf.Tensor]
    columns: Mapping[int, tuple[tf.Tensor, ...]]
    features: tf.Tensor
    tape: tf.GradientTape
    trunk: tuple[int, ...]


def run(
    parts: CutModel,
    losses: Sequence[NamedLoss],
    reach: Reach,
    batch: Mapping[str, Any],
    scale: tf.Tensor | None = None,
    batch_size: int | None = None,
    watch: backward.Watch | None = None,
) -> HeadPasses:
    """Returns the results of one forward pass and K backward passes to the features, none of them through the trunk.

    Args:
      parts: the model.
      losses: the K losses; they read the heads' outputs alone.
      reach: which of them reach which variable.
      batch, scale, batch_size, watch: as `backward.per_loss_gradients` has them.
    """
    trunk = positions_in_trunk(parts, reach)
    with reach.recording() as tape:
        features, *mask = tf.nest.flatten(parts.trunk(batch["inputs"], training=True))
    with reach.recording() as heads_tape:
        heads_tape.watch(features)
        predictions = predictions_lib.of(parts.heads([features, *mask], training=True), batch["inputs"])
        sums = comparisons.sums(losses, predictions, batch, batch_size=batch_size)
    backward.show(watch, predictions, batch, sums, len(losses))
    rows: list[tf.Tensor] = []
    found: dict[int, list[tf.Tensor]] = {v: [] for v in range(len(reach.variables)) if v not in trunk}
    for k, loss_sums in enumerate(sums):
        positions = [v for v in reach.reached_by(k) if v in found]
        row, *gradients = heads_tape.gradient(
            loss_sums.loss_sum,
            [features, *(reach.variables[v].value for v in positions)],
            output_gradients=scale,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        rows.append(row)
        for v, gradient in zip(positions, gradients, strict=True):
            found[v].append(tf.convert_to_tensor(gradient))
    columns = {v: tuple(gradients) for v, gradients in found.items()}
    return HeadPasses(sums, rows, columns, features, tape, trunk)


def through_trunk(passes: HeadPasses, reach: Reach, upstream: tf.Tensor) -> list[tf.Tensor]:
    """The gradients of the trunk's variables, given that at the features; dense, in the order of `passes.trunk`."""
    gradients = passes.tape.gradient(
        passes.features,
        [reach.variables[v].value for v in passes.trunk],
        output_gradients=upstream,
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    return list(map(tf.convert_to_tensor, gradients))


def positions_in_trunk(parts: CutModel, reach: Reach) -> tuple[int, ...]:
    """Positions in the reach of the trunk's variables."""
    in_trunk = {id(variable) for variable in parts.trunk.trainable_variables}
    return tuple(v for v, variable in enumerate(reach.variables) if id(variable) in in_trunk)
