"""Batches from a split held in memory.

Each epoch is a permutation of the split drawn from (seed, epoch). A pipeline can therefore start at any step at no
cost. Replica r takes its contiguous share of the global batch, shares differing by one example at most.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines.examples import Examples
from input_pipelines.feed import splits, usable
from input_pipelines.feed.augmentation import Augmentation
from input_pipelines.sources.source import CHUNK

_PARALLEL_CALLS = 2
_PREFETCHED = 4  # elements: two steps of two replicas
_STEPS_PER_BLOCK = 16
_BLOCK_BYTES = 2**24
# Rounds of Simon, the cipher behind TensorFlow's permutation (https://eprint.iacr.org/2013/404), as published. With the
# four of `index_shuffle` the orders of two epochs are nearly the same (r = 0.9 of 60,000 examples).
_ROUNDS, _THIRD_WORD = 32, 498247692


@dataclasses.dataclass(frozen=True)
class InMemory:
    """A split held in memory (see `splits.Split`).

    Attributes:
      examples: the split.
      augmentation: random changes of training examples.
      categories: input name → the number of categories of each of its columns.
      where: the file and row of an example, in words; None where there are none.
      places: target → the file, row and column of an example's label, in words.
    """

    examples: Examples
    augmentation: Augmentation | None = None
    categories: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    where: Callable[[int], str] | None = None
    places: Mapping[str, Callable[[int], str]] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def spec(self) -> splits.Structure:
        """See `splits.Split`."""
        spec = tf.nest.map_structure(
            lambda array: tf.TensorSpec(array.shape[1:], tf.as_dtype(array.dtype)), self.examples.structure
        )
        return spec if self.augmentation is None else self.augmentation.changed(spec)

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def largest_batch(self) -> int:
        """See `splits.Split`."""
        return len(self)

    def training(self, *, batch_size: int, seed: int, first_step: int, ends: Sequence[int]) -> tf.data.Dataset:
        """See `splits.Split`; the batch may not be larger than the split."""
        steps = _steps_per_block(self.examples, batch_size)
        words = splits.seed_words(seed)
        gather = _gatherer(self.examples, static_size=None)

        def block(index: tf.Tensor) -> dict[str, Any]:
            step = first_step + index * steps + tf.range(steps, dtype=tf.int64)
            positions = tf.reshape(step[:, tf.newaxis] * batch_size + tf.range(ends[0], ends[-1], dtype=tf.int64), [-1])
            batch = gather(_rows(positions, len(self), words))
            return batch if self.augmentation is None else self.augmentation(batch, seed, positions)

        # Cutting a block up is much cheaper than gathering every batch by itself.
        return _parallel(tf.data.Dataset.counter(), block, functools.partial(splits.cut, ends=ends))

    def rows(self, *, batch_size: int, seed: int, first_step: int, steps: int) -> tf.data.Dataset:
        """The rows of the examples that one replica gets in `training`, augmented or not, some steps at a time.

        Args:
          batch_size: examples of the global batch.
          seed: of the order.
          first_step: step of the first batch.
          steps: of each element.

        Returns:
          Elements of (steps, batch_size) int32, without end.
        """

        def element(index: tf.Tensor) -> tf.Tensor:
            first = (first_step + index * steps) * batch_size
            rows = _rows(first + tf.range(steps * batch_size, dtype=tf.int64), len(self), splits.seed_words(seed))
            return tf.reshape(tf.cast(rows, tf.int32), [steps, batch_size])

        return _parallel(tf.data.Dataset.counter(), element)

    def evaluation(self, *, batch_size: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
        """See `splits.Split`; in order."""
        count, replicas, local = len(self), context.num_replicas_in_sync, splits.local_replicas(context)
        steps = self.evaluation_steps(batch_size, replicas)
        parts = steps * replicas
        ends = tf.constant(splits.evaluation_ends(count, batch_size, replicas), tf.int64)
        gather = _gatherer(self.examples, static_size=count // parts if count % parts == 0 else None)

        def element(index: tf.Tensor) -> dict[str, Any]:
            part = index // len(local) * replicas + local.start + index % len(local)
            return gather(tf.range(ends[part], ends[part + 1]))

        return _parallel(tf.data.Dataset.range(steps * len(local)), element)

    def evaluation_steps(self, batch_size: int, replicas: int) -> int:
        """See `splits.Split`."""
        return splits.evaluation_steps(len(self), batch_size, replicas)

    def first(self, count: int) -> splits.Structure:
        """See `splits.Split`."""
        return tf.nest.map_structure(lambda array: array[:count], self.examples.structure)

    def labels(self, targets: Sequence[str]) -> Iterator[splits.Labels]:
        """See `splits.Split`."""
        for first in range(0, len(self), CHUNK):
            chunk = slice(first, first + CHUNK)
            weights = {name: array[chunk] for name, array in self.examples.weights.items()}
            yield {name: (self.examples.targets[name][chunk], weights.get(name)) for name in targets}

    def check_classes(self, target: str, classes: int, ignored: int | None = None) -> "InMemory":
        """See `splits.Split`."""
        labels = self.examples.targets[target]
        wrong = np.argwhere(usable.outside(labels, classes, ignored))
        if len(wrong):
            first = tuple(wrong[0])
            place = self.places[target](int(first[0])) if target in self.places else f"example {first[0]}"
            raise splits.WrongClassError(target, place, "".join(usable.class_words(f"{labels[first]:g}", classes)))
        return self

    def reason(self, step: int, batch_size: int, seed: int) -> str | None:
        """See `splits.Split`: everything was checked when it was read."""
        return None


def _steps_per_block(examples: Examples, batch_size: int) -> int:
    """Returns the number of steps whose examples are gathered together: many of small batches, one of large ones."""
    example = sum(array.nbytes for array in tf.nest.flatten(examples.structure)) / len(examples)
    fitting = int(_BLOCK_BYTES / max(1, example * batch_size))
    return max(1, min(_STEPS_PER_BLOCK, fitting, len(examples) // batch_size))


def _rows(positions: tf.Tensor, count: int, seed_words: list[int]) -> tf.Tensor:
    """Maps int64 positions in the endless sequence of epochs to rows, by the permutation of (seed, epoch) of each."""
    epochs = positions // count
    # What is folded in stands beside a word of the seed alone, so that the seeds of all epochs are made as one.
    word = tf.random.experimental.stateless_fold_in(tf.constant(seed_words, tf.int64), epochs[0])[0]
    keys = tf.stack(
        [tf.fill(tf.shape(epochs), word), epochs, tf.fill(tf.shape(epochs), tf.constant(_THIRD_WORD, tf.int64))], axis=1
    )
    return tf.raw_ops.RandomIndexShuffle(
        index=positions % count,
        seed=tf.cast(keys, tf.uint32),
        max_index=tf.constant(count - 1, tf.int64),
        rounds=_ROUNDS,
    )


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
    element: Callable[[tf.Tensor], Any],
    cut: Callable[[tf.data.Dataset], tf.data.Dataset] = lambda elements: elements,
) -> tf.data.Dataset:
    """The elements of the indices, made ahead of time, in order, and perhaps cut up."""
    elements = indices.map(element, num_parallel_calls=_PARALLEL_CALLS, deterministic=True)
    return cut(elements).prefetch(_PREFETCHED).with_options(splits.ordered())
