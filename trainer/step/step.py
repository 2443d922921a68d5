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
    ... of two half batches 2 Σ kᵥ nᵥ + m + 4 K, in one
    fused                   Σ nᵥ + m + 2 K, in one; where labels can be missing, or the weights of this step come from
                            the losses' values, the 2 K go first, in one of their own
    features                K² + 2 K in float64, then Σ nᵥ + m

A combination that wants to know the losses after the update (`observe`) costs one forward pass and 2 K numbers more.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.combine import combination as combination_lib
from trainer.combine import mixing as mixing_lib
from trainer.combine.combination import Combination
from trainer.combine.problem import Answer, Problem
from trainer.components import schedules
from trainer.components.losses import LossSums, NamedLoss
from trainer.components.optimizers import Update
from trainer.distributed import replica_state
from trainer.distributed.all_reduce import Reduction
from trainer.gradients import gramian as gramian_lib
from trainer.gradients import half_batches, ordered_sums, statistics
from trainer.gradients.moving_average import MovingRows
from trainer.gradients.reach import Reach
from trainer.step import backward, views
from trainer.step import features as features_lib
from trainer.step import loss_scale as loss_scale_lib
from trainer.step.loss_scale import LossScale
from trainer.step.values import Applied, Gradients, LocalSums, Measurement, State, StepSummary, Totals, Weighted
from trainer.step.views import Rows
from trainer.step.weight_average import WeightAverage


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
      examples: examples in an epoch.
      seed: of everything random in the step.
      clip_norm: largest global norm of what is applied (of every loss's own update, when applied per loss); None: no
        limit.
      average: moving averages of the weights, where the run keeps them.
      moving_rows: moving averages of the gradients, where the combination mixes those.
      fused: one backward pass of the weighted sum, a step per loss every `probe_every`-th step.
      probe_every: see `fused`.
      update_every: the combination finds weights in every so-manyth step; those between are fused with the last ones.
      features: the model's two parts, where the combination looks at the gradients between them.
      micro_batches: parts of a global batch that are computed one after another.
      labels_can_be_missing: whether Σ w differs from step to step.
      scales_losses: whether losses are scaled for their backward passes (float16).
      reduction: how values travel between replicas.
      jit_compile: compile forward and backward passes with XLA.
      solver_device: where the K x K problem is solved; None: where the gradients are.
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
    examples: int
    seed: int
    clip_norm: float | None
    average: WeightAverage | None
    moving_rows: MovingRows | None
    fused: bool
    probe_every: int
    update_every: int
    features: features_lib.Split | None
    micro_batches: int
    labels_can_be_missing: bool
    scales_losses: bool
    reduction: Reduction
    jit_compile: bool
    solver_device: str | None

    @property
    def counts_first(self) -> bool:
        """Whether a single backward pass needs the losses' sums over all replicas before it begins."""
        return self.labels_can_be_missing or (
            self.combination.log_losses or (self.combination.needs_losses and self.update_every == 1)
        )

    def initial_state(self) -> State:
        """The state at the start of a run."""
        weights = tf.fill([len(self.losses)], tf.constant(math.nan, tf.float64))
        return State(loss_scale_lib.initial(), weights, self.combination.initial_state())

    def remembered(self, state: State) -> dict[str, tf.Tensor]:
        """The part of the state that later steps of this run read, by name, for its checkpoints."""
        values = {}
        if self.scales_losses:
            values |= state.loss_scale._asdict()
        if self.update_every > 1:
            values["weights"] = state.weights
        return values | {f"combination/{name}": value for name, value in state.combination.items()}

    def with_remembered(self, values: Mapping[str, tf.Tensor]) -> State:
        """The state of which `remembered` gave these values."""
        state = self.initial_state()
        scale = {name: values[name] for name in LossScale._fields if name in values}
        combination = {name: values[f"combination/{name}"] for name in state.combination}
        return State(state.loss_scale._replace(**scale), values.get("weights", state.weights), combination)

    def initial_totals(self) -> Totals:
        """The totals at the start of a run and after every report."""
        count, dtype = len(self.losses), keras.config.floatx()
        zeros, none = tf.zeros([count], dtype), tf.zeros([count], tf.bool)
        norms, cosines = statistics.not_measured(count)
        measured = Measurement(tf.constant(False), none, norms, cosines, norms)
        no_step, zero = tf.constant(-1, tf.int64), tf.constant(0, tf.int64)
        return Totals(zeros, zeros, zero, no_step, none, zeros, measured)

    # -----------------------------------------------------------------------------------------------------------------
    # The replica functions.
    # -----------------------------------------------------------------------------------------------------------------

    def accumulate(self, batch: Mapping[str, Any], micro_step: tf.Tensor, scale: LossScale) -> LocalSums:
        """Forward and backward passes over this replica's part of a micro-batch; no communication."""
        replica_state.seed_random_layers(self.model, seed=self.seed, step=micro_step)
        factor = scale.of_sums(self.batch_size) if self.scales_losses else None
        reach, parts, per_loss_gradients = self.reach, (None,), self._compiled(backward.per_loss_gradients)
        if self.combination.of_two_batches:
            reach, parts = half_batches.doubled(reach, len(self.losses)), self._halves(batch, micro_step)
        jacobian, losses = per_loss_gradients(self.model, self.losses, reach, batch, factor, parts)
        if self.combination.of_two_batches:
            jacobian = half_batches.folded(jacobian, self.reach)
        sizes = half_batches.sizes(self.batch_size) if self.combination.of_two_batches else (self.batch_size,)
        weighted, weights, per_example = (
            tf.reshape(tf.stack(column), [len(parts), -1]) for column in zip(*losses, strict=True)
        )
        return LocalSums(jacobian, weighted, weights, per_example * tf.constant(sizes, weights.dtype)[:, tf.newaxis])

    def reduce_and_combine(
        self, local: LocalSums, step: tf.Tensor, diagnose: tf.Tensor, state: State
    ) -> tuple[Applied, StepSummary]:
        """One packed cross-replica sum, global means, and the gradients that every optimizer applies."""
        jacobian, (weighted, weights) = self.reduction.sum(local.jacobian, (local.weighted, local.weights))
        active, means = self._active_and_means(weights, local.sizes, step)
        active = tf.reduce_all(active, axis=0)  # of two halves: in both
        _, mean = self._active_and_means(tf.reduce_sum(weights, 0), tf.reduce_sum(local.sizes, 0), step)
        losses = tf.where(active, tf.reduce_sum(weighted, axis=0) * mean, 0)
        # The gradients stay sums. What makes means of them goes into the coefficients, one factor per gradient: of two
        # the graph optimizer may choose the order, on every replica another one.
        means, mean = (tf.where(active, tf.cast(factors, tf.float64), 0) for factors in (means, mean))
        if self.scales_losses:
            scale = tf.cast(state.loss_scale.of_sums(self.batch_size), tf.float64)
            means, mean = means / scale, mean / scale

        owners = half_batches.of_folded(self.reach, 0) if self.combination.of_two_batches else self.reach
        finite = statistics.finite(jacobian, losses, owners)
        problem = self._problem(step, active, losses)
        rows = views.of(jacobian, means, mean, problem, self.combination, self.reach, self.moving_rows)
        answer = self._solve(problem._replace(gramian=rows.gramian), state)
        coefficients = mixing_lib.coefficients(
            self.combination,
            rows.mixed,
            self.reach.losses,
            means=mean,
            row_means=rows.means,
            problem=problem,
            weights=answer.weights,
        )
        gradients = self._clip(self._mixed(rows, coefficients, problem))
        norms, cosines = statistics.norms_and_cosines(
            jacobian, self.reach, mean, rows.plain_gramian, active, wanted=diagnose
        )
        answer = answer._replace(weights=mixing_lib.joint_weights(answer.weights))
        measurement = Measurement(diagnose, active, norms, cosines, answer.weights)
        in_domain = self.combination.in_domain(losses, problem.weights, active)
        return Applied(gradients, rows.moved), StepSummary(losses, active, finite, in_domain, answer, measurement)

    def accumulate_weighted(
        self, batch: Mapping[str, Any], step: tf.Tensor, micro_step: tf.Tensor, state: State
    ) -> Weighted:
        """Forward and one backward pass, of the losses' weighted sum, over this replica's part of a micro-batch."""
        replica_state.seed_random_layers(self.model, seed=self.seed, step=micro_step)

        def weigh(losses: Sequence[LossSums]) -> tuple[tf.Tensor, tf.Tensor, tuple[Any, ...]]:
            weighted, weights, sizes = self._numbers(losses)
            if self.counts_first:
                _, (weighted, weights) = self.reduction.sum((), (weighted, weights))
            active, means = self._active_and_means(weights if self.counts_first else sizes, sizes, step)
            problem = self._problem(step, active, weighted * means)
            answer = self._solve(problem, state) if self.update_every == 1 else Answer(state.weights, state.combination)
            scales = self.combination.scales(problem.weights, problem.losses)
            own = scales * tf.cast(means, tf.float64)
            if self.scales_losses:
                own *= tf.cast(state.loss_scale.scale, tf.float64)
            method = self.combination.method
            shared = own * answer.weights if method.yields_weights else own
            return shared, shared if method.weighs_task_specific else own, (weighted, weights, sizes, answer)

        weighted_gradients = self._compiled(backward.weighted_gradients)
        gradients, numbers = weighted_gradients(self.model, self.losses, self.reach, batch, weigh)
        return Weighted(gradients, *numbers)

    def reduce_weighted(self, local: Weighted, step: tf.Tensor, state: State) -> tuple[Applied, StepSummary]:
        """One packed cross-replica sum of one gradient per variable."""
        numbers = (local.weighted, local.weights)
        rows = [(gradient,) for gradient in local.gradients]
        if self.counts_first:
            rows, _ = self.reduction.sum(rows, ())
        else:
            rows, numbers = self.reduction.sum(rows, numbers)
        weighted, weights = numbers
        active, means = self._active_and_means(weights, local.sizes, step)
        losses = weighted * means
        problem = self._problem(step, active, losses)
        factors = mixing_lib.factors(self.combination, self.reach.losses, problem)
        gradients = self._unscaled([row for (row,) in rows], factors, state.loss_scale)
        finite = statistics.finite_together(gradients, losses, self.reach)
        in_domain = self.combination.in_domain(losses, problem.weights, active)
        norms, cosines = statistics.not_measured(len(self.losses))
        measurement = Measurement(tf.constant(False), active, norms, cosines, local.answer.weights)
        summary = StepSummary(losses, active, finite, in_domain, local.answer, measurement)
        return Applied(self._clip(self._for_updates(gradients))), summary

    def combine_by_features(
        self, batch: Mapping[str, Any], step: tf.Tensor, state: State
    ) -> tuple[Applied, StepSummary]:
        """K backward passes to the features, whose Gramian gives the weights; one from there on for their sum."""
        replica_state.seed_random_layers(self.model, seed=self.seed, step=step)
        scale = state.loss_scale
        factor = scale.of_sums(self.batch_size) if self.scales_losses else None

        def weigh(losses: Sequence[LossSums], gramian: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tuple[Any, ...]]:
            weighted, weights, sizes = self._numbers(losses)
            in_one = [tf.cast(values, tf.float64) for values in (weighted, weights)]  # a collective has one dtype
            _, (gramian, *in_one) = self.reduction.sum((), (gramian, *in_one))
            weighted, weights = (tf.cast(values, sizes.dtype) for values in in_one)
            active, means = self._active_and_means(weights, sizes, step)
            losses_now = weighted * means
            means = tf.cast(means, tf.float64)
            gramian = gramian_lib.scaled(gramian, means if factor is None else means / tf.cast(factor, tf.float64))
            problem = self._problem(step, active, losses_now)._replace(gramian=gramian)
            answer = self._solve(problem, state)
            answer = answer._replace(weights=mixing_lib.joint_weights(answer.weights))
            if factor is not None:  # from here on gradients of means, times the whole scale
                means *= tf.cast(scale.scale / factor, tf.float64)
            scales = self.combination.scales(problem.weights, problem.losses) * means
            return answer.weights * scales, scales, (losses_now, problem, answer)

        gradients, (losses, problem, answer) = features_lib.weighted_gradients(
            self.features, self.losses, self.reach, batch, weigh, factor
        )
        active, gramian = problem.active, problem.gramian
        rows, _ = self.reduction.sum([(gradient,) for gradient in gradients], ())
        gradients = self._unscaled([row for (row,) in rows], (None,) * len(rows), scale)
        finite = statistics.finite_together(gradients, losses, self.reach, rows=tf.linalg.diag_part(gramian))
        norms, cosines = statistics.of_gramian(gramian)
        measurement = Measurement(tf.constant(True), active, tf.where(active, norms, 0), cosines, answer.weights)
        in_domain = self.combination.in_domain(losses, problem.weights, active)
        summary = StepSummary(losses, active, finite, in_domain, answer, measurement)
        return Applied(self._clip(self._for_updates(gradients))), summary

    def observe(
        self, batch: Mapping[str, Any], step: tf.Tensor, summary: StepSummary
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """The losses of the same batch once more, after the update, for a combination that wants to know them.

        Random layers draw what they drew before, and statistics stay what they are.

        Returns:
          What the combination remembers then; and (K,) the losses.
        """
        replica_state.seed_random_layers(self.model, seed=self.seed, step=step)
        with replica_state.kept(self.model):
            sums_after = backward.forward(self.model, self.losses, batch)
        weighted, weights, sizes = self._numbers(sums_after)
        _, (weighted, weights) = self.reduction.sum((), (weighted, weights))
        _, means = self._active_and_means(weights, sizes, step)
        after = weighted * means
        with self._solving():
            problem = self._problem(step, summary.active, summary.losses)
            return self.combination.observe(problem, tf.cast(after, tf.float64), summary.answer.state), after

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
            batch = next(iterator)
            applied, summary = self._combined(iterator, batch, step, diagnose, state)
            finite = tf.reduce_all(summary.finite)
            fine = finite & tf.reduce_all(summary.in_domain)
            for group in self._groups():
                takes_part = fine & self._takes_part(group, summary.active)
                run_if(
                    takes_part,
                    self.strategy,
                    self.apply,
                    ([applied.gradients[i] for i in group], [self.updates[i] for i in group]),
                )
            if self.average is not None:
                run_if(fine, self.strategy, self.average.update, (step,))
            if self.moving_rows is not None:
                run_if(fine, self.strategy, self.moving_rows.assign, (applied.moving_rows,))
            remembered, wrong, losses = summary.answer.state, ~(summary.finite & summary.in_domain), summary.losses
            failed, loss_scale = ~fine, state.loss_scale
            if self.scales_losses:
                failed &= ~(loss_scale.overflowed(summary.losses, finite) & tf.reduce_all(summary.in_domain))
                loss_scale = loss_scale.after(finite)
            if self.combination.observes:
                remembered, wrong_after, after = self._observed(batch, step, summary, fine)
                wrong, losses = wrong | wrong_after, tf.where(wrong_after, after, losses)
                failed |= tf.reduce_any(wrong_after)
            active = tf.cast(summary.active & fine, totals.counts.dtype)

            def where_fine(condition: tf.Tensor, new: Any, old: Any) -> Any:
                return tf.nest.map_structure(lambda new, old: tf.where(condition, new, old), new, old)

            state = State(
                loss_scale,
                weights=tf.where(fine, summary.answer.weights, math.nan),
                combination=where_fine(fine, remembered, state.combination),
            )
            return state, Totals(
                losses=totals.losses + tf.where(active > 0, summary.losses, 0),
                counts=totals.counts + active,
                fallbacks=totals.fallbacks + tf.cast(summary.answer.fell_back & fine, tf.int64),
                failed_step=tf.where(failed, step, totals.failed_step),
                failed=tf.where(failed, wrong, totals.failed),
                failed_losses=tf.where(failed, losses, totals.failed_losses),
                measured=where_fine(summary.measurement.measured & fine, summary.measurement, totals.measured),
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
        self, iterator: Any, batch: Any, step: tf.Tensor, diagnose: tf.Tensor, state: State
    ) -> tuple[Applied, StepSummary]:
        """What a step changes, on every replica; and its summary. `batch` is its first micro-batch."""
        whole = self._by_features if self.features is not None else self._per_loss
        if self.fused:
            due = tf.equal((step + 1) % self.probe_every, 0)
        elif self.update_every > 1:
            due = tf.equal(step % self.update_every, 0) | tf.reduce_any(tf.math.is_nan(state.weights))
        else:
            return whole(iterator, batch, step, diagnose, state)
        return tf.cond(
            due,
            lambda: whole(iterator, batch, step, tf.constant(True), state),
            lambda: self._one_pass(iterator, batch, step, state),
        )

    def _per_loss(
        self, iterator: Any, batch: Any, step: tf.Tensor, diagnose: tf.Tensor, state: State
    ) -> tuple[Applied, StepSummary]:
        local = self._over_micro_batches(iterator, batch, step, self.accumulate, (state.loss_scale,))
        return self._run(self.reduce_and_combine, (local, step, diagnose, state))

    def _one_pass(self, iterator: Any, batch: Any, step: tf.Tensor, state: State) -> tuple[Applied, StepSummary]:
        local = self._over_micro_batches(
            iterator,
            batch,
            step,
            lambda batch, micro_step, *args: self.accumulate_weighted(batch, step, micro_step, *args),
            (state,),
        )
        return self._run(self.reduce_weighted, (local, step, state))

    def _by_features(
        self, iterator: Any, batch: Any, step: tf.Tensor, diagnose: tf.Tensor, state: State
    ) -> tuple[Applied, StepSummary]:
        del iterator, diagnose  # there is one batch; the Gramian is there anyway
        return self._run(self.combine_by_features, (batch, step, state))

    def _observed(
        self, batch: Any, step: tf.Tensor, summary: StepSummary, fine: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        """What the combination remembers; (K,) bool, losses after the update that it cannot take; and these losses."""

        def run() -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
            remembered, after = self._local(self.strategy.run(self.observe, args=(batch, step, summary)))
            in_domain = self.combination.in_domain(after, schedules.at(step, self.weights), summary.active)
            return remembered, ~in_domain | (summary.active & ~tf.math.is_finite(after)), after

        nothing = (summary.answer.state, tf.zeros_like(summary.active), summary.losses)
        return tf.cond(fine, run, lambda: tf.nest.map_structure(tf.identity, nothing))

    def _run(self, function: Callable[..., tuple[Applied, StepSummary]], args: tuple) -> tuple[Applied, StepSummary]:
        applied, summary = self.strategy.run(function, args=args)
        return applied, self._local(summary)

    def _local(self, values: Any) -> Any:
        """Values that are the same on every replica, from the first one."""
        return tf.nest.map_structure(lambda value: self.strategy.experimental_local_results(value)[0], values)

    def _over_micro_batches(
        self, iterator: Any, batch: Any, step: tf.Tensor, accumulate: Callable[..., Any], args: tuple
    ) -> Any:
        """What `accumulate(batch, number of the micro-batch, *args)` gives on every replica, summed over a step."""
        first = step * self.micro_batches
        total = self.strategy.run(accumulate, args=(batch, first, *args))
        if self.micro_batches == 1:
            return total

        def add(total: Any, batch: Any, micro_step: tf.Tensor, *args: Any) -> Any:
            part = accumulate(batch, micro_step, *args)
            added = [name for name in total._fields if name in ("jacobian", "gradients", "weighted", "weights")]
            plus = {name: tf.nest.map_structure(tf.add, getattr(total, name), getattr(part, name)) for name in added}
            return total._replace(**plus)

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

    def _halves(self, batch: Mapping[str, Any], micro_step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Which of this replica's part of a micro-batch stand at even and at odd positions of the global batch."""
        context = tf.distribute.get_replica_context()
        size = self.batch_size // self.micro_batches
        replica = tf.cast(context.replica_id_in_sync_group, tf.int64)
        first = micro_step % self.micro_batches * size + replica * size // context.num_replicas_in_sync
        count = tf.shape(tf.nest.flatten(batch["inputs"])[0])[0]
        return half_batches.masks(count, first, tf.as_dtype(keras.config.floatx()))

    def _problem(self, step: tf.Tensor, active: tf.Tensor, losses: tf.Tensor) -> Problem:
        """What the combination may look at, but for a Gramian; (K,) `losses` are 0 where inactive."""
        return Problem(
            active=active,
            weights=schedules.at(step, self.weights),
            losses=tf.cast(losses, tf.float64),
            gramian=None,
            seed=combination_lib.step_seed(self.seed, step),
            step=step,
            epoch=step * self.batch_size // self.examples,
        )

    def _solve(self, problem: Problem, state: State) -> Answer:
        """What the combination answers; zeros for one that has weights for every variable."""
        if not self.combination.method.yields_weights:
            return Answer(tf.zeros([len(self.losses)], tf.float64), state.combination, tf.constant(False))
        with self._solving():
            return self.combination.solve(problem, state.combination)

    def _solving(self) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext() if self.solver_device is None else tf.device(self.solver_device)

    def _numbers(self, losses: Sequence[LossSums]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """(K,) each: Σ w·ℓ and Σ w of this replica's part, and the number of values in the global batch."""
        weighted, weights, per_example = (tf.stack(column) for column in zip(*losses, strict=True))
        return weighted, weights, per_example * self.batch_size

    def _active_and_means(self, weights: tf.Tensor, sizes: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(..., K) bool, which losses take part; (..., K), what makes means of their sums, 0 where they do not."""
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
        regularizers = backward.regularizer_gradients(self.reach)
        return tuple(
            tuple(gradients[v] + regularizers[v] if v in regularizers else gradients[v] for v in update.positions)
            for update in self.updates
        )

    def _mixed(self, rows: Rows, coefficients: Sequence[tf.Tensor | None], problem: Problem) -> Gradients:
        """For every optimizer the gradients it applies: mixed, with the regularizers' own added once."""
        jacobian = rows.mixed
        if not self.per_loss:
            return self._for_updates(
                [
                    mixing_lib.joint(own, mixing)
                    if mixing is not None
                    else mixing_lib.elements(self.combination, own, self.reach.losses[v], rows.means, problem, v)
                    for v, (own, mixing) in enumerate(zip(jacobian, coefficients, strict=True))
                ]
            )
        regularizers = backward.regularizer_gradients(self.reach)
        result = []
        for update in self.updates:
            (k,) = update.losses
            own = []
            for v in update.positions:
                by = self.reach.losses[v]
                row = self.combination.receivers(by).index(k)
                only = row if self.combination.method.diagonal or len(by) == 1 else None
                gradient = mixing_lib.own(jacobian[v], coefficients[v], row, only=only)
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
    square = ordered_sums.ordered([ordered_sums.square(gradient) for gradient in gradients])
    factor = norm / tf.maximum(tf.sqrt(square), norm)
    return tuple(gradient * tf.cast(factor, gradient.dtype) for gradient in gradients)
