"""The solution of a step's K x K problem, on the device that suits it."""

import contextlib
import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from trainer.combine.combination import Combination
from trainer.combine.problem import Answer, Problem


@dataclasses.dataclass(frozen=True)
class Solver:
    """A combination and the device that solves its problems.

    Attributes:
      combination: how the losses' gradients are combined.
      device: where; None: where the gradients are.
    """

    combination: Combination
    device: str | None

    def solve(self, problem: Problem, state: Mapping[str, tf.Tensor]) -> Answer:
        """Returns the combination's answer; zeros for one that has coefficients of its own for every variable."""
        if not self.combination.method.yields_coefficients:
            coefficients = tf.zeros([self.combination.count], tf.float64)
            return Answer(coefficients, dict(state), tf.constant(False))
        with self.on_device():
            return self.combination.solve(problem, state)

    def on_device(self) -> contextlib.AbstractContextManager:
        """Places what is computed within this context on the device."""
        return contextlib.nullcontext() if self.device is None else tf.device(self.device)
