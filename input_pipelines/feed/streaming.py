"""Batches read while training: blocks of records in a seeded order, shuffled window by window.

An epoch visits the blocks of a split in an order drawn from (seed, epoch). Some blocks after one another in that order,
from all over the split, are a window; its records are shuffled by a permutation drawn from (seed, epoch, window). So
the batch of every step is known without reading what comes before, and a start anywhere reads one window at most.
Every worker reads the records and decodes only its own.
"""

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines.feed import splits, usable
from input_pipelines.feed.augmentation import Augmentation
from input_pipelines.preparation.preparation import Preparation
from input_pipelines.sources.source import Source
from trainer.common.errors import ConfigError

_PARALLEL_READS = 2
_CORES = len(os.sched_getaffinity(0))
_DECODED_AT_ONCE = 64  # examples: what one core decodes while others do the same
_PREFETCHED = 4  # elements: two steps of two replicas
_ORDER, _WITHIN = 0, 1  # what permutations are drawn for


@dataclasses.dataclass(frozen=True)
class Streamed:
    """A split that is read while it is used (see `splits.Split`).

    Attributes:
      source: the split, with records.
      preparation: makes inputs, targets and weights of its features.
      augmentation: random changes of training examples.
      classes: target → how many classes it may have, and the one beside them that a loss ignores, or None.
    """

    source: Source
    preparation: Preparation
    augmentation: Augmentation | None = None
    classes: Mapping[str, tuple[int, int | None]] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def spec(self) -> splits.Structure:
        """See `splits.Split`."""
        spec = self.preparation.spec
        return spec if self.augmentation is None else self.augmentation.changed(spec)

    @property
    def categories(self) -> Mapping[str, tuple[int, ...]]:
        """See `splits.Split`."""
        return self.preparation.categories()

    def __len__(self) -> int:
        return len(self.source)

    @property
    def largest_batch(self) -> int:
        """See `splits.Split`."""
        return len(self)

    def training(self, *, batch_size: int, seed: int, first_step: int, ends: Sequence[int]) -> tf.data.Dataset:
        """See `splits.Split`."""
        records = self._shuffled(seed, first_step * batch_size)
        mine = records.rebatch(batch_size, drop_remainder=True).map(
            lambda *batch: tuple(tf.ensure_shape(column[ends[0] : ends[-1]], [ends[-1] - ends[0]]) for column in batch)
        )
        # Pieces of equal size keep all cores busy; a step's own share is put together afterwards.
        pieces = mine.rebatch(min(_DECODED_AT_ONCE, ends[-1] - ends[0]), drop_remainder=False)
        elements = pieces.map(lambda *piece: self._example(*piece, seed), num_parallel_calls=_CORES, deterministic=True)
        return splits.cut(elements, ends).prefetch(_PREFETCHED).with_options(splits.ordered())

    def evaluation(self, *, batch_size: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
        """See `splits.Split`."""
        replicas, local = context.num_replicas_in_sync, splits.local_replicas(context)
        parts = np.diff(splits.evaluation_ends(len(self), batch_size, replicas))
        records = tf.data.Dataset.zip(self.source.records.in_order(), tf.data.Dataset.counter())
        mine = (
            records.batch(int(parts.max()))
            .rebatch(parts.tolist())
            .enumerate()
            .filter(lambda part, _: tf.math.logical_and(part % replicas >= local.start, part % replicas < local.stop))
        )
        elements = mine.map(
            lambda _, part: self._example(*part, tf.zeros_like(part[1]), None),
            num_parallel_calls=_CORES,
            deterministic=True,
        )
        if len(set(parts.tolist())) == 1:
            elements = elements.map(
                lambda batch: tf.nest.map_structure(
                    lambda values: tf.ensure_shape(values, [int(parts[0]), *values.shape[1:]]), batch
                )
            )
        return elements.prefetch(_PREFETCHED).with_options(splits.ordered())

    def evaluation_steps(self, batch_size: int, replicas: int) -> int:
        """See `splits.Split`."""
        return splits.evaluation_steps(len(self), batch_size, replicas)

    def first(self, count: int) -> splits.Structure:
        """See `splits.Split`."""
        count = min(count, len(self))
        records = tf.data.Dataset.zip(self.source.records.in_order(), tf.data.Dataset.counter())
        serialized, indices = next(iter(records.batch(count)))
        batch = self._compiled(None)(serialized, indices, indices)
        return tf.nest.map_structure(lambda values: values.numpy(), batch)

    def labels(self, targets: Sequence[str]) -> Iterator[splits.Labels]:
        """See `splits.Split`."""
        prepare = self.preparation.of_targets(targets)
        for chunk in self.source.chunks(prepare.features):
            batch = prepare.of_arrays(chunk)
            weights = {name: values.numpy() for name, values in batch.get("weights", {}).items()}
            yield {name: (batch["targets"][name].numpy(), weights.get(name)) for name in targets}

    def check_classes(self, target: str, classes: int, ignored: int | None = None) -> "Streamed":
        """See `splits.Split`."""
        return dataclasses.replace(self, classes={**self.classes, target: (classes, ignored)})

    def check_first(self, field: str) -> None:
        """Raises ConfigError, for the split's key `field`, where its first example cannot be read or prepared."""
        serialized = tf.constant(b"")
        try:
            serialized = next(iter(self.source.records.in_order()))
            self.first(1)
        except (tf.errors.OpError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(field, self.source.where(0), self._reason(serialized, error)) from error

    def reason(self, step: int, batch_size: int, seed: int) -> str | None:
        """See `splits.Split`."""
        batches = self._shuffled(seed, step * batch_size).rebatch(batch_size, drop_remainder=True)
        example = self._compiled(seed)
        try:
            for serialized, indices, positions in batches.take(-(-len(self) // batch_size) + 1):
                try:
                    example(serialized, indices, positions)
                except (tf.errors.OpError, ValueError):
                    for number, index in enumerate(indices.numpy().tolist()):
                        one = slice(number, number + 1)
                        try:
                            example(serialized[one], indices[one], positions[one])
                        except (tf.errors.OpError, ValueError) as error:
                            return f"{self.source.where(index)}: {self._reason(serialized[number], error)}"
        except tf.errors.OpError:  # a record that cannot even be read
            found = self.source.records.first_unreadable(0, self.preparation.features)
            return None if found is None else f"{self.source.where(found[0])}: {found[1]}"
        return None

    def _shuffled(self, seed: int, first_position: int) -> tf.data.Dataset:
        """(window's) serialized examples, their places in the split and their positions, from a position on."""
        records = self.source.records
        blocks, mixed = len(records.sizes), records.mixed_blocks
        windows = -(-blocks // mixed)
        sizes, starts = tf.constant(records.sizes), tf.constant(records.starts)
        epoch, skipped = divmod(first_position, len(self))
        words = splits.seed_words(seed)

        def order_of(epoch: tf.Tensor) -> tf.Tensor:
            return _permutation(blocks, words, _ORDER, epoch)

        ends = np.cumsum(records.sizes[order_of(tf.constant(epoch, tf.int64)).numpy()])
        window_ends = ends[np.minimum(np.arange(1, windows + 1) * mixed, blocks) - 1]
        window = int(np.searchsorted(window_ends, skipped, side="right"))
        start_of_window = 0 if window == 0 else int(window_ends[window - 1])

        def read(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            epoch, window = number // windows, number % windows
            order = order_of(epoch)
            chosen = order[window * mixed : (window + 1) * mixed]
            before = tf.reduce_sum(tf.gather(sizes, order[: window * mixed]))
            of_blocks = tf.gather(sizes, chosen)
            count = tf.reduce_sum(of_blocks)
            serialized = (
                tf.data.Dataset.from_tensor_slices(chosen).flat_map(records.read).batch(count).get_single_element()
            )
            places = tf.ragged.range(tf.gather(starts, chosen), tf.gather(starts, chosen) + of_blocks).values
            shuffled = _permutation(count, words, _WITHIN, epoch, window)
            positions = epoch * len(self) + before + tf.range(count)
            return tf.gather(serialized, shuffled), tf.gather(places, shuffled), positions

        numbers = tf.data.Dataset.counter(epoch * windows + window)
        read_windows = numbers.map(read, num_parallel_calls=_PARALLEL_READS, deterministic=True)
        first = skipped - start_of_window
        if first:
            read_windows = read_windows.enumerate().map(
                lambda number, columns: tuple(
                    column[tf.where(tf.equal(number, 0), tf.constant(first, tf.int64), 0) :] for column in columns
                )
            )
        return read_windows

    def _example(
        self, serialized: tf.Tensor, indices: tf.Tensor, positions: tf.Tensor, seed: int | None
    ) -> splits.Structure:
        """A prepared batch; changed at random where there is a seed."""
        features = self.source.records.decode(serialized, indices, self.preparation.features)
        batch = self.preparation(features)
        checks = [*usable.numbers(batch, self.preparation)]
        checks += [usable.classes(name, batch["targets"][name], *each) for name, each in self.classes.items()]
        with tf.control_dependencies([usable.assertion(check) for check in checks]):
            batch = tf.nest.map_structure(tf.identity, batch)
        if self.augmentation is not None and seed is not None:
            batch = self.augmentation(batch, seed, positions)
        return batch

    def _reason(self, serialized: tf.Tensor, error: Exception) -> str:
        return self.source.records.reason(serialized, self.preparation.features, error)

    def _compiled(self, seed: int | None) -> Any:
        """`_example` as a graph: what fails in one says why in a line of its own."""
        return tf.function(functools.partial(self._example, seed=seed), autograph=False)


def _permutation(count: Any, words: Sequence[int], *purpose: Any) -> tf.Tensor:
    """A permutation of range(count) drawn from the seed and the purpose."""
    seed = tf.constant(words, tf.int64)
    for number in purpose:
        seed = tf.random.experimental.stateless_fold_in(seed, tf.cast(number, tf.int64))
    return tf.random.experimental.stateless_shuffle(tf.range(tf.cast(count, tf.int64)), seed)
