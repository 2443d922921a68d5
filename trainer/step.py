"""The step: how a batch becomes an update.

    global batch ──split──► replica r
        accumulate          forward, per-example losses, one backward pass per loss: sums of this replica's part
                            (repeated for each micro-batch, adding up)
        reduce and combine  one cross-replica sum of all gradients and of every loss's Σ w·ℓ and Σ w; global means;
                            how each loss's gradients are mixed; clip
        apply               every optimizer updates its variables; nothing is reduced a second time

Each of the three is one `strategy.run`. Conditions (skipping a step that is not finite, letting the optimizer of a loss
without labels rest, which steps take one backward pass only) stand between them, because a condition inside
`strategy.run` cannot hold an apply.

Where one weighted sum of the losses is all that is applied, `accumulate weighted` takes one backward pass for all of
them (`reduction: fused`, and the steps between two updates of the weights with `combine.update_every`), or one through
the trunk (`gradients: features`), and `reduce weighted` sums one gradient per variable. What travels, per replica and
step, in numbers, for shared variables of sizes nᵥ reached by kᵥ losses each, and m task-specific ones:

    a pass per loss         Σ kᵥ nᵥ + m + 2 K, in one collective
    fused                   Σ nᵥ + m + 2 K, in one; where labels can be missing the 2 K go first, in one of their own
    features                K² + 2 K in float64, then Σ nᵥ + m
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from trainer import diagnostics, replica_state, schedules, sums
from trainer import features as features_lib
from trainer import jacobian as jacobian_lib
from trainer import loss_scale as loss_scale_lib
from trainer.averaging import WeightAverage
from trainer.combine import combination as combination_lib
from trainer.combine import gramian as gramian_lib
from trainer.combine.combination import Combination
from trainer.jacobian import Jacobian, Reach
from trainer.loss_scale import LossScale
from trainer.losses import LossSums, NamedLoss
from trainer.optimizers import Update
from trainer.reduction import Reduction

Gradients = tuple[tuple[tf.Tensor, ...], ...]  # for every `Update`, one gradient for each of its variables


class LocalSums(NamedTuple):
    """One replica's part of a step.

    Attributes:
      jacobian: per variable, gradients of Σ w·ℓ of the losses that reach it, times the loss scale.
      weighted: (K,) Σ w·ℓ.
      weights: (K,) Σ w.
      sizes: (K,) number of values in the *global* batch; the same on every replica.
    """

    jacobian: Jacobian
    weighted: tf.Tensor
    weights: tf.Tensor
    sizes: tf.Tensor


class Weighted(NamedTuple):
    """One replica's part of a step with one weighted sum of the losses.

    Attributes:
      gradients: per variable, of this replica's part of the weighted sum of the global means, times the loss scale.
      weighted: (K,) Σ w·ℓ.
      weights: (K,) Σ w; as `weighted` of the global batch already, where labels can be missing.
      sizes: (K,) number of values in the *global* batch.
    """

    gradients: tuple[tf.Tensor, ...]
    weighted: tf.Tensor
    weights: tf.Tensor
    sizes: tf.Tensor


class StepSummary(NamedTuple):
    """What a step says of itself; the same on every replica.

    Attributes:
      losses: (K,) global means; 0 where inactive.
      active: (K,) bool, the losses that take part: due in this step, with a labelled example in the global batch.
      finite: (K,) bool, whether a loss and all its gradients are finite.
      measured: scalar bool, whether the step measured what follows, which is zeros otherwise.
      grad_norms: (K,) float64, length of each loss's whole gradient.
      cosines: (K, K) float64, between the losses' gradients over the shared variables.
      weights: (K,) float64, how much of each loss's gradient was applied jointly; zeros where no later step needs it.
    """

    losses: tf.Tensor
    active: tf.Tensor
    finite: tf.Tensor
    measured: tf.Tensor
    grad_norms: tf.Tensor
    cosines: tf.Tensor
    weights: tf.Tensor


class Totals(NamedTuple):
    """What the host loop carries from step to step, on the device, until a report reads it.

    Attributes:
      losses: (K,) sums of the losses over the steps in which they were active.
      counts: (K,) number of those steps.
      failed_step: number (from 0) of the first step that was not finite; -1 while there is none.
      failed: (K,) bool, the losses that were not finite there.
      measured: the summary of the last step that measured norms and cosines.
    """

    losses: tf.Tensor
    counts: tf.Tensor
    failed_step: tf.Tensor
    failed: tf.Tensor
    measured: StepSummary


class State(NamedTuple):
    """What the step remembers beside the variables; a checkpoint holds it.

    Attributes:
      loss_scale: of `precision: mixed_float16`.
      weights: (K,) float64, the weights that the combination last found (`combine.update_every`); NaN where the next
        step must find some.
    """

    loss_scale: LossScale
    weights: tf.Tensor


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
      clip_norm: largest global norm of what is applied (of every loss's own update, when applied per loss); None: no
        limit.
      average: moving averages of the weights, where the run keeps them.
      fused: one backward pass of the weighted sum, a step per loss every `probe_every`-th step.
      probe_every: see `fused`.
      update_every: the combination finds weights in every so-manyth step; those between are fused with the last ones.
      features: the model's two parts, where the combination looks at the gradients between them.
      micro_batches: parts of a global batch that are computed one after another.
      labels_can_be_missing: whether Σ w differs from step to step.
      scales_losses: whether losses are scaled for their backward passes (float16).
      reduction: how values travel between replicas.
      jit_compile: compile forward and backward passes with XLA.
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
    average: WeightAverage | None
    fused: bool
    probe_every: int
    update_every: int
    features: features_lib.Split | None
    micro_batches: int
    labels_can_be_missing: bool
    scales_losses: bool
    reduction: Reduction
    jit_compile: bool

    def initial_state(self) -> State:
        """The state at the start of a run."""
        return State(loss_scale_lib.initial(), tf.fill([len(self.losses)], tf.constant(math.nan, tf.float64)))

    def remembered(self, state: State) -> dict[str, tf.Tensor]:
        """The part of the state that later steps of this run read, by name, for its checkpoints."""
        values = {}
        if self.scales_losses:
            values |= state.loss_scale._asdict()
        if self.update_every > 1:
            values["weights"] = state.weights
        return values

    def with_remembered(self, values: Mapping[str, tf.Tensor]) -> State:
        """The state of which `remembered` gave these values."""
        state = self.initial_state()
        scale = {name: values[name] for name in LossScale._fields if name in values}
        return State(state.loss_scale._replace(**scale), values.get("weights", state.weights))

    def initial_totals(self) -> Totals:
        """The totals at the start of a run and after every report."""
        count, dtype = len(self.losses), keras.config.floatx()
        zeros, none = tf.zeros([count], dtype), tf.zeros([count], tf.bool)
        norms, cosines = diagnostics.not_measured(count)
        measured = StepSummary(zeros, none, none, tf.constant(False), norms, cosines, norms)
        return Totals(zeros, zeros, tf.constant(-1, tf.int64), none, measured)

    # -----------------------------------------------------------------------------------------------------------------
    # The replica functions.
    # -----------------------------------------------------------------------------------------------------------------

    def accumulate(self, batch: Mapping[str, Any], micro_step: tf.Tensor, scale: LossScale) -> LocalSums:
        """Forward and backward passes over this replica's part of a micro-batch; no communication."""
        replica_state.seed_random_layers(self.model, seed=self.seed, step=micro_step)
        factor = scale.of_sums(self.batch_size) if self.scales_losses else None
        per_loss_gradients = self._compiled(jacobian_lib.per_loss_gradients)
        jacobian, losses = per_loss_gradients(self.model, self.losses, self.reach, batch, factor)
        return LocalSums(jacobian, *self._numbers(losses))

    def reduce_and_combine(
        self, local: LocalSums, step: tf.Tensor, diagnose: tf.Tensor, scale: LossScale
    ) -> tuple[Gradients, StepSummary]:
        """One packed cross-replica sum, global means, and the gradients that every optimizer applies."""
        jacobian, (weighted, weights) = self.reduction.sum(local.jacobian, (local.weighted, local.weights))
        active, means = self._active_and_means(weights, local.sizes, step)
        losses = weighted * means
        # The gradients stay sums. What makes means of them goes into the coefficients, one factor per gradient: of two
        # the graph optimizer may choose the order, on every replica another one.
        means = tf.cast(means, tf.float64)
        if self.scales_losses:
            means /= tf.cast(scale.of_sums(self.batch_size), tf.float64)

        gramian = gramian_lib.of_shared(jacobian, self.reach, means) if self.combination.needs_gramian else None
        problem = {
            "active": active,
            "weights": schedules.at(step, self.weights),
            "gramian": gramian,
            "seed": combination_lib.step_seed(self.seed, step),
        }
        coefficients = self.combination.coefficients(jacobian, self.reach.losses, means=means, **problem)
        gradients = self._clip(self._mixed(jacobian, coefficients))
        finite = diagnostics.finite(jacobian, losses, self.reach)
        norms, cosines = diagnostics.norms_and_cosines(jacobian, self.reach, means, gramian, active, wanted=diagnose)
        kept = self.combination.joint_weights(**problem) if self.update_every > 1 else tf.zeros_like(norms)
        return gradients, StepSummary(losses, active, finite, diagnose, norms, cosines, kept)

    def accumulate_weighted(
        self, batch: Mapping[str, Any], step: tf.Tensor, micro_step: tf.Tensor, state: State
    ) -> Weighted:
        """Forward and one backward pass, of the losses' weighted sum, over this replica's part of a micro-batch."""
        replica_state.seed_random_layers(self.model, seed=self.seed, step=micro_step)

        def weigh(losses: Sequence[LossSums]) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]]:
            weighted, weights, sizes = self._numbers(losses)
            if self.labels_can_be_missing:
                _, (weighted, weights) = self.reduction.sum((), (weighted, weights))
            active, means = self._active_and_means(weights if self.labels_can_be_missing else sizes, sizes, step)
            factors = tf.cast(means, tf.float64)
            if self.scales_losses:
                factors *= tf.cast(state.loss_scale.scale, tf.float64)
            weights_now = schedules.at(step, self.weights)
            own = factors * self.combination.own_weights(weights_now)
            kept = self.update_every > 1
            return factors * state.weights if kept else own, own, (weighted, weights, sizes)

        weighted_gradients = self._compiled(jacobian_lib.weighted_gradients)
        gradients, numbers = weighted_gradients(self.model, self.losses, self.reach, batch, weigh)
        return Weighted(gradients, *numbers)

    def reduce_weighted(self, local: Weighted, step: tf.Tensor, state: State) -> tuple[Gradients, StepSummary]:
        """One packed cross-replica sum of one gradient per variable."""
        numbers = (local.weighted, local.weights)
        rows = [(gradient,) for gradient in local.gradients]
        if self.labels_can_be_missing:
            rows, _ = self.reduction.sum(rows, ())
        else:
            rows, numbers = self.reduction.sum(rows, numbers)
        weighted, weights = numbers
        active, means = self._active_and_means(weights, local.sizes, step)
        factors = (None,) * len(rows)
        if self.update_every == 1:
            factors = self.combination.factors(self.reach.losses, active, schedules.at(step, self.weights))
        gradients = self._unscaled([row for (row,) in rows], factors, state.loss_scale)
        losses = weighted * means
        finite = diagnostics.finite_together(gradients, losses, self.reach)
        norms, cosines = diagnostics.not_measured(len(self.losses))
        summary = StepSummary(losses, active, finite, tf.constant(False), norms, cosines, state.weights)
        return self._clip(self._for_updates(gradients)), summary

    def combine_by_features(
        self, batch: Mapping[str, Any], step: tf.Tensor, scale: LossScale
    ) -> tuple[Gradients, StepSummary]:
        """K backward passes to the features, whose Gramian gives the weights; one from there on for their sum."""
        replica_state.seed_random_layers(self.model, seed=self.seed, step=step)
        factor = scale.of_sums(self.batch_size) if self.scales_losses else None

        def weigh(losses: Sequence[LossSums], gramian: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]]:
            weighted, weights, sizes = self._numbers(losses)
            in_one = [tf.cast(values, tf.float64) for values in (weighted, weights)]  # a collective has one dtype
            _, (gramian, *in_one) = self.reduction.sum((), (gramian, *in_one))
            weighted, weights = (tf.cast(values, sizes.dtype) for values in in_one)
            active, means = self._active_and_means(weights, sizes, step)
            losses_now = weighted * means
            means = tf.cast(means, tf.float64)
            gramian = gramian_lib.scaled(gramian, means if factor is None else means / tf.cast(factor, tf.float64))
            weights_now = schedules.at(step, self.weights)
            seed = combination_lib.step_seed(self.seed, step)
            shared = self.combination.joint_weights(active=active, weights=weights_now, gramian=gramian, seed=seed)
            own = self.combination.own_weights(weights_now)
            if factor is not None:  # from here on gradients of means, times the whole scale
                means *= tf.cast(scale.scale / factor, tf.float64)
            return shared * means, own * means, (losses_now, active, gramian, shared)

        gradients, (losses, active, gramian, shared) = features_lib.weighted_gradients(
            self.features, self.losses, self.reach, batch, weigh, factor
        )
        rows, _ = self.reduction.sum([(gradient,) for gradient in gradients], ())
        gradients = self._unscaled([row for (row,) in rows], (None,) * len(rows), scale)
        finite = diagnostics.finite_together(gradients, losses, self.reach, rows=tf.linalg.diag_part(gramian))
        norms, cosines = diagnostics.of_gramian(gramian)
        summary = StepSummary(losses, active, finite, tf.constant(True), tf.where(active, norms, 0), cosines, shared)
        return self._clip(self._for_updates(gradients)), summary

    def apply(self, gradients: Sequence[tuple[tf.Tensor, ...]], updates: Sequence[Update]) -> None:
        """Optimizers' updates of their variables, one after another, on every replica alike."""
        for own, update in zip(gradients, updates, strict=True):
            update.optimizer.apply(list(own), list(update.variables))

    # -----------------------------------------------------------------------------------------------------------------
    # The traced function around them.
    # -----------------------------------------------------------------------------------------------------------------

    def build(self) -> Callable[..., tuple[State, Totals]]:
        """The in-graph host loop.

        Returns:
          `train(iterator, first_step, count, diagnose, state, totals)`, which runs `count` steps and returns the state
          and the totals; the last of the steps measures gradient norms and cosines where `diagnose` (and a pass per
          loss is taken). The three are scalar tensors (int64, int64, bool), so that nothing is traced anew. A step
          that is not finite changes nothing and ends the loop, unless a smaller loss scale may help.
        """

        def one_step(
            iterator: Any, step: tf.Tensor, diagnose: tf.Tensor, state: State, totals: Totals
        ) -> tuple[State, Totals]:
            gradients, summary = self._combined(iterator, step, diagnose, state)
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
            failed, loss_scale = ~finite, state.loss_scale
            if self.scales_losses:
                failed &= ~loss_scale.overflowed(summary.losses, finite)
                loss_scale = loss_scale.after(finite)
            active = tf.cast(summary.active & finite, totals.counts.dtype)
            weights = tf.where(finite, summary.weights, math.nan)
            return State(loss_scale, weights), Totals(
                losses=totals.losses + tf.where(active > 0, summary.losses, 0),
                counts=totals.counts + active,
                failed_step=tf.where(failed, step, totals.failed_step),
                failed=tf.where(failed, ~summary.finite, totals.failed),
                measured=tf.nest.map_structure(
                    lambda new, old: tf.where(summary.measured & finite, new, old), summary, totals.measured
                ),
            )

        @tf.function(autograph=False)
        def train(
            iterator: Any,
            first_step: tf.Tensor,
            count: tf.Tensor,
            diagnose: tf.Tensor,
            state: State,
            totals: Totals,
        ) -> tuple[State, Totals]:
            def body(index: tf.Tensor, state: State, totals: Totals) -> tuple[tf.Tensor, State, Totals]:
                return index + 1, *one_step(
                    iterator, first_step + index, diagnose & (index + 1 == count), state, totals
                )

            def going_on(index: tf.Tensor, state: State, totals: Totals) -> tf.Tensor:
                return (index < count) & (totals.failed_step < 0)

            return tf.while_loop(going_on, body, (tf.zeros_like(count), state, totals))[1:]

        return train

    # -----------------------------------------------------------------------------------------------------------------
    # Which of the replica functions a step runs.
    # -----------------------------------------------------------------------------------------------------------------

    def _combined(
        self, iterator: Any, step: tf.Tensor, diagnose: tf.Tensor, state: State
    ) -> tuple[Gradients, StepSummary]:
        """The gradients of a step, on every replica, ready to apply; and its summary."""
        whole = self._by_features if self.features is not None else self._per_loss
        if self.fused:
            due = tf.equal((step + 1) % self.probe_every, 0)
        elif self.update_every > 1:
            due = tf.equal(step % self.update_every, 0) | tf.reduce_any(tf.math.is_nan(state.weights))
        else:
            return whole(iterator, step, diagnose, state)
        return tf.cond(
            due,
            lambda: whole(iterator, step, tf.constant(True), state),
            lambda: self._one_pass(iterator, step, state),
        )

    def _per_loss(
        self, iterator: Any, step: tf.Tensor, diagnose: tf.Tensor, state: State
    ) -> tuple[Gradients, StepSummary]:
        local = self._over_micro_batches(iterator, step, self.accumulate, (state.loss_scale,))
        return self._run(self.reduce_and_combine, (local, step, diagnose, state.loss_scale))

    def _one_pass(self, iterator: Any, step: tf.Tensor, state: State) -> tuple[Gradients, StepSummary]:
        local = self._over_micro_batches(
            iterator,
            step,
            lambda batch, micro_step, *args: self.accumulate_weighted(batch, step, micro_step, *args),
            (state,),
        )
        return self._run(self.reduce_weighted, (local, step, state))

    def _by_features(
        self, iterator: Any, step: tf.Tensor, diagnose: tf.Tensor, state: State
    ) -> tuple[Gradients, StepSummary]:
        del diagnose  # the Gramian is there anyway
        return self._run(self.combine_by_features, (next(iterator), step, state.loss_scale))

    def _run(
        self, function: Callable[..., tuple[Gradients, StepSummary]], args: tuple
    ) -> tuple[Gradients, StepSummary]:
        gradients, summary = self.strategy.run(function, args=args)
        return gradients, tf.nest.map_structure(
            lambda value: self.strategy.experimental_local_results(value)[0], summary
        )

    def _over_micro_batches(self, iterator: Any, step: tf.Tensor, accumulate: Callable[..., Any], args: tuple) -> Any:
        """What `accumulate(batch, number of the micro-batch, *args)` gives on every replica, summed over a step."""
        first = step * self.micro_batches
        total = self.strategy.run(accumulate, args=(next(iterator), first, *args))
        if self.micro_batches == 1:
            return total

        def add(total: Any, batch: Any, micro_step: tf.Tensor, *args: Any) -> Any:
            part = accumulate(batch, micro_step, *args)
            sums_ = tf.nest.map_structure(lambda whole, more: whole + more, total, part)
            return sums_._replace(sizes=total.sizes)

        def body(index: tf.Tensor, total: Any) -> tuple[tf.Tensor, Any]:
            return index + 1, self.strategy.run(add, args=(total, next(iterator), first + index, *args))

        one = tf.ones([], tf.int64)
        # One iteration at a time: of several the memory would add up.
        return tf.while_loop(lambda index, _: index < self.micro_batches, body, (one, total), parallel_iterations=1)[1]

    # -----------------------------------------------------------------------------------------------------------------
    # Parts of the replica functions.
    # -----------------------------------------------------------------------------------------------------------------

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, compiled with XLA where the run asks for it."""
        if not self.jit_compile:
            return function
        return lambda *args: tf.function(lambda: function(*args), autograph=False, jit_compile=True)()

    def _numbers(self, losses: Sequence[LossSums]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """(K,) each: Σ w·ℓ and Σ w of this replica's part, and the number of values in the global batch."""
        weighted, weights, per_example = (tf.stack(column) for column in zip(*losses, strict=True))
        return weighted, weights, per_example * self.batch_size

    def _active_and_means(self, weights: tf.Tensor, sizes: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(K,) bool, which losses take part; (K,), what makes means of their sums, 0 where they do not."""
        active = (weights > 0) & tf.stack([loss.takes_part(step) for loss in self.losses])
        denominators = tf.where([loss.normalizer == "weights" for loss in self.losses], weights, sizes)
        return active, tf.where(active, tf.math.reciprocal_no_nan(denominators), 0)

    def _unscaled(
        self, gradients: Sequence[tf.Tensor], factors: Sequence[tf.Tensor | None], scale: LossScale
    ) -> list[tf.Tensor]:
        """Each variable's gradient times its factor (None: 1), without the loss scale."""
        if self.scales_losses:
            inverse = tf.math.reciprocal(tf.cast(scale.scale, tf.float64))
            factors = [inverse if factor is None else factor * inverse for factor in factors]
        return [
            gradient if factor is None else gradient * tf.cast(factor, gradient.dtype)
            for gradient, factor in zip(gradients, factors, strict=True)
        ]

    def _for_updates(self, gradients: Sequence[tf.Tensor]) -> Gradients:
        """For every optimizer the gradients it applies jointly, with the regularizers' own added once."""
        regularizers = jacobian_lib.regularizer_gradients(self.reach)
        return tuple(
            tuple(gradients[v] + regularizers[v] if v in regularizers else gradients[v] for v in update.positions)
            for update in self.updates
        )

    def _mixed(self, jacobian: Jacobian, coefficients: Sequence[tf.Tensor]) -> Gradients:
        """For every optimizer the gradients it applies: mixed, with the regularizers' own added once."""
        if not self.per_loss:
            return self._for_updates(
                [combination_lib.joint(own, mixing) for own, mixing in zip(jacobian, coefficients, strict=True)]
            )
        regularizers = jacobian_lib.regularizer_gradients(self.reach)
        result = []
        for update in self.updates:
            (k,) = update.losses
            own = []
            for v in update.positions:
                by = self.reach.losses[v]
                row = self.combination.receivers(by).index(k)
                only = row if self.combination.method.diagonal or len(by) == 1 else None
                gradient = combination_lib.own(jacobian[v], coefficients[v], row, only=only)
                own.append(gradient + regularizers[v] if k == by[0] and v in regularizers else gradient)
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
