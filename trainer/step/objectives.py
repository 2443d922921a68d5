"""The losses of a model as a step sees them: passes, sums, means over the global batch, and the problem they pose."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.combine.combination import step_seed
from trainer.combine.problem import Problem
from trainer.common.durations import Timeline
from trainer.components import batch_sizes, schedules
from trainer.components.loss_sums import LossSums
from trainer.components.losses import NamedLoss
from trainer.distributed import replica_state
from trainer.distributed.all_reduce import Reduction
from trainer.step import backward
from trainer.step.backward import Watch
from trainer.step.values import LossNumbers


@dataclasses.dataclass(frozen=True)
class Objectives:
    """K losses of one model.

    Attributes:
      model: the model.
      losses: its K losses.
      loss_weights: their K weights, each a number or a schedule.
      timeline: how steps lie among examples and epochs.
      seed: of everything random in the step.
      masked: for each loss, whether a mask or an ignored class can take some of its values out.
      varying: whether the size of batches varies, up to `batch_size`. Then each comes whole and is cut into
        micro-batches here, its examples are counted, and replicas may have none (`parts.py`).
      watch: called in the forward pass of every micro-batch of a step, on every replica that has an example of it, with
        the predictions, the batch and each loss's sums over it; it changes variables of its own, such as metrics,
        which must have been built, as it may be traced within a condition. None: nobody watches.
      compiled: whether the step is within a loop that XLA compiles.
    """

    model: keras.Model
    losses: Sequence[NamedLoss]
    loss_weights: Sequence[float | schedules.LearningRateSchedule]
    timeline: Timeline
    seed: int
    masked: tuple[bool, ...]
    varying: bool = False
    watch: Watch | None = None
    compiled: bool = False

    @property
    def count(self) -> int:
        """K."""
        return len(self.losses)

    @property
    def batch_size(self) -> int:
        """Examples in a global batch."""
        return self.timeline.batch_size

    @property
    def names(self) -> list[str]:
        """The losses' names."""
        return [loss.name for loss in self.losses]

    @property
    def can_lack_weight(self) -> tuple[bool, ...]:
        """For each loss, whether its weight is 0 in some steps: a constant 0, or perhaps a schedule."""
        return tuple(callable(weight) or weight == 0 for weight in self.loss_weights)

    def seed_random_layers(self, micro_step: tf.Tensor) -> None:
        """Sets what random layers draw from in a micro-batch, on this replica."""
        replica_state.seed_random_layers(self.model, seed=self.seed, step=micro_step)

    def forward_again(self, batch: Mapping[str, Any], step: tf.Tensor) -> tuple[LossSums, ...]:
        """Every loss's sums once more: random layers draw what they drew before, and statistics stay what they are."""
        self.seed_random_layers(step)
        with replica_state.kept(replica_state.changed_by_layers(self.model)):
            return backward.forward(self.model, self.losses, batch, batch_size=self.batch_size)

    def numbers(
        self,
        sums: Sequence[LossSums],
        batch: Mapping[str, Any],
        parts: Sequence[tf.Tensor | None] = (None,),
        sizes: Sequence[int] | None = None,
    ) -> LossNumbers:
        """The numbers of one replica's part.

        Args:
          sums: of the K losses over each part of the batch, as `backward.forward` gives them.
          batch: this replica's part of the global batch.
          parts: which of its examples are in each part, as `losses.sums` has it.
          sizes: examples of the global batch in each part; None: there is one part, the batch.

        Returns:
          Tensors of shape (K,), or (parts, K) where `sizes` are given.
        """

        def column(values: Sequence[tf.Tensor]) -> tf.Tensor:
            return tf.stack(values) if sizes is None else tf.reshape(tf.stack(values), [len(sizes), -1])

        loss_sums, weight_sums, values_per_example, left = zip(*sums, strict=True)
        per_example = column(values_per_example)
        in_part = self.batch_size if sizes is None else tf.constant(sizes, per_example.dtype)[:, tf.newaxis]
        counted: tuple[tf.Tensor, ...] = ()
        if self.counts_what_is_left:
            nothing = tf.zeros([], per_example.dtype)
            counted = (column([nothing if one is None else one for one in left]),)
        if self.varying:
            examples = _examples(batch, parts, per_example.dtype)
            present = per_example * (examples[0] if sizes is None else tf.stack(examples)[:, tf.newaxis])
            counted = (tf.where(self.masked, counted[0], present) if counted else present,)
        return LossNumbers(column(loss_sums), column(weight_sums), counted, per_example * in_part)

    def summed(self, numbers: LossNumbers, reduction: Reduction) -> LossNumbers:
        """Returns the numbers of all replicas, in a collective of their own; call it in replica context."""
        _, sums = reduction.sum((), numbers[:3])
        return LossNumbers(*sums, numbers.in_all)

    @property
    def counts_what_is_left(self) -> bool:
        """True where a loss is divided by a number of values of which masks take some out."""
        return any(
            masked and loss.normalizer == "examples" for loss, masked in zip(self.losses, self.masked, strict=True)
        )

    def counts(self, numbers: LossNumbers) -> tf.Tensor:
        """(..., K) number of values that each loss has in the global batch; `numbers` are sums over all replicas."""
        if not numbers.left:
            return numbers.in_all
        return numbers.left[0] if self.varying else tf.where(self.masked, numbers.left[0], numbers.in_all)

    def active_and_normalizers(
        self, weight_sums: tf.Tensor, counts: tf.Tensor, step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """(..., K) bool, the losses that take part; (..., K), the factors that make means of their sums, else 0."""
        active = weight_sums > 0
        if any(loss.every > 1 for loss in self.losses):
            active &= tf.stack([loss.takes_part(step) for loss in self.losses])
        if any(self.can_lack_weight):
            active &= schedules.at(step, self.loss_weights) != 0
        by_weights = [loss.normalizer == "weights" for loss in self.losses]
        denominators = weight_sums if all(by_weights) else tf.where(by_weights, weight_sums, counts)
        if any(undivided := [loss.normalizer == "sum" for loss in self.losses]):
            denominators = tf.where(undivided, tf.ones_like(denominators), denominators)
        return active, tf.where(active, tf.math.reciprocal_no_nan(denominators), 0)

    def problem(self, step: tf.Tensor, active: tf.Tensor, losses: tf.Tensor) -> Problem:
        """Returns the combination's problem, without a Gramian; (K,) `losses` are 0 where inactive."""
        return Problem(
            active=active,
            loss_weights=schedules.at(step, self.loss_weights),
            losses=tf.cast(losses, tf.float64),
            gramian=None,
            seed=step_seed(self.seed, step),
            step=step,
            epoch=self.timeline.epoch(step),
            compiled=self.compiled,
        )


def _examples(batch: Mapping[str, Any], parts: Sequence[tf.Tensor | None], dtype: tf.DType) -> list[tf.Tensor]:
    """The number of examples of this replica in each part."""
    examples = batch[batch_sizes.EXAMPLES]
    return [
        tf.cast(examples, dtype) if part is None else tf.reduce_sum(tf.cast(part[:examples], dtype)) for part in parts
    ]
