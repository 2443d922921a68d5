"""Batches whose size varies: cut into micro-batches, counted, and with exact zeros from a replica without an example.

Such a batch comes whole. A replica's share of it is cut into contiguous micro-batches whose sizes differ by one example
at most, so that some may be empty, and so may be the share of a small last batch. The model runs on every replica, so
that collectives within it match, but without an example its results do not count: sums and gradients are replaced by
zeros, not multiplied, as they may be no numbers, and variables that layers change by themselves get their values back.

In place of no example stands one of zeros, as not every operation takes none. Not so in a model with synchronized batch
normalization: there it would be among what the statistics are of, which do without, and move on all replicas alike.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from trainer.components import batch_sizes
from trainer.distributed import gathering, replica_state
from trainer.step import absence, replicas
from trainer.step.objectives import Objectives


def accumulated(
    objectives: Objectives,
    strategy: tf.distribute.Strategy,
    count: int,
    iterator: Any,
    batch: Any,
    step: tf.Tensor,
    accumulate: Callable[..., Any],
    args: tuple,
    placed: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda share: share,
) -> Any:
    """Runs `accumulate` on every replica and every micro-batch of a step, and sums, as `replicas.over_micro_batches`.

    Args:
      objectives: the losses; where the size of batches varies, `batch` is the whole one, and is cut.
      strategy: where.
      count: micro-batches in a step.
      iterator: gives those after the first; not used where the size varies.
      batch: the first, or the whole batch.
      step: number of the step.
      accumulate: returns a named tuple as `replicas.over_micro_batches` takes it, whose field `GRADIENTS` is zeros
        where there is no example.
      args: more arguments.
      placed: adds to a replica's share of a batch whose size varies what `accumulate` needs to know of its place.
    """
    if not objectives.varying:
        return replicas.over_micro_batches(strategy, count, iterator, batch, step, accumulate, args)

    def of_part(whole: Mapping[str, Any], micro_step: tf.Tensor, *args: Any) -> Any:
        share = placed(whole)
        part = share if count == 1 else _cut(share, micro_step % count, count)
        part = counted(part, objectives.model, cut=count > 1)
        with kept_if_empty(objectives.model, part):
            found = accumulate(part, micro_step, *args)
        return found._replace(**{found.GRADIENTS: zeros_if_empty(getattr(found, found.GRADIENTS), part)})

    return replicas.over_micro_batches(strategy, count, itertools.repeat(batch), batch, step, of_part, args)


def counted(part: Mapping[str, Any], model: keras.Model, *, cut: bool = False) -> dict[str, Any]:
    """Returns a replica's part of a batch with the number of its examples; call it in replica context.

    Args:
      part: `inputs`, `targets` and perhaps `weights`: dense tensors of known rank, where it may be empty.
      model: the model that will be called on it.
      cut: whether it was cut out of this replica's share.

    Returns:
      `part` with `batch_sizes.EXAMPLES`; and where it may be empty with `batch_sizes.EMPTY`, and perhaps with an
      example of zeros in place of none.
    """
    examples = batch_sizes.rows(part)
    alone = tf.distribute.get_replica_context().num_replicas_in_sync == 1 and not cut
    sizes = {batch_sizes.EXAMPLES: examples}
    if alone:
        return {**part, **sizes}
    empty = tf.equal(examples, 0)
    if synchronized(model):
        return {**part, **sizes, batch_sizes.EMPTY: empty}
    if tf.get_static_value(examples):  # known while tracing, and not 0
        return {**part, **sizes}

    def zeros() -> Any:
        return tf.nest.map_structure(_example_of_zeros, part)

    def itself() -> Any:
        return tf.nest.map_structure(tf.identity, part)

    found = tf.cond(empty, zeros, itself)
    for tensor, original in zip(tf.nest.flatten(found), tf.nest.flatten(part), strict=True):
        if not tf.executing_eagerly():
            tensor.set_shape([None, *original.shape[1:]])
    return {**found, **sizes, batch_sizes.EMPTY: empty}


def zeros_if_empty(gradients: Any, part: Mapping[str, Any]) -> Any:
    """A structure of gradients, not copied; zeros where the part, which `counted` returned, has no example."""
    if batch_sizes.EMPTY not in part:
        return gradients
    found = absence.or_zeros(tf.nest.flatten(gradients), ~part[batch_sizes.EMPTY])
    return tf.nest.pack_sequence_as(gradients, found)


@contextlib.contextmanager
def kept_if_empty(model: keras.Model, part: Mapping[str, Any]) -> Iterator[None]:
    """Keeps what layers change by themselves as it was before this context, where the part has no example."""
    if batch_sizes.EMPTY not in part:
        yield
        return
    shared = [variable for layer in synchronized(model) for variable in layer.non_trainable_variables]
    of_all = {id(variable) for variable in shared}
    own = [each for each in replica_state.changed_by_layers(model) if id(each) not in of_all]
    with contextlib.ExitStack() as stack:
        stack.enter_context(replica_state.kept(own, where=part[batch_sizes.EMPTY]))
        if shared:
            examples = gathering.summed(tf.cast(part[batch_sizes.EXAMPLES], tf.int64))
            stack.enter_context(replica_state.kept(shared, where=tf.equal(examples, 0)))
        yield


def synchronized(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers whose statistics are those of all replicas."""
    normalizing = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    return [layer for layer in normalizing if layer.synchronized]


def _cut(whole: Mapping[str, Any], index: tf.Tensor, count: int) -> Any:
    """Micro-batch `index` of `count` of a replica's share; of few examples the first ones have one."""
    examples = tf.cast(batch_sizes.rows(whole), tf.int64)
    first, end = (-(-place * examples // count) for place in (index, index + 1))
    return tf.nest.map_structure(lambda rows: rows[first:end], whole)


def _example_of_zeros(rows: tf.Tensor) -> tf.Tensor:
    """An example of zeros of the shape of some rows; what of that is not known while tracing is at least 1."""
    shape = tf.shape(rows)
    known = rows.shape.as_list()[1:]
    later = [tf.maximum(shape[axis], 1) if size is None else size for axis, size in enumerate(known, start=1)]
    return tf.zeros([1, *later], rows.dtype)
