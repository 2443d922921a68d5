"""From a method and the reduced gradients to the mixture of gradients that is applied."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.combine import registry
from trainer.combine.problem import Answer, Problem, State
from trainer.combine.registry import LooksAt, Method
from trainer.gradients import gramian as gramian_lib
from trainer.gradients import ordered_sums
from trainer.gradients.reach import Jacobian

Losses = tuple[int, ...]
_SMOOTHED = "smoothed"


@dataclasses.dataclass(frozen=True)
class Combination:
    """A method with its options, and what can be put around any method.

    Attributes:
      method: the registry's entry.
      options: the method's options.
      count: number of losses K.
      use_weights: scale the losses by their weights before the method sees them.
      log_losses: the method sees the losses' logarithms: their gradients are divided by the losses.
      smoothing: part of the weights of the steps before that stays in a step's weights; 0: none.
    """

    method: Method
    options: Mapping[str, Any]
    count: int
    use_weights: bool = False
    log_losses: bool = False
    smoothing: float = 0.0

    def __post_init__(self):
        for path in (self.method.function, self.method.initial, self.method.observe):
            if path is not None:
                registry.load(path)  # a missing one shows here

    @property
    def sees_losses(self) -> bool:
        """Whether the method looks at the values of the losses, perhaps among other things."""
        return self.method.looks_at is LooksAt.LOSSES or self.method.with_losses(self.options)

    @property
    def needs_losses(self) -> bool:
        """Whether the weights depend on the values of the losses, whatever else they depend on."""
        return self.method.looks_at is LooksAt.LOSSES or self.log_losses

    @property
    def needs_gramian(self) -> bool:
        """Whether the method looks at a Gramian over all shared variables."""
        return self.method.looks_at in (LooksAt.GRAMIAN, LooksAt.CROSS_GRAMIAN, LooksAt.MOVING_GRAMIAN)

    @property
    def of_two_batches(self) -> bool:
        """Whether the method needs the gradients over the two halves of the batch."""
        return self.method.looks_at is LooksAt.CROSS_GRAMIAN

    @property
    def keeps(self) -> float | None:
        """Which part of the moving averages of the gradients, which it mixes, a step keeps; None: it has none."""
        return None if self.method.keeps is None else self.method.keeps(self.options)

    @property
    def observes(self) -> bool:
        """Whether the method wants to know the losses of the same batch after the update."""
        return self.method.observe is not None

    @property
    def lower_bounds(self) -> np.ndarray | None:
        """(K,) what every loss, as the method sees it, must be above; None: nothing."""
        bound = self.method.lower_bound(self.options)
        if bound is None:
            return np.zeros(self.count) if self.log_losses else None
        return np.maximum(np.broadcast_to(bound, [self.count]), 0.0 if self.log_losses else -math.inf)

    def in_domain(self, losses: tf.Tensor, weights: tf.Tensor, active: tf.Tensor) -> tf.Tensor:
        """(K,) bool, whether each loss is above its lower bound, or inactive or not finite.

        Args:
          losses: (K,) of any floating dtype.
          weights: (K,) float64, the losses' weights in this step.
          active: (K,) bool.
        """
        bounds = self.lower_bounds
        if bounds is None:
            return tf.ones_like(active)
        losses = tf.cast(losses, tf.float64)
        return ~active | ~tf.math.is_finite(losses) | (self._seen(losses, weights) > bounds)

    def receivers(self, by: Losses) -> Losses:
        """The losses whose mixed gradient exists on a variable that the losses `by` reach."""
        shared = len(by) > 1
        return by if self.method.diagonal or not shared else tuple(range(self.count))

    def initial_state(self) -> dict[str, tf.Tensor]:
        """What is remembered at the start of a run: by name, small float64 and int64 tensors."""
        state = {}
        if self.method.initial is not None:
            state |= self._function(self.method.initial)(self.count)
        if self.smoothing:
            shape = [self.count] if self.method.diagonal else [self.count, self.count]
            state[_SMOOTHED] = tf.fill(shape, tf.constant(math.nan, tf.float64))
        return state

    def scales(self, weights: tf.Tensor, losses: tf.Tensor | None) -> tf.Tensor:
        """By how much each loss's gradient is multiplied before the method sees it.

        Args:
          weights: (K,) float64, the losses' weights in this step.
          losses: (K,) float64, their values; only looked at with `log_losses`.

        Returns:
          (K,) float64.
        """
        scales = weights if self.use_weights else tf.ones_like(weights)
        # Of w L the logarithm's gradient is that of L.
        return tf.math.reciprocal_no_nan(losses) if self.log_losses else scales

    def row_scales(self, weights: tf.Tensor, losses: tf.Tensor | None) -> tf.Tensor:
        """(K,) float64: by how much each gradient is multiplied before it enters the moving averages."""
        scales = self.scales(weights, losses)
        if not self.method.of_log_losses:
            return scales
        return scales * tf.math.reciprocal_no_nan(self._seen(losses, weights))

    def solve(self, problem: Problem, state: State) -> Answer:
        """What the method answers, smoothed where the run wants it.

        Args:
          problem: the problem, of unscaled losses and gradients.
          state: what is remembered.

        Returns:
          Weights of the gradients times their `scales`, (K,) or (K, K), 0 where inactive; what is remembered then,
          unchanged where it belongs to inactive losses; and whether there was no solution.
        """
        if not self.method.yields_weights:
            raise ValueError(f"{self.method.function} has weights of its own for every variable")
        answer = self._call(self._scaled(problem), state)
        weights, new = answer.weights, dict(answer.state)
        if self.smoothing:
            before = state[_SMOOTHED]
            smoothed = self.smoothing * before + (1 - self.smoothing) * weights
            weights = new[_SMOOTHED] = tf.where(tf.math.is_nan(before), weights, smoothed)
        new = {name: _where_active(problem.active, new[name], old) for name, old in state.items()}
        weights = _where_active(problem.active, weights, tf.zeros_like(weights))
        return Answer(weights, new, tf.convert_to_tensor(answer.fell_back))

    def observe(self, problem: Problem, after: tf.Tensor, state: State) -> dict[str, tf.Tensor]:
        """What is remembered once (K,) float64 losses of the same batch after the update are known."""
        new = dict(state) | self._function(self.method.observe)(
            self._scaled(problem), self._seen(after, problem.weights), state
        )
        return {name: _where_active(problem.active, new[name], old) for name, old in state.items()}

    def factors(self, by: Sequence[Losses], problem: Problem) -> tuple[tf.Tensor | None, ...]:
        """What one backward pass of Σ `scales`ₖ Lₖ leaves to do, for a method with weights for every variable.

        Args:
          by: for each variable, the indices of the losses that reach it.
          problem: of all losses.

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
            # Nothing tells the active losses of a variable apart, so they have one weight.
            factors[losses] = tf.reduce_max(self._call(_part(problem, losses), {}).weights)
        return tuple(factors[losses] for losses in by)

    def coefficients(
        self,
        jacobian: Jacobian,
        by: Sequence[Losses],
        *,
        means: tf.Tensor,
        row_means: tf.Tensor,
        problem: Problem,
        weights: tf.Tensor | None,
    ) -> tuple[tf.Tensor | None, ...]:
        """How each variable's gradients are mixed.

        Args:
          jacobian: for each variable, the reduced sums of gradients of the losses that reach it.
          by: for each variable, the indices of those k losses.
          means: (K,) float64, what makes means of the sums of task-specific gradients.
          row_means: (K,) float64, the same for shared variables; ones where their gradients are moving averages.
          problem: the problem.
          weights: as `solve` gave them; only looked at for methods that yield weights.

        Returns:
          For each variable a (receivers, k) float64 matrix: row r holds how the mixed gradient of the r-th receiver
          is made of the variable's k sums. None where they are combined element by element.
        """
        scales = self.scales(problem.weights, problem.losses)
        whole, own = None, scales
        if self.method.yields_weights:
            factors = self._scales_of_rows(problem) * row_means
            own = weights * scales if self.method.weighs_task_specific else scales
            whole = (tf.linalg.diag(weights) if self.method.diagonal else weights) * factors
        result: list[tf.Tensor | None] = []
        for gradients, losses in zip(jacobian, by, strict=True):
            if len(losses) == 1 and not self.method.mixes_task_specific:
                result.append(tf.reshape(own[losses[0]] * means[losses[0]], [1, 1]))
            elif self.method.looks_at is LooksAt.ELEMENTS:
                result.append(None)
            elif whole is None:
                result.append(self._mix_block(gradients, losses, row_means, problem, scales))
            else:
                result.append(tf.gather(tf.gather(whole, self.receivers(losses)), losses, axis=1))
        return tuple(result)

    def elements(
        self, gradients: Sequence[tf.Tensor], losses: Losses, row_means: tf.Tensor, problem: Problem, variable: int
    ) -> tf.Tensor:
        """The gradients of one shared variable, combined element by element.

        Args:
          gradients: the reduced sums of gradients of the losses that reach it.
          losses: the indices of those k losses.
          row_means: (K,) float64, what makes means of the sums.
          problem: the problem.
          variable: a number that tells this variable from all others.
        """
        factors = self.scales(problem.weights, problem.losses) * row_means
        factors = tf.unstack(tf.gather(tf.where(problem.active, factors, 0.0), losses))
        scaled = [row * tf.cast(factor, row.dtype) for row, factor in zip(gradients, factors, strict=True)]
        seed = tf.random.experimental.stateless_fold_in(problem.seed, variable)
        return self._function(self.method.function)(tf.stack(scaled), _part(problem, losses)._replace(seed=seed))

    def _scales_of_rows(self, problem: Problem) -> tf.Tensor:
        """(K,) `scales` of the gradients of shared variables; they have entered moving averages already."""
        scales = self.scales(problem.weights, problem.losses)
        return scales if self.keeps is None else tf.ones_like(scales)

    def _seen(self, losses: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """(K,) losses as the method sees them."""
        return losses * weights if self.use_weights else losses

    def _function(self, path: str) -> Callable[..., Any]:
        """One of the method's functions, with the method's options."""
        return functools.partial(registry.load(path), **self.options)

    def _call(self, problem: Problem, state: State) -> Answer:
        function = self._function(self.method.function)
        result = function(problem) if self.method.initial is None else function(problem, state)
        return result if isinstance(result, Answer) else Answer(result)

    def _scaled(self, problem: Problem) -> Problem:
        """The problem as the method sees it: of scaled losses and gradients."""
        scales = self._scales_of_rows(problem)
        losses, gramian = problem.losses, problem.gramian
        if losses is not None:
            losses = tf.where(problem.active, self._seen(losses, problem.weights), 0.0)
        if gramian is not None:
            gramian = gramian_lib.scaled(gramian, scales)
            # Decompositions raise on what is not finite, before the step can say which loss it comes from.
            gramian = tf.where(tf.reduce_all(tf.math.is_finite(gramian)), gramian, tf.eye(self.count, dtype=tf.float64))
            gramian = _where_active(problem.active, gramian, tf.zeros_like(gramian))
        return problem._replace(losses=losses, gramian=gramian)

    def _mix_block(
        self, gradients: Sequence[tf.Tensor], losses: Losses, means: tf.Tensor, problem: Problem, scales: tf.Tensor
    ) -> tf.Tensor:
        """The mixing matrix of one variable on its own."""
        factors = tf.gather(scales * means, losses)
        part = _part(problem, losses)
        if self.method.looks_at is LooksAt.BLOCK_GRAMIANS:
            part = part._replace(gramian=gramian_lib.scaled(gramian_lib.block(gradients), factors))
        weights = self._call(part, {}).weights
        return tf.linalg.diag(_where_active(part.active, weights, tf.zeros_like(weights)) * factors)


def build(name: str, options: Mapping[str, Any], count: int, **settings: Any) -> Combination:
    """The combination of `count` losses that a method's name and options select; imports its module.

    Args:
      name: the method's name.
      options: its options.
      count: number of losses K.
      **settings: `use_weights`, `log_losses`, `smoothing`.
    """
    method, remaining = registry.resolve(name, options)
    return Combination(method, remaining, count, **settings)


def joint_weights(weights: tf.Tensor) -> tf.Tensor:
    """(K,): how much of each loss's gradient is in what is applied jointly, from (K,) or (K, K) weights."""
    return weights if weights.shape.rank == 1 else tf.reduce_sum(weights, axis=0)


def joint(gradients: Sequence[tf.Tensor], coefficients: tf.Tensor) -> tf.Tensor:
    """The sum of a variable's mixed gradients: what one optimizer applies for all losses."""
    return ordered_sums.weighted(gradients, tf.reduce_sum(coefficients, axis=0))


def own(
    gradients: Sequence[tf.Tensor], coefficients: tf.Tensor, receiver: int, *, only: int | None = None
) -> tf.Tensor:
    """The mixed gradient of one receiver (a row of `coefficients`); made of gradient `only` alone where known."""
    if only is not None:
        return ordered_sums.weighted(gradients[only : only + 1], coefficients[receiver, only : only + 1])
    return ordered_sums.weighted(gradients, coefficients[receiver])


def step_seed(seed: int, step: tf.Tensor | int) -> tf.Tensor:
    """A stateless seed, (2,) int32, for everything random in one step: the same on every replica and worker."""
    words = np.array([seed & 0x7FFFFFFF, seed >> 31], np.int64)
    return tf.cast(tf.random.experimental.stateless_fold_in(words, step), tf.int32)


def _where_active(active: tf.Tensor, new: tf.Tensor, old: tf.Tensor) -> tf.Tensor:
    """`new` at active losses, (K,), or pairs of them, (K, K); `old` elsewhere."""
    return tf.where(active if new.shape.rank == 1 else active & active[:, tf.newaxis], new, old)


def _part(problem: Problem, losses: Losses) -> Problem:
    """The problem of some of the losses, without a Gramian."""
    return problem._replace(
        active=tf.gather(problem.active, losses), weights=tf.gather(problem.weights, losses), losses=None, gramian=None
    )
