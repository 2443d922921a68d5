"""The losses of a model as a step sees them: passes, sums, means over the global batch, and the problem they pose."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.combine.combination import step_seed
from trainer.combine.problem import Problem
from trainer.common.durations import Timeline
from trainer.components import schedules
from trainer.components.losses import LossSums, NamedLoss
from trainer.distributed import replica_state
from trainer.step import backward


@dataclasses.dataclass(frozen=True)
class Objectives:
    """K losses of one model.

    Attributes:
      model: the model.
      losses: its K losses.
      loss_weights: their K weights, each a number or a schedule.
      timeline: how steps lie among examples and epochs.
      seed: of everything random in the step.
    """

    model: keras.Model
    losses: Sequence[NamedLoss]
    loss_weights: Sequence[float | schedules.LearningRateSchedule]
    timeline: Timeline
    seed: int

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

    def seed_random_layers(self, micro_step: tf.Tensor) -> None:
        """Sets what random layers draw from in a micro-batch, on this replica."""
        replica_state.seed_random_layers(self.model, seed=self.seed, step=micro_step)

    def forward_again(self, batch: Mapping[str, Any], step: tf.Tensor) -> tuple[LossSums, ...]:
        """Every loss's sums once more: random layers draw what they drew before, and statistics stay what they are."""
        self.seed_random_layers(step)
        with replica_state.kept(self.model):
            return backward.forward(self.model, self.losses, batch, batch_size=self.batch_size)

    def numbers(self, sums: Sequence[LossSums]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """(K,) each: Σ w·ℓ and Σ w of this replica's part, and the number of values in the global batch."""
        loss_sums, weight_sums, values_per_example = (tf.stack(column) for column in zip(*sums, strict=True))
        return loss_sums, weight_sums, values_per_example * self.batch_size

    def active_and_normalizers(
        self, weight_sums: tf.Tensor, counts: tf.Tensor, step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """(..., K) bool, the losses that take part; (..., K), the factors that make means of their sums, else 0."""
        active = (weight_sums > 0) & tf.stack([loss.takes_part(step) for loss in self.losses])
        denominators = tf.where([loss.normalizer == "weights" for loss in self.losses], weight_sums, counts)
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
        )
