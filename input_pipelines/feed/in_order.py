"""Batches of a dataset of `tf.data` in the order in which it gives its examples, over and over.

The batch of step s holds the examples s·B to (s + 1)·B - 1 of the repeated dataset: it alone decides on their order. A
start at another step reads what comes before within the epoch (of a dataset that never ends, all of it) and throws it
away. One process reads; its replicas have contiguous shares of the batch, as of other feeds.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines.examples import Examples, Ordered
from input_pipelines.feed import splits, usable
from input_pipelines.feed.augmentation import Augmentation
from input_pipelines.feed.usable import Check
from trainer.common.durations import ENDLESS
from trainer.common.errors import ConfigError, first_line

_PARALLEL_CALLS = 2
_PREFETCHED = 4  # elements: two steps of two replicas
_FIRST = 32  # examples that are looked at before the first step
_SEARCHED = 2**20  # examples among which one that cannot be used is looked for
_KIND = "tf.data.Dataset"


@dataclasses.dataclass(frozen=True)
class InOrder:
    """A training split that is read in the order of its dataset (see `splits.Split`); it is never evaluated.

    Attributes:
      examples: the split.
      field: the configuration's key of the split.
      augmentation: random changes of training examples.
      classes: target → how many classes it may have, and the one beside them that a loss ignores, or None.
      categories: none.
    """

    examples: Ordered
    field: str
    augmentation: Augmentation | None = None
    classes: Mapping[str, tuple[int, int | None]] = dataclasses.field(default_factory=dict)
    categories: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def spec(self) -> splits.Structure:
        """See `splits.Split`."""
        return self._read if self.augmentation is None else self.augmentation.changed(self._read)

    def __len__(self) -> int:
        return ENDLESS if self.examples.count is None else self.examples.count

    @property
    def largest_batch(self) -> int:
        """See `splits.Split`."""
        return len(self)

    def training(self, *, batch_size: int, seed: int, first_step: int, ends: Sequence[int]) -> tf.data.Dataset:
        """See `splits.Split`.

        Raises:
          ConfigError: the replicas of this worker are not all that there are.
        """
        if ends[0] > 0 or ends[-1] < batch_size:
            raise ConfigError(self.field, _KIND, "is read by one process alone; several workers read arrays or files")
        elements = self._batches(batch_size, first_step).map(
            functools.partial(self._prepared, seed), num_parallel_calls=_PARALLEL_CALLS, deterministic=True
        )
        return splits.cut(elements, ends).prefetch(_PREFETCHED).with_options(splits.ordered())

    def first(self, count: int) -> splits.Structure:
        """See `splits.Split`."""
        _, batch = next(iter(self._batches(min(count, len(self)), 0)))
        return tf.nest.map_structure(lambda values: values.numpy(), self._usable(batch))

    def labels(self, targets: Sequence[str]) -> Iterator[splits.Labels]:
        """See `splits.Split`.

        Raises:
          ConfigError: the dataset never ends.
        """
        if self.examples.count is None:
            raise ConfigError(self.field, _KIND, "never ends, so that the labels of its classes cannot be counted")
        for batch in self.epoch():
            weights = {name: values.numpy() for name, values in batch.get("weights", {}).items()}
            yield {name: (batch["targets"][name].numpy(), weights.get(name)) for name in targets}

    def epoch(self) -> Iterator[splits.Structure]:
        """Yields the batches of one pass over a dataset that ends, in its order and as large as it gives them."""
        return map(self._cast, self.examples.batches)

    def check_classes(self, target: str, classes: int, ignored: int | None = None) -> "InOrder":
        """See `splits.Split`."""
        return dataclasses.replace(self, classes={**self.classes, target: (classes, ignored)})

    def reason(self, step: int, batch_size: int, seed: int) -> str | None:
        """See `splits.Split`."""
        searched = min(len(self), _SEARCHED)
        try:
            for number, batch in self._batches(batch_size, step).take(-(-searched // batch_size) + 1):
                for check in self._checks(self._cast(batch)):
                    if check.wrong.numpy().any():
                        position = int(number) * batch_size + int(check.wrong.numpy().argmax())
                        return f"example {position % len(self)} of {self.field}: {check.words.numpy().decode()}"
        except tf.errors.OpError as error:
            return f"{self.field}: {first_line(error)}"
        return None

    def notes(self) -> list[str]:
        """A line for a dataset that is not the same whenever it is read."""
        if self.examples.repeats:
            return []
        advice = "shuffle(..., seed=0, reshuffle_each_iteration=False) repeats its order"
        return [
            f"{self.field} gives other examples each time it is read, so that a run that is resumed takes other steps "
            f"than one that is not interrupted; {advice}"
        ]

    @functools.cached_property
    def _read(self) -> splits.Structure:
        """The specifications of an example before augmentation."""
        first = self.examples.first.structure
        return tf.nest.map_structure(lambda array: tf.TensorSpec(array.shape[1:], tf.as_dtype(array.dtype)), first)

    def _batches(self, batch_size: int, first_step: int) -> tf.data.Dataset:
        """(step, batch as the dataset gives it) from a step on, without an end."""
        epoch, skipped = self.examples.batches, discarded(self, first_step, batch_size)
        endless = epoch.repeat()
        if skipped:
            endless = epoch.unbatch().skip(skipped).batch(batch_size).concatenate(endless)
        return endless.rebatch(batch_size, drop_remainder=True).enumerate(first_step)

    def _prepared(self, seed: int, step: tf.Tensor, batch: splits.Structure) -> splits.Structure:
        """A batch as a step takes it: checked, changed at random where that is configured."""
        batch = self._usable(batch)
        if self.augmentation is None:
            return batch
        size = tf.nest.flatten(batch)[0].shape[0]
        return self.augmentation(batch, seed, step * size + tf.range(size, dtype=tf.int64))

    def _usable(self, batch: splits.Structure) -> splits.Structure:
        """A batch in the types of the split; fails where an example cannot be used."""
        batch = self._cast(batch)
        with tf.control_dependencies([usable.assertion(check) for check in self._checks(batch)]):
            return tf.nest.map_structure(tf.identity, batch)

    def _cast(self, batch: splits.Structure) -> splits.Structure:
        """A batch in the types of the split, with zeros where a label is missing."""
        batch = tf.nest.map_structure(
            lambda values, leaf: tf.ensure_shape(tf.cast(values, leaf.dtype), [None, *leaf.shape]), batch, self._read
        )
        weights = batch.get("weights", {})
        known = {
            name: _without_missing(values, weights[name]) if name in weights else values
            for name, values in batch["targets"].items()
        }
        return batch | {"targets": known}

    def _checks(self, batch: splits.Structure) -> list[Check]:
        """Checks of what is refused before the first step where a split is held in memory."""
        found = []
        for name, values in batch.get("weights", {}).items():
            wrong = values < 0
            if values.dtype.is_floating:
                wrong = tf.logical_or(wrong, tf.logical_not(tf.math.is_finite(values)))
            of_examples = tf.reduce_any(tf.reshape(wrong, [tf.shape(wrong)[0], -1]), axis=1)
            words = tf.constant(f"weight {name!r} must be finite and at least 0")
            found.append(Check(f"weights.{name}", of_examples, words))
        found += [usable.classes(name, batch["targets"][name], *each) for name, each in self.classes.items()]
        return found


def read(dataset: tf.data.Dataset, field: str) -> Ordered:
    """Looks at a dataset whose elements have the form of `Examples.structure`, as batches or example by example.

    A dataset of batches that ends is read once to count its examples; so is one of examples that does not know its own
    cardinality.

    Args:
      dataset: elements are batches where all their tensors have a first axis that may be of the same length, else
        single examples.
      field: the configuration's key of the split, for errors.

    Raises:
      ConfigError: elements of other kinds than dense tensors whose shapes are known but for the first axis of a
        batch, or a dataset without an example.
    """
    batches = _batched(dataset, field)
    first, again = _first(batches, field), _first(batches, field)
    count = _count(dataset, batches, field)
    pairs = zip(tf.nest.flatten(first), tf.nest.flatten(again), strict=True)
    repeats = all(np.array_equal(one, other, equal_nan=one.dtype.kind == "f") for one, other in pairs)
    return Ordered(Examples(**first), batches, count, repeats)


def whole(dataset: tf.data.Dataset, field: str) -> Examples:
    """All examples of such a dataset as arrays, in its order.

    Raises:
      ConfigError: as of `read`, and for a dataset that never ends.
    """
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ConfigError(field, _KIND, "never ends, and all of it is read before the first step; leave out repeat()")
    batches = list(_read(_batched(dataset, field), field))
    return Examples(**tf.nest.map_structure(lambda *parts: np.concatenate(parts), *batches))


def discarded(split: splits.Split, first_step: int, batch_size: int) -> int:
    """The number of examples that `split.training` reads and throws away before those of a step."""
    return first_step * batch_size % len(split) if isinstance(split, InOrder) else 0


def identity(split: Ordered) -> dict[str, np.ndarray]:
    """Returns arrays that tell a dataset from another: the first examples and their number, or shapes and types alone.

    The latter where the dataset gives other examples each time it is read.
    """
    arrays = splits.flat(split.first.structure)
    arrays = arrays if split.repeats else {name: array[:0] for name, array in arrays.items()}
    return arrays | {"count": np.array(-1 if split.count is None else split.count)}


def _batched(dataset: tf.data.Dataset, field: str) -> tf.data.Dataset:
    """The dataset itself where its elements are batches, else its examples as batches."""
    shapes = [_shape(leaf, field) for leaf in tf.nest.flatten(dataset.element_spec)]
    are_batches = all(shapes) and len({shape[0] for shape in shapes} - {None}) <= 1
    if any(None in shape[int(are_batches) :] for shape in shapes):
        reason = f"must give tensors of known shapes but for the first axis of batches, not {shapes}"
        raise ConfigError(field, _KIND, reason)
    return dataset if are_batches else dataset.batch(_FIRST)


def _shape(leaf: Any, field: str) -> tuple[int | None, ...]:
    if not isinstance(leaf, tf.TensorSpec) or leaf.shape.rank is None:
        raise ConfigError(field, _KIND, f"must give dense tensors of known shapes, not {leaf}")
    return tuple(leaf.shape)


def _first(batches: tf.data.Dataset, field: str) -> splits.Structure:
    """Arrays of the first examples."""
    return next(_read(batches.rebatch(_FIRST), field))


def _read(batches: tf.data.Dataset, field: str) -> Iterator[splits.Structure]:
    """Yields the batches as arrays, at least one."""
    is_empty = True
    with _one_line(field):
        for batch in batches.as_numpy_iterator():
            is_empty = False
            yield batch
    if is_empty:
        raise ConfigError(field, _KIND, "gives no example")


def _count(dataset: tf.data.Dataset, batches: tf.data.Dataset, field: str) -> int | None:
    """The number of examples; None where the dataset never ends."""
    cardinality = int(dataset.cardinality())
    if cardinality == tf.data.INFINITE_CARDINALITY:
        return None
    if batches is not dataset and cardinality != tf.data.UNKNOWN_CARDINALITY:  # its elements are single examples
        return cardinality
    with _one_line(field):
        sizes = batches.map(lambda batch: tf.shape(tf.nest.flatten(batch)[0], tf.int64)[0])
        return int(sizes.reduce(np.int64(0), tf.add))


@contextlib.contextmanager
def _one_line(field: str) -> Iterator[None]:
    """Raises ConfigError where a dataset fails."""
    try:
        yield
    except tf.errors.OpError as error:
        raise ConfigError(field, _KIND, f"cannot be read: {first_line(error)}") from error


def _without_missing(target: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """`target` with zeros where its weight is 0: NaN there would reach the loss, because 0 · NaN is NaN."""
    axes = target.shape.rank - weights.shape.rank
    fitting = weights.shape.as_list()[1:] + [1] * axes
    if axes < 0 or any(own not in (1, size) for own, size in zip(fitting, target.shape.as_list()[1:], strict=True)):
        return target  # weights of the loss's values rather than of the target's; the loss says whether they fit
    missing = tf.reshape(tf.equal(weights, 0), [-1, *fitting])
    return tf.where(missing, tf.zeros((), target.dtype), target)
