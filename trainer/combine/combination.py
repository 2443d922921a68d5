"""A method with its options and what can be put around it: from a step's K x K problem to the coefficients.

`mixing.py` makes of them the mixing matrix of each variable's gradients.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.combine import registry
from trainer.combine.problem import SMOOTHED, Answer, Problem, State, where_active
from trainer.combine.registry import LooksAt, Method
from trainer.gradients import gramian as gramian_lib

Losses = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Combination:
    """A method with its options, and what can be put around any method.

    Attributes:
      method: the registry's entry.
      options: the method's options.
      count: number of losses K.
      use_weights: scale the losses by their weights before the method sees them.
      log_losses: the method sees the losses' logarithms: their gradients are divided by the losses.
      smoothing: part of the coefficients of the step before that stays in a step's coefficients; 0: none.
    """

    method: Method
    options: Mapping[str, Any]
    count: int
    use_weights: bool = False
    log_losses: bool = False
    smoothing: float = 0.0

    @property
    def sees_losses(self) -> bool:
        """True where the method looks at the values of the losses, alone or among other things."""
        return self.method.looks_at is LooksAt.LOSSES or self.method.with_losses(self.options)

    @property
    def needs_losses(self) -> bool:
        """True where the method looks at the losses' values or their gradients are divided by these (`log_losses`)."""
        return self.method.looks_at is LooksAt.LOSSES or self.log_losses

    @property
    def needs_gramian(self) -> bool:
        """True where the method looks at a Gramian over all shared variables."""
        return self.method.looks_at in (LooksAt.GRAMIAN, LooksAt.CROSS_GRAMIAN, LooksAt.MOVING_GRAMIAN)

    @property
    def of_two_batches(self) -> bool:
        """True where the method needs the gradients over each of the two halves of the batch."""
        return self.method.looks_at is LooksAt.CROSS_GRAMIAN

    @property
    def keeps(self) -> float | None:
        """The share of the gradients' moving averages that a step keeps; None where the method mixes none."""
        return None if self.method.keeps is None else self.method.keeps(self.options)

    @property
    def observes(self) -> bool:
        """True where the method needs the losses of the same batch after the update."""
        return self.method.observe is not None

    @property
    def lower_bounds(self) -> np.ndarray | None:
        """(K,) what every loss, as the method sees it, must be above; None: nothing."""
        bound = self.method.lower_bound(self.options)
        if bound is None:
            return np.zeros(self.count) if self.log_losses else None
        return np.maximum(np.broadcast_to(bound, [self.count]), 0.0 if self.log_losses else -math.inf)

    def in_domain(self, losses: tf.Tensor, loss_weights: tf.Tensor, active: tf.Tensor) -> tf.Tensor:
        """(K,) bool, whether each loss is above its lower bound, or inactive or not finite.

        Args:
          losses: (K,) of any floating dtype.
          loss_weights: (K,) float64, the losses' weights in this step.
          active: (K,) bool.
        """
        bounds = self.lower_bounds
        if bounds is None:
            return tf.ones_like(active)
        losses = tf.cast(losses, tf.float64)
        return ~active | ~tf.math.is_finite(losses) | (self._seen(losses, loss_weights) > bounds)

    def accepts(
        self,
        losses: tf.Tensor,
        problem: Problem,
        finite: tf.Tensor,
        coefficients: tf.Tensor,
        mixed: Sequence[tf.Tensor] = (),
    ) -> tf.Tensor:
        """(K,) bool, whether the combination can take each loss, and a method of the user's own has made it finite.

        Args:
          losses: (K,) of any floating dtype.
          problem: the problem.
          finite: scalar bool, whether all losses and their gradients are finite; else the method is not to blame.
          coefficients: (K,) float64, which the method found.
          mixed: gradients that it combined element by element.
        """
        in_domain = self.in_domain(losses, problem.loss_weights, problem.active)
        if not self.method.own:
            return in_domain
        if self.method.yields_coefficients:
            found = tf.math.is_finite(coefficients)
        else:
            found = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in mixed])
        return in_domain & (found | ~finite)

    def receivers(self, by: Losses) -> Losses:
        """The losses whose mixed gradient exists on a variable that the losses `by` reach."""
        shared = len(by) > 1
        return by if self.method.diagonal or not shared else tuple(range(self.count))

    def initial_state(self) -> dict[str, tf.Tensor]:
        """Returns the state at the start of a run: name → a small float64 or int64 tensor."""
        state = {}
        if self.method.initial is not None:
            state |= self.method.initial(self.count, **self.options)
        if self.smoothing:
            shape = [self.count] if self.method.diagonal else [self.count, self.count]
            state[SMOOTHED] = tf.fill(shape, tf.constant(math.nan, tf.float64))
        return state

    def scales(self, loss_weights: tf.Tensor, losses: tf.Tensor | None) -> tf.Tensor:
        """Returns the factors by which the losses' gradients are multiplied before the method sees them.

        Args:
          loss_weights: (K,) float64, the losses' weights in this step.
          losses: (K,) float64, their values; only looked at with `log_losses`.

        Returns:
          (K,) float64.
        """
        scales = loss_weights if self.use_weights else tf.ones_like(loss_weights)
        # The gradient of log(w L) is that of log L.
        return tf.math.reciprocal_no_nan(losses) if self.log_losses else scales

    def scales_of_averaged(self, loss_weights: tf.Tensor, losses: tf.Tensor | None) -> tf.Tensor:
        """Returns (K,) float64, the factors of the gradients before they enter the moving averages."""
        scales = self.scales(loss_weights, losses)
        if not self.method.of_log_losses:
            return scales
        return scales * tf.math.reciprocal_no_nan(self._seen(losses, loss_weights))

    def scales_of_mixed(self, problem: Problem) -> tf.Tensor:
        """(K,) `scales` of the gradients of shared variables; they have entered moving averages already."""
        scales = self.scales(problem.loss_weights, problem.losses)
        return scales if self.keeps is None else tf.ones_like(scales)

    def solve(self, problem: Problem, state: State) -> Answer:
        """Returns the method's answer, smoothed over steps where `smoothing` is set.

        Args:
          problem: the problem, of unscaled losses and gradients.
          state: as `initial_state` or the step before gave it.

        Returns:
          Coefficients of the gradients times their `scales`, (K,) or (K, K), 0 where inactive; the new state, unchanged
          where it belongs to inactive losses; and whether there was no solution. Nothing that the problem or the state
          holds of inactive losses plays a part in it, finite or not.
        """
        if not self.method.yields_coefficients:
            raise ValueError(f"{self.method.function.__name__!r} has coefficients of its own for every variable")
        answer = self.answer(self._scaled(problem), self._of_active(problem, state))
        coefficients, new = answer.coefficients, dict(answer.state)
        if self.smoothing:
            before = state[SMOOTHED]
            smoothed = self.smoothing * before + (1 - self.smoothing) * coefficients
            coefficients = new[SMOOTHED] = tf.where(tf.math.is_nan(before), coefficients, smoothed)
        new = {name: where_active(problem.active, new[name], old) for name, old in state.items()}
        coefficients = where_active(problem.active, coefficients, tf.zeros_like(coefficients))
        return Answer(coefficients, new, tf.convert_to_tensor(answer.fell_back))

    def answer(self, problem: Problem, state: State) -> Answer:
        """Returns the method's own answer to a problem of scaled losses and gradients, without smoothing."""
        arguments = (problem,) if self.method.initial is None else (problem, state)
        result = self.method.function(*arguments, **self.options)
        return result if isinstance(result, Answer) else Answer(result)

    def observe(self, problem: Problem, after: tf.Tensor, state: State) -> dict[str, tf.Tensor]:
        """Returns the state once the (K,) float64 losses of the same batch `after` the update are known."""
        seen = self._seen(after, problem.loss_weights), self._of_active(problem, state)
        new = dict(state) | self.method.observe(self._scaled(problem), *seen, **self.options)
        return {name: where_active(problem.active, new[name], old) for name, old in state.items()}

    def _seen(self, losses: tf.Tensor, loss_weights: tf.Tensor) -> tf.Tensor:
        """(K,) losses as the method sees them."""
        return losses * loss_weights if self.use_weights else losses

    def _of_active(self, problem: Problem, state: State) -> dict[str, tf.Tensor]:
        """The state as the method sees it: that of inactive losses is the initial one."""
        initial = self.initial_state() if state else {}
        return {name: where_active(problem.active, state[name], value) for name, value in initial.items()}

    def _scaled(self, problem: Problem) -> Problem:
        """The problem as the method sees it: of scaled losses and gradients, zeros where inactive."""
        scales = self.scales_of_mixed(problem)
        losses, gramian = problem.losses, problem.gramian
        if losses is not None:
            losses = tf.where(problem.active, self._seen(losses, problem.loss_weights), 0.0)
        if gramian is not None:
            gramian = gramian_lib.scaled(gramian, scales)
            gramian = where_active(problem.active, gramian, tf.zeros_like(gramian))
            # Decompositions raise on what is not finite, before the step can say which loss it comes from.
            gramian = tf.where(tf.reduce_all(tf.math.is_finite(gramian)), gramian, tf.eye(self.count, dtype=tf.float64))
        return problem._replace(losses=losses, gramian=gramian)


def build(name: str, options: Mapping[str, Any], count: int, **settings: Any) -> Combination:
    """The combination of `count` losses that a method's name and options select.

    Args:
      name: the method's name, or the import path of a function of the user's own.
      options: its options.
      count: number of losses K.
      **settings: `use_weights`, `log_losses`, `smoothing`.

    Raises:
      ConfigError: the user's function cannot be a method.
    """
    method, remaining = registry.resolve(name, options)
    return Combination(method, remaining, count, **settings)


def step_seed(seed: int, step: tf.Tensor | int) -> tf.Tensor:
    """A stateless seed, (2,) int32, for everything random in one step: the same on every replica and worker."""
    words = np.array([seed & 0x7FFFFFFF, seed >> 31], np.int64)
    return tf.cast(tf.random.experimental.stateless_fold_in(words, step), tf.int32)
