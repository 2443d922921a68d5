"""The step: how a batch becomes an update.

    global batch ──split──► replica r
        accumulate          forward, per-example losses, one backward pass per loss: sums of this replica's part
        reduce and combine  one cross-replica sum of all gradients and of every loss's Σ w·ℓ and Σ w; global means;
                            how each loss's gradients are mixed; clip
        apply               every optimizer updates its variables; nothing is reduced a second time

Each of the three is one `strategy.run`. Conditions (skipping a step that is not finite, letting the optimizer of a loss
without labels rest) stand between them, because a condition inside `strategy.run` cannot hold an apply.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from trainer import diagnostics, reduction, replica_state, schedules, sums
from trainer import jacobian as jacobian_lib
from trainer.averaging import WeightAverage
from trainer.combine import combination as combination_lib
from trainer.combine import gramian as gramian_lib
from trainer.combine.combination import Combination
from trainer.jacobian import Jacobian, Reach
from trainer.losses import NamedLoss
from trainer.optimizers import Update

Gradients = tuple[tuple[tf.Tensor, ...], ...]  # for every `Update`, one gradient for each of its variables


class LocalSums(NamedTuple):
    """One replica's part of a step.

    Attributes:
      jacobian: per variable, gradients of Σ w·ℓ of the losses that reach it.
      weighted: (K,) Σ w·ℓ.
      weights: (K,) Σ w.
      sizes: (K,) number of values in the *global* batch; the same on every replica.
    """

    jacobian: Jacobian
    weighted: tf.Tensor
    weights: tf.Tensor
    sizes: tf.Tensor


class StepSummary(NamedTuple):
    """What a step says of itself; the same on every replica.

    Attributes:
      losses: (K,) global means; 0 where inactive.
      active: (K,) bool, the losses that take part: due in this step, with a labelled example in the global batch.
      finite: (K,) bool, whether a loss and all its gradients are finite.
      grad_norms: (K,) float64, length of each loss's whole gradient; zeros unless diagnosed.
      cosines: (K, K) float64, between the losses' gradients over the shared variables; zeros unless diagnosed.
    """

    losses: tf.Tensor
    active: tf.Tensor
    finite: tf.Tensor
    grad_norms: tf.Tensor
    cosines: tf.Tensor


class Totals(NamedTuple):
    """What the host loop carries from step to step, on the device, until a report reads it.

    Attributes:
      losses: (K,) sums of the losses over the steps in which they were active.
      counts: (K,) number of those steps.
      failed_step: number (from 0) of the first step that was not finite; -1 while there is none.
      last: the summary of the last step.
    """

    losses: tf.Tensor
    counts: tf.Tensor
    failed_step: tf.Tensor
    last: StepSummary


@dataclasses.dataclass(frozen=True)
class Step:
    """Everything a step is made of.

    Attributes:
      strategy: built the model and the optimizers.
      model: the model.
      losses: its K losses.
      weights: their K weights, each a number or a schedule.
      reach: which of them reach which variable.
      combination: how their gradients are combined.
      updates: the optimizers and what each of them updates.
      per_loss: whether every loss's own optimizer applies its own mixed gradients.
      can_rest: for each loss, whether there can be steps in which it takes no part.
      batch_size: examples in a global batch.
      seed: of everything random in the step.
      average: moving averages of the weights, where the run keeps them.
      clip_norm: largest global norm of what is applied (of every loss's own update, when applied per loss); None: no
      limit.
    """

    strategy: tf.distribute.Strategy
    model: keras.Model
    losses: Sequence[NamedLoss]
    weights: Sequence[float | schedules.LearningRateSchedule]
    reach: Reach
    combination: Combination
    updates: Sequence[Update]
    per_loss: bool
    can_rest: Sequence[bool]
    batch_size: int
    seed: int
    clip_norm: float | None
    average: WeightAverage | None = None

    def initial_totals(self) -> Totals:
        """The totals at the start of a run and after every report."""
        count, dtype = len(self.losses), keras.config.floatx()
        zeros = tf.zeros([count], tf.float64)
        last = StepSummary(
            tf.zeros([count], dtype),
            tf.zeros([count], tf.bool),
            tf.ones([count], tf.bool),
            zeros,
            tf.zeros([count, count], tf.float64),
        )
        return Totals(tf.zeros([count], dtype), tf.zeros([count], dtype), tf.constant(-1, tf.int64), last)

    # -----------------------------------------------------------------------------------------------------------------
    # The three replica functions.
    # -----------------------------------------------------------------------------------------------------------------

    def accumulate(self, batch: Mapping[str, Any], step: tf.Tensor) -> LocalSums:
        """Forward and backward passes over this replica's part of the global batch; no communication."""
        replica_state.seed_random_layers(self.model, seed=self.seed, step=step)
        jacobian, losses = jacobian_lib.per_loss_gradients(self.model, self.losses, self.reach, batch)
        return LocalSums(
            jacobian=jacobian,
            weighted=tf.stack([loss.weighted for loss in losses]),
            weights=tf.stack([loss.weights for loss in losses]),
            sizes=tf.stack([loss.per_example for loss in losses]) * self.batch_size,
        )

    def reduce_and_combine(
        self, local: LocalSums, step: tf.Tensor, diagnose: tf.Tensor
    ) -> tuple[Gradients, StepSummary]:
        """One packed cross-replica sum, global means, and the gradients that every optimizer applies."""
        jacobian, weighted, weights = reduction.all_reduce_sum((local.jacobian, local.weighted, local.weights))

        active = (weights > 0) & tf.stack([loss.takes_part(step) for loss in self.losses])
        denominators = tf.where([loss.normalizer == "weights" for loss in self.losses], weights, local.sizes)
        means = tf.where(active, tf.math.reciprocal_no_nan(denominators), 0)
        losses = weighted * means
        # The gradients stay sums. What makes means of them goes into the coefficients, one factor per gradient: of two
        # the graph optimizer may choose the order, on every replica another one.
        means = tf.cast(means, tf.float64)

        gramian = gramian_lib.of_shared(jacobian, self.reach, means) if self.combination.needs_gramian else None
        coefficients = self.combination.coefficients(
            jacobian,
            self.reach.losses,
            means=means,
            active=active,
            weights=schedules.at(step, self.weights),
            gramian=gramian,
            seed=combination_lib.step_seed(self.seed, step),
        )
        gradients = self._clip(self._mixed(jacobian, coefficients))
        finite = diagnostics.finite(jacobian, losses, self.reach)
        norms, cosines = diagnostics.norms_and_cosines(jacobian, self.reach, means, gramian, active, wanted=diagnose)
        return gradients, StepSummary(losses, active, finite, norms, cosines)

    def apply(self, gradients: Sequence[tuple[tf.Tensor, ...]], updates: Sequence[Update]) -> None:
        """Optimizers' updates of their variables, one after another, on every replica alike."""
        for own, update in zip(gradients, updates, strict=True):
            update.optimizer.apply(list(own), list(update.variables))

    # -----------------------------------------------------------------------------------------------------------------
    # The traced function around them.
    # -----------------------------------------------------------------------------------------------------------------

    def build(self) -> Callable[..., Totals]:
        """The in-graph host loop.

        Returns:
          `train(iterator, first_step, count, diagnose, totals)`, which runs `count` steps and returns the totals;
          the last of the steps measures gradient norms and cosines where `diagnose`. The three are scalar tensors
          (int64, int64, bool), so that nothing is traced anew. A step that is not finite changes nothing and ends
          the loop.
        """

        def one_step(iterator: Any, step: tf.Tensor, diagnose: tf.Tensor, totals: Totals) -> Totals:
            batch = next(iterator)
            local = self.strategy.run(self.accumulate, args=(batch, step))
            gradients, summary = self.strategy.run(self.reduce_and_combine, args=(local, step, diagnose))
            summary = tf.nest.map_structure(lambda value: self.strategy.experimental_local_results(value)[0], summary)
            finite = tf.reduce_all(summary.finite)
            for group in self._groups():
                takes_part = finite & self._takes_part(group, summary.active)
                run_if(
                    takes_part,
                    self.strategy,
                    self.apply,
                    ([gradients[i] for i in group], [self.updates[i] for i in group]),
                )
            if self.average is not None:
                run_if(finite, self.strategy, self.average.update, (step,))
            active = tf.cast(summary.active & finite, totals.counts.dtype)
            return Totals(
                losses=totals.losses + tf.where(active > 0, summary.losses, 0),
                counts=totals.counts + active,
                failed_step=tf.where(finite, totals.failed_step, step),
                last=summary,
            )

        @tf.function(autograph=False)
        def train(
            iterator: Any, first_step: tf.Tensor, count: tf.Tensor, diagnose: tf.Tensor, totals: Totals
        ) -> Totals:
            def body(index: tf.Tensor, totals: Totals) -> tuple[tf.Tensor, Totals]:
                return index + 1, one_step(iterator, first_step + index, diagnose & (index + 1 == count), totals)

            def going_on(index: tf.Tensor, totals: Totals) -> tf.Tensor:
                return (index < count) & (totals.failed_step < 0)

            return tf.while_loop(going_on, body, (tf.zeros_like(count), totals))[1]

        return train

    # -----------------------------------------------------------------------------------------------------------------
    # Parts of `reduce_and_combine`.
    # -----------------------------------------------------------------------------------------------------------------

    def _mixed(self, jacobian: Jacobian, coefficients: Sequence[tf.Tensor]) -> Gradients:
        """For every optimizer the gradients it applies: mixed, with the regularizers' own added once."""
        regularizers = jacobian_lib.regularizer_gradients(self.reach)
        result = []
        for update in self.updates:
            own = []
            for v in update.positions:
                by = self.reach.losses[v]
                if self.per_loss:
                    (k,) = update.losses
                    row = self.combination.receivers(by).index(k)
                    only = row if self.combination.method.diagonal or len(by) == 1 else None
                    gradient = combination_lib.own(jacobian[v], coefficients[v], row, only=only)
                    owner = k == by[0]
                else:
                    gradient = combination_lib.joint(jacobian[v], coefficients[v])
                    owner = True
                own.append(gradient + regularizers[v] if owner and v in regularizers else gradient)
            result.append(tuple(own))
        return tuple(result)

    def _clip(self, gradients: Gradients) -> Gradients:
        if self.clip_norm is None:
            return gradients
        if self.per_loss:
            return tuple(_clip_by_norm(own, self.clip_norm) for own in gradients)
        return tuple(tf.nest.pack_sequence_as(gradients, _clip_by_norm(tf.nest.flatten(gradients), self.clip_norm)))

    def _groups(self) -> list[list[int]]:
        """Indices of `updates`, in order: those that always take part together, each that can rest on its own."""
        groups: list[list[int]] = []
        for index, update in enumerate(self.updates):
            if groups and not self._can_rest(update) and not self._can_rest(self.updates[groups[-1][0]]):
                groups[-1].append(index)
            else:
                groups.append([index])
        return groups

    def _can_rest(self, update: Update) -> bool:
        return all(self.can_rest[k] for k in update.losses)

    def _takes_part(self, group: Sequence[int], active: tf.Tensor) -> tf.Tensor | bool:
        """Whether a group has anything to do: an optimizer rests where none of its losses has a label."""
        update = self.updates[group[0]]
        return tf.reduce_any(tf.gather(active, update.losses)) if self._can_rest(update) else True


def run_if(
    condition: tf.Tensor, strategy: tf.distribute.Strategy, function: Callable[..., None], args: tuple[Any, ...]
) -> None:
    """`strategy.run(function, args)` where `condition` (a scalar bool outside replica context) holds."""

    def run() -> tf.Tensor:
        strategy.run(function, args=args)
        return tf.constant(True)

    tf.cond(condition, run, lambda: tf.constant(False))


def _clip_by_norm(gradients: Sequence[tf.Tensor], norm: float) -> tuple[tf.Tensor, ...]:
    """Scales gradients down to a global norm of at most `norm`, all of them by the same factor."""
    square = sums.ordered([sums.square(gradient) for gradient in gradients])
    factor = norm / tf.maximum(tf.sqrt(square), norm)
    return tuple(gradient * tf.cast(factor, gradient.dtype) for gradient in gradients)
