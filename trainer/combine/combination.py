"""From a method and the reduced gradients to the mixture of gradients that is applied."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from trainer import sums
from trainer.combine import gramian as gramian_lib
from trainer.combine import registry
from trainer.combine.problem import Problem
from trainer.combine.registry import LooksAt, Method
from trainer.jacobian import Jacobian

Losses = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Combination:
    """A method with its options.

    Attributes:
      method: the registry's entry.
      mix: the method's function, problem → (K, K) mixing matrix.
      count: number of losses K.
      use_weights: scale the losses by their weights before the method sees them.
    """

    method: Method
    mix: Callable[[Problem], tf.Tensor]
    count: int
    use_weights: bool = False

    @property
    def needs_gramian(self) -> bool:
        """Whether the method looks at the Gramian over all shared variables."""
        return self.method.looks_at is LooksAt.GRAMIAN

    def receivers(self, by: Losses) -> Losses:
        """The losses whose mixed gradient exists on a variable that the losses `by` reach."""
        shared = len(by) > 1
        return by if self.method.diagonal or not shared else tuple(range(self.count))

    def coefficients(
        self,
        jacobian: Jacobian,
        by: Sequence[Losses],
        *,
        active: tf.Tensor,
        weights: tf.Tensor,
        gramian: tf.Tensor | None,
        seed: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        """How each variable's gradients are mixed.

        Args:
          jacobian: for each variable, the reduced gradients of the losses that reach it.
          by: for each variable, the indices of those k losses.
          active: (K,) bool.
          weights: (K,) float64, the losses' weights in this step.
          gramian: (K, K) float64 over the shared variables, where `needs_gramian`.
          seed: (2,) int32.

        Returns:
          For each variable a (receivers, k) float64 matrix: row r holds how the mixed gradient of the r-th receiver
          is made of the variable's k gradients.
        """
        scales = weights if self.use_weights else tf.ones_like(weights)
        whole = None
        if not self.method.per_variable:
            scaled = None if gramian is None else gramian * scales[:, tf.newaxis] * scales
            whole = self.mix(Problem(active, weights, scaled, seed)) * scales
        result = []
        for gradients, losses in zip(jacobian, by, strict=True):
            if len(losses) == 1 and not self.method.mixes_task_specific:
                coefficient = weights[losses[0]] if self.method.weighted else scales[losses[0]]
                result.append(tf.reshape(coefficient, [1, 1]))
            elif whole is None:
                result.append(self._mix_block(gradients, losses, active, weights, scales, seed))
            else:
                result.append(tf.gather(tf.gather(whole, self.receivers(losses)), losses, axis=1))
        return tuple(result)

    def _mix_block(self, gradients, losses, active, weights, scales, seed) -> tf.Tensor:
        """The mixing matrix of one variable on its own."""
        active, weights, scales = (tf.gather(values, losses) for values in (active, weights, scales))
        products = None
        if self.method.looks_at is LooksAt.BLOCK_GRAMIANS:
            products = gramian_lib.block(gradients) * scales[:, tf.newaxis] * scales
        return self.mix(Problem(active, weights, products, seed)) * scales


def build(name: str, options: Mapping[str, object], count: int, *, use_weights: bool = False) -> Combination:
    """The combination of `count` losses that a method's name and options select; imports its module."""
    method, remaining = registry.resolve(name, options)
    function = method.load()
    return Combination(method, lambda problem: function(problem, **remaining), count, use_weights)


def joint(gradients: Sequence[tf.Tensor], coefficients: tf.Tensor) -> tf.Tensor:
    """The sum of a variable's mixed gradients: what one optimizer applies for all losses."""
    return sums.weighted(gradients, tf.reduce_sum(coefficients, axis=0))


def own(
    gradients: Sequence[tf.Tensor], coefficients: tf.Tensor, receiver: int, *, only: int | None = None
) -> tf.Tensor:
    """The mixed gradient of one receiver (a row of `coefficients`); made of gradient `only` alone where known."""
    if only is not None:
        return sums.weighted(gradients[only : only + 1], coefficients[receiver, only : only + 1])
    return sums.weighted(gradients, coefficients[receiver])


def step_seed(seed: int, step: tf.Tensor | int) -> tf.Tensor:
    """A stateless seed, (2,) int32, for everything random in one step: the same on every replica and worker."""
    words = np.array([seed & 0x7FFFFFFF, seed >> 31], np.int64)
    return tf.cast(tf.random.experimental.stateless_fold_in(words, step), tf.int32)
