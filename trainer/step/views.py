"""Views of the gradients for a method: over the whole batch, over its two halves, or their moving averages."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import keras
import tensorflow as tf

from trainer.combine.combination import Combination
from trainer.combine.problem import Problem
from trainer.components import batch_sizes
from trainer.distributed import gathering
from trainer.gradients import gramian as gramian_lib
from trainer.gradients import half_batches
from trainer.gradients.layout import Joined, Layout
from trainer.gradients.moving_average import GradientAverages
from trainer.gradients.reach import Jacobian, Reach

_POSITIONS = "positions"  # of the rows of a batch, beside its inputs


class Rows(NamedTuple):
    """The gradients that a combination mixes.

    Attributes:
      gradients: per variable, one for every loss that reaches it.
      normalizers: (K,) float64, the factors that make means of those of shared variables.
      gramian: (K, K) float64, what the combination looks at, where it looks at a Gramian.
      plain_gramian: (K, K) float64, of the losses' whole gradients, where it is known.
      gradient_averages: the new moving averages of the gradients, where those are mixed.
    """

    gradients: Jacobian
    normalizers: tf.Tensor
    gramian: tf.Tensor | None
    plain_gramian: tf.Tensor | None
    gradient_averages: Jacobian = ()


class View(Protocol):
    """The parts into which a batch is cut for a method, and the gradients that the method looks at and mixes.

    Attributes:
      reach: of the losses of all parts, as backward passes take it.
      owners: which loss each of the reduced gradients belongs to.
      sizes: examples of the global batch in each part.
    """

    reach: Reach
    owners: Reach
    sizes: tuple[int, ...]

    def placed(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns this replica's share of a batch whose size varies with what `parts` needs to know of each row."""

    def parts(self, batch: Mapping[str, Any], micro_step: tf.Tensor) -> tuple[tf.Tensor | None, ...]:
        """Returns a mask per part: 1 for the examples of this replica's micro-batch in it, 0 for others; None: all."""

    def folded(self, jacobian: Jacobian) -> Jacobian:
        """Returns the gradients that travel between replicas, from those of all parts."""

    def rows(self, jacobian: Jacobian, part_normalizers: tf.Tensor, normalizers: tf.Tensor, problem: Problem) -> Rows:
        """The gradients to mix.

        Args:
          jacobian: reduced sums of gradients, as `folded` gave them.
          part_normalizers: (parts, K) float64, the factors that make means of the sums over each part.
          normalizers: (K,) float64, the factors that make means of those over the batch.
          problem: the problem, without a Gramian.
        """


class _OnePart:
    """A batch that is not cut."""

    def __init__(self, reach: Reach, batch_size: int):
        self.reach = self.owners = reach
        self.sizes = (batch_size,)

    def placed(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """The batch."""
        return batch

    def parts(self, batch: Mapping[str, Any], micro_step: tf.Tensor) -> tuple[None]:
        """One part with every example."""
        del batch, micro_step
        return (None,)

    def folded(self, jacobian: Jacobian) -> Jacobian:
        """The gradients."""
        return jacobian


class WholeBatch(_OnePart):
    """The gradients over the whole batch.

    Args:
      reach: which losses reach which variable.
      batch_size: examples in a global batch.
      combination: looks at their Gramian, or does not.
      layout: of the gradients.
      joined: what is joined of them; None: nothing.
    """

    def __init__(
        self, reach: Reach, batch_size: int, combination: Combination, layout: Layout, joined: Joined | None = None
    ):
        super().__init__(reach, batch_size)
        self._needs_gramian, self._piece, self._joined = combination.needs_gramian, layout.piece, joined
        if joined is not None:
            self.owners = joined.reach

    def folded(self, jacobian: Jacobian) -> Jacobian:
        """The gradients, joined."""
        return jacobian if self._joined is None else self._joined.joined(jacobian)

    def rows(self, jacobian: Jacobian, part_normalizers: tf.Tensor, normalizers: tf.Tensor, problem: Problem) -> Rows:
        """The gradients themselves."""
        del part_normalizers, problem
        gramian = None
        if self._needs_gramian:
            gramian = gramian_lib.of_shared(jacobian, self.owners, normalizers, self._piece)
        return Rows(jacobian, normalizers, gramian, gramian)


class MovingAverages(_OnePart):
    """Moving averages of the gradients of the shared variables.

    Args:
      reach: which losses reach which variable.
      batch_size: examples in a global batch.
      combination: says by how much gradients are multiplied before they enter the averages.
      layout: of the gradients.
      averages: the averages.
    """

    def __init__(
        self, reach: Reach, batch_size: int, combination: Combination, layout: Layout, averages: GradientAverages
    ):
        super().__init__(reach, batch_size)
        self._combination, self._piece, self._averages = combination, layout.piece, averages

    def rows(self, jacobian: Jacobian, part_normalizers: tf.Tensor, normalizers: tf.Tensor, problem: Problem) -> Rows:
        """The new averages, in place of the shared variables' gradients."""
        del part_normalizers
        factors = normalizers * self._combination.scales_of_averaged(problem.loss_weights, problem.losses)
        averages = self._averages.moved(jacobian, factors, problem.active)
        gradients = list(jacobian)
        for v, own in zip(self.reach.shared, averages, strict=True):
            gradients[v] = own
        ones = tf.ones_like(normalizers)
        gramian = gramian_lib.of_shared(tuple(gradients), self.reach, ones, self._piece)
        return Rows(tuple(gradients), ones, gramian, None, averages)


@dataclasses.dataclass(frozen=True)
class TwoHalves:
    """The gradients over the even and over the odd positions of the global batch.

    Attributes:
      of_losses: which losses reach which variable.
      count: number of losses K.
      batch_size: examples in a global batch.
      micro_batches: parts of a global batch that are computed one after another.
      layout: of the gradients.
    """

    of_losses: Reach
    count: int
    batch_size: int
    micro_batches: int
    layout: Layout

    @property
    def reach(self) -> Reach:
        """The reach of 2 K losses, K over each half."""
        return half_batches.doubled(self.of_losses, self.count)

    @property
    def owners(self) -> Reach:
        """Both halves' gradients of one loss belong to it."""
        return half_batches.of_folded(self.of_losses, 0)

    @property
    def sizes(self) -> tuple[int, int]:
        """Examples in each half."""
        return half_batches.sizes(self.batch_size)

    def placed(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The batch with the position of each row among those of all replicas, which are counted."""
        rows = batch_sizes.rows(batch)
        return {**batch, _POSITIONS: gathering.counted_first_row(rows) + tf.range(rows)}

    def parts(self, batch: Mapping[str, Any], micro_step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Masks of 1 and 0 for the examples of this replica at even and at odd positions of the global batch."""
        dtype = tf.as_dtype(keras.config.floatx())
        if _POSITIONS in batch:
            return half_batches.masks(batch[_POSITIONS], dtype)
        size = self.batch_size // self.micro_batches
        first = micro_step % self.micro_batches * size + gathering.first_row(size)
        count = tf.shape(tf.nest.flatten(batch["inputs"])[0])[0]
        return half_batches.masks(first + tf.range(tf.cast(count, tf.int64)), dtype)

    def folded(self, jacobian: Jacobian) -> Jacobian:
        """The gradients, with the two halves' task-specific ones added up."""
        return half_batches.folded(jacobian, self.of_losses)

    def rows(self, jacobian: Jacobian, part_normalizers: tf.Tensor, normalizers: tf.Tensor, problem: Problem) -> Rows:
        """The gradients over the first half; their inner products with those over the second."""
        del problem
        count, folded = self.count, half_batches.of_folded(self.of_losses, self.count)
        both = gramian_lib.of_shared(jacobian, folded, tf.ones([2 * count], tf.float64), self.layout.piece)
        cross = both[:count, count:] * part_normalizers[0][:, tf.newaxis] * part_normalizers[1]
        plain = tf.reduce_sum(tf.reshape(both, [2, count, 2, count]), axis=[0, 2])
        first = half_batches.first(jacobian, self.of_losses)
        return Rows(first, part_normalizers[0], cross, gramian_lib.scaled(plain, normalizers))
