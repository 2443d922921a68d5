"""A step of one kind now and then, of another one in between."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import tensorflow as tf

from trainer.step.values import Applied, State, StepSummary


class Way(Protocol):
    """A way to compute a step."""

    def compute(
        self, iterator: Any, batch: Any, step: tf.Tensor, measure: tf.Tensor, state: State
    ) -> tuple[Applied, StepSummary]:
        """What a step changes, on every replica; and its summary, which is the same on all.

        Args:
          iterator: gives the micro-batches after the first.
          batch: the first micro-batch, on every replica its part.
          step: number of the step from 0, scalar int64.
          measure: scalar bool, whether norms and cosines of the losses' gradients are wanted.
          state: what the step before left.
        """


@dataclasses.dataclass(frozen=True)
class Alternating:
    """Two ways in turn.

    Attributes:
      first: of the steps that are due; it measures.
      second: of those between.
      due: (step, state) → whether `first` is due, scalar bool.
    """

    first: Way
    second: Way
    due: Callable[[tf.Tensor, State], tf.Tensor]

    def compute(
        self, iterator: Any, batch: Any, step: tf.Tensor, measure: tf.Tensor, state: State
    ) -> tuple[Applied, StepSummary]:
        """What the way that is due gives."""
        return tf.cond(
            self.due(step, state),
            lambda: self.first.compute(iterator, batch, step, tf.constant(True), state),
            lambda: self.second.compute(iterator, batch, step, measure, state),
        )


def at_the_end_of_every(count: int) -> Callable[[tf.Tensor, State], tf.Tensor]:
    """Due in the last of every `count` steps."""
    return lambda step, state: tf.equal((step + 1) % count, 0)


def without_weights_or_every(count: int) -> Callable[[tf.Tensor, State], tf.Tensor]:
    """Due in the first of every `count` steps, and where the state holds no weights."""
    return lambda step, state: tf.equal(step % count, 0) | tf.reduce_any(tf.math.is_nan(state.weights))
