"""A step in which the method finds coefficients now and then, and others between, for which they hold."""

import dataclasses
from typing import Any

import tensorflow as tf

from trainer.step.computation import Computation
from trainer.step.values import Applied, State, StepSummary


@dataclasses.dataclass(frozen=True)
class Alternating:
    """Two ways in turn.

    Attributes:
      first: of the first of every `every` steps, and of one for which the state holds no coefficients; it measures.
      second: of those between.
      every: steps from one `first` to the next.
    """

    first: Computation
    second: Computation
    every: int

    def compute(
        self, iterator: Any, batch: Any, step: tf.Tensor, measure: tf.Tensor, state: State
    ) -> tuple[Applied, StepSummary]:
        """Computes the step in the way that is due."""
        return tf.cond(
            tf.equal(step % self.every, 0) | tf.reduce_any(tf.math.is_nan(state.coefficients)),
            lambda: self.first.compute(iterator, batch, step, tf.constant(True), state),
            lambda: self.second.compute(iterator, batch, step, measure, state),
        )
