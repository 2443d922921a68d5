"""Sums of losses, also of those that compare examples with one another (`losses.<name>.over`).

Such a loss is computed of all examples that are compared: those of the replica, or those of the global batch, which
every replica then has. Examples without a label (weight 0) are left out before its function sees them, so that nothing
is compared with a label that is not there. Of the global batch every replica counts its own examples, so that sums over
replicas are right, and takes the gradient of the sum over all examples with respect to its own: what an example's
prediction changes in the values of others belongs to its gradient.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from trainer.components import batch_sizes, labels, loss_sums, reading
from trainer.components import losses as losses_lib
from trainer.components.loss_sums import LossSums, LossValues
from trainer.components.losses import NamedLoss
from trainer.components.predictions import Predictions
from trainer.config.loss_settings import GLOBAL_BATCH
from trainer.config.paths import HEADS, INPUTS, LAYERS, TARGETS
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
      values: one by one; None of a loss that compares examples.
    """

    sums: LossSums
    count: tf.Tensor
    labels: tf.Tensor | None
    label_count: tf.Tensor
    values: LossValues | None


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


def label_weights(loss: NamedLoss, predictions: Predictions, batch: Batch) -> tf.Tensor | None:
    """The weight of every label of a replica's examples, as `Evaluated.labels`, of a loss with a head and a target."""
    if loss.ignored_class is None and not loss.nan_is_missing:
        return labels.product((reading.weight(loss.paths, batch), loss.mask(predictions)), keras.config.floatx())
    return losses_lib.compute(loss, predictions, batch).labels


def _evaluated(
    loss: NamedLoss, predictions: Predictions, batch: Batch, compared: Callable[[NamedLoss], _Compared]
) -> Evaluated:
    if loss.over is None:
        found = losses_lib.compute(loss, predictions, batch)
        return Evaluated(loss_sums.of_values(found), found.left(), found.labels, found.label_count(), found)
    examples = compared(loss)
    found = losses_lib.compute(loss, examples.predictions, examples.batch)
    sums_of_own = loss_sums.of_values(found, examples.counted)
    of_own = labels.product((reading.weight(loss.paths, batch), loss.mask(predictions)), found.values.dtype)
    count = sums_of_own.left
    if count is None:  # examples without a label count here, though they are not compared
        rows = tf.shape(next(iter(predictions.outputs.values())))[0]
        count = sums_of_own.values_per_example * tf.cast(rows, found.values.dtype)
    return Evaluated(sums_of_own, count, of_own, found.label_count(examples.counted), None)


def _compared(
    losses: Sequence[NamedLoss], predictions: Predictions, batch: Batch, batch_size: int | None, *, partial: bool
) -> Callable[[NamedLoss], _Compared]:
    """Returns a function from a loss to the labelled examples it compares; `partial`: that of `gathering.share`."""
    own = _Compared(predictions, batch, None)
    over_all = [loss for loss in losses if loss.over == GLOBAL_BATCH]
    of_all = _global_batch(over_all, predictions, batch, batch_size, partial)
    return lambda loss: _labelled(loss, of_all if loss.over == GLOBAL_BATCH else own)


def gathered(losses: Sequence[NamedLoss], predictions: Predictions, batch: Mapping[str, Any]) -> dict[tuple, Any]:
    """Returns what some losses read, by (kind, name): heads, masks, targets, weights, inputs, whose rows are gathered.

    Args:
      losses: those over the global batch; they read no layers.
      predictions: of the model, or what has their shapes and dtypes.
      batch: `targets` and perhaps `weights`, or specifications of them.
    """
    weights, masks = batch.get("weights", {}), predictions.masks
    heads, targets, inputs = (
        [name for loss in losses for name in loss.names(kind)] for kind in (HEADS, TARGETS, INPUTS)
    )
    found = {("outputs", head): predictions.outputs[head] for head in heads}
    found |= {("masks", head): masks[head] for head in heads if head in masks}
    found |= {("targets", target): batch["targets"][target] for target in targets}
    found |= {("weights", target): weights[target] for target in targets if target in weights}
    return found | {("inputs", name): predictions.inputs[name] for name in inputs}


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
    found: dict[str, dict[str, tf.Tensor]] = {kind: {} for kind in ("outputs", "masks", "targets", "weights", "inputs")}
    for (kind, name), rows in gathering.gathered(own, share).items():
        found[kind][name] = rows
    of_model = {kind: found.pop(kind) for kind in ("outputs", "masks", "inputs")}
    return _Compared(Predictions(**of_model), found, share.mask(first.dtype))


def _labelled(loss: NamedLoss, compared: _Compared) -> _Compared:
    """The examples that have a label for a loss."""
    predictions, batch = compared.predictions, compared.batch
    found = reading.weights_of(loss.paths, batch) + reading.masks_of(loss.paths, predictions)
    if loss.nan_is_missing and loss.reads is not None:
        found += reading.without_nan(loss.reads, loss.arguments(predictions, batch))[1]
    if not found:
        return compared
    there = tf.reduce_all([labels.of_examples(each) for each in found], axis=0)

    def kept(tensors: Mapping[str, tf.Tensor], kind: str) -> dict[str, tf.Tensor]:
        return {name: tf.boolean_mask(each, there) for name, each in tensors.items() if name in loss.names(kind)}

    return _Compared(
        Predictions(
            kept(predictions.outputs, HEADS),
            kept(predictions.masks, HEADS),
            kept(predictions.layers, LAYERS),
            kept(predictions.layer_masks, LAYERS),
            kept(predictions.inputs, INPUTS),
        ),
        {"targets": kept(batch["targets"], TARGETS), "weights": kept(batch.get("weights", {}), TARGETS)},
        None if compared.counted is None else tf.boolean_mask(compared.counted, there),
    )
