"""A split of which only its form is known."""

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from input_pipelines.feed import splits


@dataclasses.dataclass(frozen=True)
class Unread:
    """Stands for a split whose examples are not read (see `splits.Split`): a model can be built for it, not trained.

    Attributes:
      spec: of one example.
      categories: input name → the number of categories of each of its columns.
    """

    spec: splits.Structure
    categories: Mapping[str, tuple[int, ...]]
    largest_batch: int = 0

    def __len__(self) -> int:
        return 0

    def evaluation(self, *, batch_size: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
        """See `splits.Split`: no example."""
        del batch_size, context
        none = tf.nest.map_structure(lambda leaf: tf.zeros([0, *leaf.shape], leaf.dtype), self.spec)
        return tf.data.Dataset.from_tensor_slices(none).batch(1)

    def evaluation_steps(self, batch_size: int, replicas: int) -> int:
        """See `splits.Split`."""
        return 0

    def check_classes(self, target: str, classes: int, ignored: int | None = None) -> "Unread":
        """See `splits.Split`: nothing is there to be wrong."""
        return self
