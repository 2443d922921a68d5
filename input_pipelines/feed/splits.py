"""The protocol of a split, however it is fed: in memory, streaming, or mixed from several sources.

The examples of step s are positions s·B to (s + 1)·B - 1 of an endless sequence of epochs. A split's batches are a pure
function of (configuration, seed, step): nothing of them depends on the number of replicas or workers, and no iterator
has a state to save.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import tensorflow as tf

from trainer.common.errors import ConfigError

Structure = dict[str, Any]
Labels = dict[str, tuple[np.ndarray, np.ndarray | None]]
Value = TypeVar("Value")


class Split(Protocol):
    """A split of multi-target examples.

    Attributes:
      spec: `inputs`, `targets` and, where labels can be missing, `weights`, as `tf.TensorSpec`s of one example.
      largest_batch: the most examples that a global batch may have.
      categories: input name → the number of categories of each of its columns; for categorical inputs.
    """

    spec: Structure
    largest_batch: int
    categories: Mapping[str, tuple[int, ...]]

    def __len__(self) -> int:
        """The number of examples of an epoch."""

    def training(self, *, batch_size: int, seed: int, first_step: int, ends: Sequence[int]) -> tf.data.Dataset:
        """Endless training data.

        Args:
          batch_size: examples of the global batch.
          seed: of order and augmentation.
          first_step: step of the first batch.
          ends: where the shares of this worker's replicas in the global batch begin, and where the last one ends.

        Returns:
          Elements `{"inputs": ..., "targets": {...}, "weights": {...}}`, batch first: one for every replica and step.
        """

    def evaluation(self, *, batch_size: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
        """Every example exactly once, in nearly equal parts, so that every replica has its share of each step."""

    def evaluation_steps(self, batch_size: int, replicas: int) -> int:
        """The number of steps of `evaluation`."""

    def first(self, count: int) -> Structure:
        """Arrays of the first examples."""

    def labels(self, targets: Sequence[str]) -> Iterator[Labels]:
        """Target → its values and their weights, None where it has none, some examples at a time, before augmentation.

        Every example comes once; nothing but these targets is read.
        """

    def check_classes(self, target: str, classes: int, ignored: int | None = None) -> "Split":
        """Returns this split, checked to hold class indices from 0 to `classes` - 1, or `ignored`, in a target.

        Raises:
          WrongClassError: there is another one; streaming splits raise where it is read.
        """

    def reason(self, step: int, batch_size: int, seed: int) -> str | None:
        """Names the file, the record and the defect of an example read from `step` on; None where there is none."""


class WrongClassError(ConfigError):
    """A target holds a number that is none of the head's classes; `value` says where."""


def local_replicas(context: tf.distribute.InputContext) -> range:
    """The replicas of a worker, counted over all workers."""
    count = context.num_replicas_in_sync // context.num_input_pipelines
    return range(context.input_pipeline_id * count, (context.input_pipeline_id + 1) * count)


def ends(context: tf.distribute.InputContext, batch_size: int) -> list[int]:
    """Returns the bounds of the shares of a worker's replicas in a global batch: one more than it has replicas.

    Shares are contiguous and differ by one example at most.
    """
    local = local_replicas(context)
    return [replica * batch_size // context.num_replicas_in_sync for replica in (*local, local.stop)]


def cut(elements: tf.data.Dataset, ends: Sequence[int]) -> tf.data.Dataset:
    """Batches of any size, cut into an element for every replica and step."""
    shares = [stop - start for start, stop in itertools.pairwise(ends)]
    # Of a single size, it is known while tracing.
    return elements.rebatch(shares[0] if len(set(shares)) == 1 else shares, drop_remainder=True)


def ordered() -> tf.data.Options:
    """The options of every pipeline: in order, with the numbers of parallel calls that it gives."""
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False  # the tuner's thread has been seen to hang a process that let go of an iterator
    return options


def evaluation_steps(count: int, batch_size: int, replicas: int) -> int:
    """Steps of one evaluation, each of about `batch_size` examples and, if there are enough, one for every replica."""
    return max(1, min(-(-count // batch_size), count // replicas))


def largest_evaluation_batch(batch_size: int, replicas: int) -> int:
    """Returns a number that no step of an evaluation exceeds in examples, whatever their number."""
    return max(batch_size, 2 * replicas)


def evaluation_ends(count: int, batch_size: int, replicas: int) -> list[int]:
    """Returns the bounds of the nearly equal parts of an evaluation, replica by replica within each step."""
    parts = evaluation_steps(count, batch_size, replicas) * replicas
    return [part * count // parts for part in range(parts + 1)]


def seed_words(seed: int) -> list[int]:
    """A seed of up to 63 bits as the two words that TensorFlow's stateless operations take."""
    return [seed & 0x7FFFFFFF, seed >> 31]


def labelled(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """(examples, ...) bool, of the values' shape: where their weight is not 0.

    Everywhere where there are no weights, or where they are of the loss's values instead of the labels.
    """
    if weights is None or weights.shape != values.shape[: weights.ndim]:
        return np.ones(values.shape, bool)
    return np.broadcast_to((weights != 0).reshape(weights.shape + (1,) * (values.ndim - weights.ndim)), values.shape)


def per_example(spec: Structure) -> Iterator[tuple[str, tf.TensorSpec]]:
    """(dotted name, specification) of every tensor."""
    for part, entry in spec.items():
        for name, leaf in entry.items() if isinstance(entry, Mapping) else (("", entry),):
            yield f"{part}.{name}".rstrip("."), leaf


def flat(structure: Structure) -> dict[str, Any]:
    """Returns the arrays of a batch by `part.name`; `inputs.` is a single input."""
    return {
        f"{part}.{name}": array
        for part, entry in structure.items()
        for name, array in (entry.items() if isinstance(entry, Mapping) else (("", entry),))
    }


def within(part: str, named: Mapping[str, Value]) -> dict[str, Value]:
    """Own name → value of what lies within `part` ("inputs", "targets"), from values by `per_example`'s names."""
    return {name.partition(".")[2]: value for name, value in named.items() if name.partition(".")[0] == part}
