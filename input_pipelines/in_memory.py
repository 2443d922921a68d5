"""Batches from a split held in memory: a pure function of (configuration, seed, step).

The examples of step s are positions s·B to (s + 1)·B - 1 of an endless sequence of epochs, each epoch a permutation
drawn from (seed, epoch). A pipeline can therefore start at any step at no cost, has no state to save, and gives the
same global batch whatever the number of replicas: replica r takes its contiguous share of it, shares differing by one
example at most.
"""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from input_pipelines.examples import Examples

_PARALLEL_CALLS = 2
_PREFETCHED = 4  # elements: two steps of two replicas
_STEPS_PER_BLOCK = 16
_BLOCK_BYTES = 2**24


def training_batches(
    examples: Examples, *, batch_size: int, seed: int, first_step: int, context: tf.distribute.InputContext
) -> tf.data.Dataset:
    """Endless training data, one element per replica of this worker and step, in that order.

    Args:
      examples: the split.
      batch_size: examples of the global batch; at most the size of the split.
      seed: of the order.
      first_step: step of the first element.
      context: which replicas this pipeline feeds, as `strategy.distribute_datasets_from_function` gives it.

    Returns:
      A dataset of `{"inputs": ..., "targets": {...}, "weights": {...}}`, batch first.
    """
    count = len(examples)
    replicas, local = context.num_replicas_in_sync, context.num_replicas_in_sync // context.num_input_pipelines
    first_replica = context.input_pipeline_id * local
    ends = [replica * batch_size // replicas for replica in range(first_replica, first_replica + local + 1)]
    shares = [stop - start for start, stop in zip(ends[:-1], ends[1:], strict=True)]
    steps = _steps_per_block(examples, batch_size)
    seed_words = [seed & 0x7FFFFFFF, seed >> 31]
    gather = _gatherer(examples, static_size=None)

    def block(index: tf.Tensor) -> dict[str, Any]:
        step = first_step + index * steps + tf.range(steps, dtype=tf.int64)
        positions = tf.reshape(step[:, tf.newaxis] * batch_size + tf.range(ends[0], ends[-1], dtype=tf.int64), [-1])
        epochs = positions // count
        in_epoch = functools.partial(_permuted, positions % count, count, seed_words)
        first, last = epochs[0], epochs[-1]  # a block is no larger than the split, so it touches two at most
        indices = tf.cond(
            tf.equal(first, last),
            lambda: in_epoch(first),
            lambda: tf.where(tf.equal(epochs, first), in_epoch(first), in_epoch(last)),
        )
        return gather(indices)

    # Cutting a block up is much cheaper than gathering every batch by itself.
    sizes = shares[0] if len(set(shares)) == 1 else shares
    return _parallel(tf.data.Dataset.counter(), block, lambda blocks: blocks.rebatch(sizes, drop_remainder=True))


def evaluation_batches(examples: Examples, *, batch_size: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
    """Every example exactly once, in order, in nearly equal parts, so that every replica has its share of each step.

    Args:
      examples: the split.
      batch_size: examples of the global batch, about.
      context: which replicas this pipeline feeds.

    Returns:
      A finite dataset of the same structure as `training_batches`, one element per replica of this worker and step.
    """
    count = len(examples)
    replicas, local = context.num_replicas_in_sync, context.num_replicas_in_sync // context.num_input_pipelines
    steps = evaluation_steps(count, batch_size, replicas)
    parts = steps * replicas
    gather = _gatherer(examples, static_size=count // parts if count % parts == 0 else None)

    def element(index: tf.Tensor) -> dict[str, Any]:
        part = index // local * replicas + context.input_pipeline_id * local + index % local
        return gather(tf.range(part * count // parts, (part + 1) * count // parts))

    return _parallel(tf.data.Dataset.range(steps * local), element)


def evaluation_steps(count: int, batch_size: int, replicas: int) -> int:
    """Steps of one evaluation, each of about `batch_size` examples and, if there are enough, one for every replica."""
    return max(1, min(-(-count // batch_size), count // replicas))


def _steps_per_block(examples: Examples, batch_size: int) -> int:
    """How many steps' examples are gathered together: many of small batches, one of large ones."""
    example = sum(array.nbytes for array in tf.nest.flatten(examples.structure)) / len(examples)
    fitting = int(_BLOCK_BYTES / max(1, example * batch_size))
    return max(1, min(_STEPS_PER_BLOCK, fitting, len(examples) // batch_size))


def _permuted(positions: tf.Tensor, count: int, seed_words: list[int], epoch: tf.Tensor) -> tf.Tensor:
    """Where a permutation of range(count), drawn from (seed, epoch), sends `positions`."""
    seed = tf.cast(tf.random.experimental.stateless_fold_in(tf.constant(seed_words, tf.int64), epoch), tf.int64)
    return tf.random.experimental.index_shuffle(positions, seed, tf.constant(count - 1, tf.int64))


def _gatherer(examples: Examples, *, static_size: int | None) -> Any:
    """A function from indices to a batch; its leading dimension is known while tracing where every share is equal."""
    with tf.device("CPU:0"):  # held once, captured by the pipeline, not copied into its graph
        arrays = tf.nest.map_structure(tf.constant, examples.structure)

    def gather(indices: tf.Tensor) -> dict[str, Any]:
        indices = tf.ensure_shape(indices, [static_size])
        return tf.nest.map_structure(lambda array: tf.gather(array, indices), arrays)

    return gather


def _parallel(
    indices: tf.data.Dataset,
    element: Callable[[tf.Tensor], dict[str, Any]],
    cut: Callable[[tf.data.Dataset], tf.data.Dataset] = lambda elements: elements,
) -> tf.data.Dataset:
    """The elements of the indices, made ahead of time, in order, and perhaps cut up."""
    options = tf.data.Options()
    options.deterministic = True
    # Gathering takes the same short time for every batch, so there is nothing to tune; and the tuner's thread has been
    # seen to hang a process that let go of an iterator.
    options.autotune.enabled = False
    elements = indices.map(element, num_parallel_calls=_PARALLEL_CALLS, deterministic=True)
    return cut(elements).prefetch(_PREFETCHED).with_options(options)
