"""Sums of losses, also of those that compare examples with one another (`losses.<name>.over`).

Such a loss is computed of all examples that are compared: those of the replica, or those of the global batch, which
every replica then has. Examples without a label (weight 0) are left out before its function sees them, so that nothing
is compared with a label that is not there. Of the global batch every replica counts its own examples, so that sums over
replicas are right, and takes the gradient of the sum over all examples with respect to its own: what an example's
prediction changes in the values of others belongs to its gradient.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from trainer.components import batch_sizes, labels, loss_sums
from trainer.components import losses as losses_lib
from trainer.components.loss_sums import LossSums
from trainer.components.losses import NamedLoss
from trainer.components.predictions import Predictions
from trainer.config.settings import GLOBAL_BATCH
from trainer.distributed import gathering

Batch = Mapping[str, Mapping[str, tf.Tensor]]


class _Compared(NamedTuple):
    """The examples of which losses are computed, and which of them count.

    Attributes:
      predictions: of the model.
      batch: `targets` and `weights`.
      counted: (examples,), 1 for those of this replica; None: all are.
    """

    predictions: Predictions
    batch: Batch
    counted: tf.Tensor | None


class Evaluated(NamedTuple):
    """The sums and the labels of one loss, over a replica's part of a batch.

    Attributes:
      sums: of its values.
      count: scalar, the number of values that masks leave.
      labels: the weight of every label of this replica's examples, as `LossValues.labels`.
      label_count: scalar int64, the number of labels whose weight is above 0.
    """

    sums: LossSums
    count: tf.Tensor
    labels: tf.Tensor | None
    label_count: tf.Tensor


def sums(
    losses: Sequence[NamedLoss],
    predictions: Predictions,
    batch: Batch,
    parts: Sequence[tf.Tensor | None] = (None,),
    batch_size: int | None = None,
) -> tuple[LossSums, ...]:
    """Σ w·ℓ and Σ w of every loss over a replica's part of the batch; call it in replica context.

    Args:
      losses: the losses.
      predictions: of the model, batch first.
      batch: `targets` and perhaps `weights`, as `losses.compute` has them; what `batch_sizes` names where sizes vary.
      parts: which examples count, as `losses.sums` has it; the losses are those of the first part, then those of the
        next. Losses that compare examples need a single part, of all.
      batch_size: examples of the global batch, the most where sizes vary; None: that of this replica is all of it.
    """
    compared = _compared(losses, predictions, batch, batch_size, partial=batch_sizes.EXAMPLES in batch)

    def of_one(loss: NamedLoss, part: tf.Tensor | None) -> LossSums:
        if loss.over is None:
            found = losses_lib.sums(loss, predictions, batch, part)
        else:
            examples = compared(loss)
            found = losses_lib.sums(loss, examples.predictions, examples.batch, examples.counted)
        return found.where(~batch[batch_sizes.EMPTY]) if batch_sizes.EMPTY in batch else found

    return tuple(of_one(loss, part) for part in parts for loss in losses)


def evaluated(
    losses: Sequence[NamedLoss], predictions: Predictions, batch: Batch, largest_batch: int
) -> tuple[Evaluated, ...]:
    """The sums and the labels of every loss over a replica's part of a batch of an evaluation.

    Args:
      losses: the losses.
      predictions: of the model, batch first.
      batch: `targets` and perhaps `weights`, as `losses.compute` has them.
      largest_batch: the most examples that a batch of all replicas has.
    """
    compared = _compared(losses, predictions, batch, largest_batch, partial=True)
    return tuple(_evaluated(loss, predictions, batch, compared) for loss in losses)


def _evaluated(
    loss: NamedLoss, predictions: Predictions, batch: Batch, compared: Callable[[NamedLoss], _Compared]
) -> Evaluated:
    if loss.over is None:
        found = losses_lib.compute(loss, predictions, batch)
        return Evaluated(loss_sums.of_values(found), found.left(), found.labels, found.label_count())
    examples = compared(loss)
    found = losses_lib.compute(loss, examples.predictions, examples.batch)
    sums_of_own = loss_sums.of_values(found, examples.counted)
    weights, mask = batch.get("weights", {}).get(loss.target), loss.mask(predictions)
    of_own = labels.product((weights, mask), found.values.dtype)
    count = sums_of_own.left
    if count is None:  # examples without a label count here, though they are not compared
        rows = tf.shape(predictions.outputs[loss.head])[0]
        count = sums_of_own.values_per_example * tf.cast(rows, found.values.dtype)
    return Evaluated(sums_of_own, count, of_own, found.label_count(examples.counted))


def _compared(
    losses: Sequence[NamedLoss], predictions: Predictions, batch: Batch, batch_size: int | None, *, partial: bool
) -> Callable[[NamedLoss], _Compared]:
    """Returns a function from a loss to the labelled examples it compares; `partial`: that of `gathering.share`."""
    own = _Compared(predictions, batch, None)
    over_all = [loss for loss in losses if loss.over == GLOBAL_BATCH]
    of_all = _global_batch(over_all, predictions, batch, batch_size, partial)
    return lambda loss: _labelled(loss, of_all if loss.over == GLOBAL_BATCH else own)


def gathered(losses: Sequence[NamedLoss], predictions: Predictions, batch: Mapping[str, Any]) -> dict[tuple, Any]:
    """Returns what some losses read, by (kind, name): heads, masks, targets and weights, whose rows are gathered.

    Args:
      losses: those over the global batch.
      predictions: of the model, or what has their shapes and dtypes.
      batch: `targets` and perhaps `weights`, or specifications of them.
    """
    weights = batch.get("weights", {})
    found = {("outputs", loss.head): predictions.outputs[loss.head] for loss in losses}
    found |= {("masks", loss.head): predictions.masks[loss.head] for loss in losses if loss.head in predictions.masks}
    found |= {("targets", loss.target): batch["targets"][loss.target] for loss in losses}
    return found | {("weights", loss.target): weights[loss.target] for loss in losses if loss.target in weights}


def _global_batch(
    losses: Sequence[NamedLoss],
    predictions: Predictions,
    batch: Batch,
    batch_size: int | None,
    partial: bool,
) -> _Compared:
    """The global batch as these losses read it."""
    if not losses or tf.distribute.get_replica_context().num_replicas_in_sync == 1:
        return _Compared(predictions, batch, None)
    own = gathered(losses, predictions, batch)
    if batch_sizes.EMPTY in batch:
        own = {key: rows[: batch[batch_sizes.EXAMPLES]] for key, rows in own.items()}
    first = next(iter(own.values()))
    share = gathering.share(first, batch_size, partial=partial)
    found: dict[str, dict[str, tf.Tensor]] = {kind: {} for kind in ("outputs", "masks", "targets", "weights")}
    for (kind, name), rows in gathering.gathered(own, share).items():
        found[kind][name] = rows
    return _Compared(Predictions(found.pop("outputs"), found.pop("masks")), found, share.mask(first.dtype))


def _labelled(loss: NamedLoss, compared: _Compared) -> _Compared:
    """The examples that have a label for a loss."""
    weights, masks = compared.batch.get("weights", {}).get(loss.target), compared.predictions.masks
    found = [each for each in (weights, masks.get(loss.head)) if each is not None]
    if not found:
        return compared
    there = tf.reduce_all([labels.of_examples(each) for each in found], axis=0)

    def kept(values: tf.Tensor) -> tf.Tensor:
        return tf.boolean_mask(values, there)

    batch = {"targets": {loss.target: kept(compared.batch["targets"][loss.target])}}
    return _Compared(
        Predictions(
            {loss.head: kept(compared.predictions.outputs[loss.head])},
            {head: kept(mask) for head, mask in masks.items() if head == loss.head},
        ),
        batch if weights is None else batch | {"weights": {loss.target: kept(weights)}},
        None if compared.counted is None else kept(compared.counted),
    )
