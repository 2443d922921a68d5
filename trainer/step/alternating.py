"""A step of one kind now and then, of another one in between."""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from trainer.step.computation import Computation
from trainer.step.values import Applied, State, StepSummary


@dataclasses.dataclass(frozen=True)
class Alternating:
    """Two ways in turn.

    Attributes:
      first: of the steps that are due; it measures.
      second: of those between.
      due: (step, state) → whether `first` is due, scalar bool.
    """

    first: Computation
    second: Computation
    due: Callable[[tf.Tensor, State], tf.Tensor]

    def compute(
        self, iterator: Any, batch: Any, step: tf.Tensor, measure: tf.Tensor, state: State
    ) -> tuple[Applied, StepSummary]:
        """Computes the step in the way that is due."""
        return tf.cond(
            self.due(step, state),
            lambda: self.first.compute(iterator, batch, step, tf.constant(True), state),
            lambda: self.second.compute(iterator, batch, step, measure, state),
        )


def at_the_end_of_every(count: int) -> Callable[[tf.Tensor, State], tf.Tensor]:
    """Due in the last of every `count` steps."""
    return lambda step, state: tf.equal((step + 1) % count, 0)


def without_coefficients_or_every(count: int) -> Callable[[tf.Tensor, State], tf.Tensor]:
    """Due in the first of every `count` steps, and where the state holds no coefficients."""
    return lambda step, state: tf.equal(step % count, 0) | tf.reduce_any(tf.math.is_nan(state.coefficients))
