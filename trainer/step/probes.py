"""Steps of a fused run that take a backward pass for each loss, to measure norms and cosines."""

import dataclasses

import tensorflow as tf

from trainer.step.computation import Computation


@dataclasses.dataclass(frozen=True)
class Probes:
    """The last of every N steps.

    Attributes:
      computation: theirs.
      every: N, steps from one to the next.
    """

    computation: Computation
    every: int

    def next(self, step: tf.Tensor) -> tf.Tensor:
        """The number of the first one from a step on."""
        return step + self.every - 1 - step % self.every
