"""Sums of losses, also of those that compare examples with one another (`losses.<name>.over`).

Such a loss is computed of all examples that are compared: those of the replica, or those of the global batch, which
every replica then has. Examples without a label (weight 0) are left out before its function sees them, so that nothing
is compared with a label that is not there. Of the global batch every replica counts its own examples, so that sums over
replicas are right, and takes the gradient of the sum over all examples with respect to its own: what an example's
prediction changes in the values of others belongs to its gradient.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from trainer.components import losses as losses_lib
from trainer.components.losses import LossSums, NamedLoss
from trainer.config.settings import GLOBAL_BATCH
from trainer.distributed import gathering

Batch = Mapping[str, Mapping[str, tf.Tensor]]


class _Compared(NamedTuple):
    """The examples of which losses are computed, and which of them count.

    Attributes:
      outputs: head name → predictions.
      batch: `targets` and `weights`.
      counted: (examples,), 1 for those of this replica; None: all are.
    """

    outputs: Mapping[str, tf.Tensor]
    batch: Batch
    counted: tf.Tensor | None


def sums(
    losses: Sequence[NamedLoss],
    outputs: Mapping[str, tf.Tensor],
    batch: Batch,
    parts: Sequence[tf.Tensor | None] = (None,),
    batch_size: int | None = None,
    *,
    partial: bool = False,
) -> tuple[LossSums, ...]:
    """Σ w·ℓ and Σ w of every loss over a replica's part of the batch; call it in replica context.

    Args:
      losses: the losses.
      outputs: head name → predictions, batch first.
      batch: `targets` and perhaps `weights`, as `losses.sums` has them.
      parts: which examples count, as `losses.sums` has it; the losses are those of the first part, then those of the
        next. Losses that compare examples need a single part, of all.
      batch_size: examples of the global batch; None: that of this replica is all of it.
      partial: there may be fewer, as in an evaluation.
    """
    own = _Compared(outputs, batch, None)
    of_all = _global_batch([loss for loss in losses if loss.over == GLOBAL_BATCH], outputs, batch, batch_size, partial)

    def of_one(loss: NamedLoss, part: tf.Tensor | None) -> LossSums:
        if loss.over is None:
            return losses_lib.sums(loss, outputs, batch, part)
        compared = _labelled(loss, of_all if loss.over == GLOBAL_BATCH else own)
        return losses_lib.sums(loss, compared.outputs, compared.batch, compared.counted)

    return tuple(of_one(loss, part) for part in parts for loss in losses)


def gathered(losses: Sequence[NamedLoss], outputs: Mapping[str, Any], batch: Mapping[str, Any]) -> dict[tuple, Any]:
    """Returns what some losses read, by (kind, name): heads, targets and weights, whose rows are gathered.

    Args:
      losses: those over the global batch.
      outputs: head name → predictions, or what has their shape and dtype.
      batch: `targets` and perhaps `weights`, or specifications of them.
    """
    weights = batch.get("weights", {})
    found = {("outputs", loss.head): outputs[loss.head] for loss in losses}
    found |= {("targets", loss.target): batch["targets"][loss.target] for loss in losses}
    return found | {("weights", loss.target): weights[loss.target] for loss in losses if loss.target in weights}


def _global_batch(
    losses: Sequence[NamedLoss],
    outputs: Mapping[str, tf.Tensor],
    batch: Batch,
    batch_size: int | None,
    partial: bool,
) -> _Compared:
    """The global batch as these losses read it."""
    if not losses or tf.distribute.get_replica_context().num_replicas_in_sync == 1:
        return _Compared(outputs, batch, None)
    own = gathered(losses, outputs, batch)
    first = next(iter(own.values()))
    share = gathering.share(first, batch_size, partial=partial)
    found: dict[str, dict[str, tf.Tensor]] = {"outputs": {}, "targets": {}, "weights": {}}
    for (kind, name), rows in gathering.gathered(own, share).items():
        found[kind][name] = rows
    return _Compared(found.pop("outputs"), found, share.mask(first.dtype))


def _labelled(loss: NamedLoss, compared: _Compared) -> _Compared:
    """The examples that have a label for a loss."""
    weights = compared.batch.get("weights", {}).get(loss.target)
    if weights is None:
        return compared
    there = tf.reduce_any(tf.not_equal(weights, 0), axis=tuple(range(1, weights.shape.rank)))

    def kept(values: tf.Tensor) -> tf.Tensor:
        return tf.boolean_mask(values, there)

    batch = {"targets": {loss.target: kept(compared.batch["targets"][loss.target])}}
    return _Compared(
        {loss.head: kept(compared.outputs[loss.head])},
        batch | {"weights": {loss.target: kept(weights)}},
        None if compared.counted is None else kept(compared.counted),
    )
