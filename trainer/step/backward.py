"""Forward and backward passes over a replica's part of a batch: every loss's gradients, or those of a weighted sum."""

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import keras
import tensorflow as tf

from trainer.common.errors import ConfigError, first_line
from trainer.components import batch_sizes, comparisons
from trainer.components.loss_sums import LossSums, over_parts
from trainer.components.losses import NamedLoss
from trainer.components.predictions import Predictions
from trainer.config.settings import PASSES
from trainer.distributed import replica_state
from trainer.gradients.reach import Jacobian, Reach
from trainer.models import forward_pass

Extra = TypeVar("Extra")
# Given predictions, batch and every loss's sums over it, as `Objectives.watch`.
Watch = Callable[[Predictions, Mapping[str, Any], Sequence[LossSums]], None]


def per_loss_gradients(
    model: keras.Model,
    losses: Sequence[NamedLoss],
    reach: Reach,
    batch: Mapping[str, Any],
    scale: tf.Tensor | None = None,
    parts: Sequence[tf.Tensor | None] = (None,),
    batch_size: int | None = None,
    watch: Watch | None = None,
    at_once: int = 1,
) -> tuple[Jacobian, tuple[LossSums, ...]]:
    """One forward pass and one backward pass per loss, over this replica's part of the batch.

    Args:
      model: the model; called with `training=True`.
      losses: the K losses.
      reach: which of them reach which variable.
      batch: `inputs`, `targets` and perhaps `weights`.
      scale: scalar float32 by which every loss is multiplied for its backward pass; None: 1.
      parts: which examples count, as `losses.sums` has it; the losses are those of the first part, then those of the
        next, and `reach` is of all of them.
      batch_size: examples of the global batch, as `comparisons.sums` has it.
      watch: is shown predictions, batch and sums over all parts, which are not differentiated; None: nobody is.
      at_once: backward passes that may be taken at the same time, each of which needs memory.

    Returns:
      For every variable of `reach`, the gradients of Σ w·ℓ of the losses that reach it (dense, of the variable's
      shape), times `scale`; and every loss's sums.
    """
    with reach.recording() as tape:
        predictions = _predictions(model, losses, batch)
        sums = comparisons.sums(losses, predictions, batch, parts, batch_size)
    show(watch, predictions, batch, sums, len(losses))
    columns: list[dict[int, tf.Tensor]] = [{} for _ in reach.variables]
    before: collections.deque[list[tf.Tensor]] = collections.deque([[]] * at_once, at_once)
    for k, loss_sums in enumerate(sums):
        positions = reach.reached_by(k)
        with tf.control_dependencies(before[0]):  # not all passes at once, with the memory of all
            upstream = tf.ones_like(loss_sums.loss_sum) if scale is None else tf.identity(scale)
        gradients = tape.gradient(
            loss_sums.loss_sum,
            [reach.variables[v].value for v in positions],
            output_gradients=upstream,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]  # an embedding's sparse one made dense
        before.append(gradients)
        for v, gradient in zip(positions, gradients, strict=True):
            columns[v][k] = gradient
    return tuple(tuple(column[k] for k in by) for column, by in zip(columns, reach.losses, strict=True)), sums


def weighted_gradients(
    model: keras.Model,
    losses: Sequence[NamedLoss],
    reach: Reach,
    batch: Mapping[str, Any],
    weigh: Callable[[Sequence[LossSums]], tuple[tf.Tensor, tf.Tensor, Extra]],
    batch_size: int | None = None,
    watch: Watch | None = None,
) -> tuple[tuple[tf.Tensor, ...], Extra]:
    """One forward and one backward pass of a weighted sum of the losses, over this replica's part of the batch.

    Args:
      model: the model; called with `training=True`.
      losses: the K losses.
      reach: which of them reach which variable.
      batch: `inputs`, `targets` and perhaps `weights`.
      weigh: given every loss's sums, returns (K,) factors for shared variables, (K,) factors for task-specific ones
        (the same tensor where they are the same), and anything more.
      batch_size: examples of the global batch, as `comparisons.sums` has it.
      watch: as `per_loss_gradients` has it.

    Returns:
      For every variable of `reach` its gradient of Σ factorₖ Σ w·ℓₖ; and what else `weigh` returned.
    """
    with reach.recording() as tape:
        predictions = _predictions(model, losses, batch)
        found = comparisons.sums(losses, predictions, batch, batch_size=batch_size)
        with tape.stop_recording():  # the factors are constants; a sum across replicas would be differentiated too
            shared, own, extra = weigh(found)
        values = tf.stack([loss.loss_sum for loss in found])
        total = tf.reduce_sum(tf.cast(shared, values.dtype) * values)
        total_of_own = total if own is shared else tf.reduce_sum(tf.cast(own, values.dtype) * values)
    show(watch, predictions, batch, found, len(losses))
    everything = tuple(range(len(reach.variables)))
    parts = [(total, everything)] if own is shared else [(total, reach.shared), (total_of_own, reach.not_shared)]
    gradients: dict[int, tf.Tensor] = {}
    for objective, positions in parts:
        found_gradients = tape.gradient(
            objective,
            [reach.variables[v].value for v in positions],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        gradients |= dict(zip(positions, map(tf.convert_to_tensor, found_gradients), strict=True))
    return tuple(gradients[v] for v in everything), extra


def forward(
    model: keras.Model,
    losses: Sequence[NamedLoss],
    batch: Mapping[str, Any],
    batch_size: int | None = None,
) -> tuple[LossSums, ...]:
    """Every loss's sums over the batch, the model called once with `training=True`."""
    return comparisons.sums(losses, _predictions(model, losses, batch), batch, batch_size=batch_size)


def _predictions(model: keras.Model, losses: Sequence[NamedLoss], batch: Mapping[str, Any]) -> Predictions:
    return forward_pass.predict(model, losses, batch["inputs"], training=True)


def show(
    watch: Watch | None, predictions: Predictions, batch: Mapping[str, Any], sums: Sequence[LossSums], count: int
) -> None:
    """Calls `watch` with the sums of `count` losses over all parts of a batch, unless no example is in the batch."""
    if watch is None:
        return
    whole = over_parts(sums, count)
    if batch_sizes.EMPTY in batch:
        replica_state.run_if(~batch[batch_sizes.EMPTY], lambda: watch(predictions, batch, whole))
    else:
        watch(predictions, batch, whole)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, compiled with XLA; its call raises ConfigError where XLA cannot differentiate once more."""

    def call(*args: Any) -> Any:
        try:
            return tf.function(lambda: function(*args), autograph=False, jit_compile=True)()
        except LookupError as error:
            if type(error) is not LookupError:
                raise
            reason = f"takes derivatives of an operation that has none with XLA; leave it 'off': {first_line(error)}"
            raise ConfigError("compile", PASSES, reason) from error

    return call


def as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`."""
    return function
