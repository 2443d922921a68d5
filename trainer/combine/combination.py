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

    def joint_weights(
        self, *, active: tf.Tensor, weights: tf.Tensor, gramian: tf.Tensor | None, seed: tf.Tensor
    ) -> tf.Tensor:
        """How much of each loss's gradient is in what is applied jointly to a variable that all of them reach.

        Args:
          active: (K,) bool.
          weights: (K,) float64, the losses' weights in this step.
          gramian: (K, K) float64 of the losses' means, for methods that look at one.
          seed: (2,) int32.

        Returns:
          (K,) float64.
        """
        scales = self._scales(weights)
        scaled = None if gramian is None else gramian_lib.scaled(gramian, scales)
        return tf.reduce_sum(self.mix(Problem(active, weights, scaled, seed)), axis=0) * scales

    def own_weights(self, weights: tf.Tensor) -> tf.Tensor:
        """(K,) float64: by how much each loss's task-specific gradients are multiplied."""
        return weights if self.method.weighted else self._scales(weights)

    def factors(self, by: Sequence[Losses], active: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor | None, ...]:
        """What one backward pass of Σ `own_weights`ₖ Lₖ leaves to do, for a method that looks at nothing.

        Args:
          by: for each variable, the indices of the losses that reach it.
          active: (K,) bool.
          weights: (K,) float64, the losses' weights in this step.

        Returns:
          For every variable what its gradient of the sum is multiplied by, scalar float64; None: 1.
        """
        if not self.method.per_variable:
            return (None,) * len(by)
        factors: dict[Losses, tf.Tensor | None] = {}
        for losses in dict.fromkeys(by):
            if len(losses) == 1:
                factors[losses] = None
                continue
            part = (tf.gather(values, losses) for values in (active, weights))
            mixing = self.mix(Problem(*part, None, tf.zeros([2], tf.int32)))
            # Nothing tells the active losses of a variable apart, so they have one coefficient.
            factors[losses] = tf.reduce_max(tf.reduce_sum(mixing, axis=0))
        return tuple(factors[losses] for losses in by)

    def coefficients(
        self,
        jacobian: Jacobian,
        by: Sequence[Losses],
        *,
        means: tf.Tensor,
        active: tf.Tensor,
        weights: tf.Tensor,
        gramian: tf.Tensor | None,
        seed: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        """How each variable's gradients are mixed.

        Args:
          jacobian: for each variable, the reduced sums of gradients of the losses that reach it.
          by: for each variable, the indices of those k losses.
          means: (K,) float64, what makes means of the sums.
          active: (K,) bool.
          weights: (K,) float64, the losses' weights in this step.
          gramian: (K, K) float64 over the shared variables, where `needs_gramian`.
          seed: (2,) int32.

        Returns:
          For each variable a (receivers, k) float64 matrix: row r holds how the mixed gradient of the r-th receiver
          is made of the variable's k sums.
        """
        scales, own = self._scales(weights), self.own_weights(weights)
        whole = None
        if not self.method.per_variable:
            scaled = None if gramian is None else gramian_lib.scaled(gramian, scales)
            whole = self.mix(Problem(active, weights, scaled, seed)) * scales * means
        result = []
        for gradients, losses in zip(jacobian, by, strict=True):
            if len(losses) == 1 and not self.method.mixes_task_specific:
                result.append(tf.reshape(own[losses[0]] * means[losses[0]], [1, 1]))
            elif whole is None:
                result.append(self._mix_block(gradients, losses, means, active, weights, scales, seed))
            else:
                result.append(tf.gather(tf.gather(whole, self.receivers(losses)), losses, axis=1))
        return tuple(result)

    def _scales(self, weights: tf.Tensor) -> tf.Tensor:
        return weights if self.use_weights else tf.ones_like(weights)

    def _mix_block(self, gradients, losses, means, active, weights, scales, seed) -> tf.Tensor:
        """The mixing matrix of one variable on its own."""
        means, active, weights, scales = (tf.gather(values, losses) for values in (means, active, weights, scales))
        products = None
        if self.method.looks_at is LooksAt.BLOCK_GRAMIANS:
            products = gramian_lib.scaled(gramian_lib.block(gradients), scales * means)
        return self.mix(Problem(active, weights, products, seed)) * scales * means


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
