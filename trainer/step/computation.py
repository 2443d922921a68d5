"""The protocol of all ways to compute a step."""

from typing import Any, Protocol

import tensorflow as tf

from trainer.step.values import Applied, State, StepSummary


class Computation(Protocol):
    """A way to compute a step; `replicas.run` runs its parts on every replica."""

    def compute(
        self, iterator: Any, batch: Any, step: tf.Tensor, measure: tf.Tensor, state: State
    ) -> tuple[Applied, StepSummary]:
        """Returns what a step changes, on every replica, and its summary, which is the same on all.

        Args:
          iterator: gives the micro-batches after the first; is not used where the size of batches varies.
          batch: the first micro-batch, on every replica its part; the whole batch, where its size varies.
          step: number of the step from 0, scalar int64.
          measure: scalar bool, whether norms and cosines of the losses' gradients are wanted.
          state: what the step before left.
        """
