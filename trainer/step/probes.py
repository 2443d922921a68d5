"""Steps of a fused run that take a backward pass for each loss, to measure norms and cosines."""

import dataclasses

import tensorflow as tf

from trainer.step.computation import Computation


@dataclasses.dataclass(frozen=True)
class Probes:
    """The last of every N steps, or those of which a report wants norms and cosines.

    Attributes:
      computation: theirs.
      every: N, steps from one to the next; None: they are those that reports want.
    """

    computation: Computation
    every: int | None

    def next(self, step: tf.Tensor, reported: tf.Tensor) -> tf.Tensor:
        """The number of the first one from a step on; `reported` is that of the next step of which a report wants one.

        All are scalar int64.
        """
        if self.every is None:
            return reported
        return step + self.every - 1 - step % self.every
