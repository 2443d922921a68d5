"""A step with one backward pass for the losses' weighted sum, which reduces one gradient per variable."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from trainer.combine import mixing as mixing_lib
from trainer.combine.problem import Answer, Problem
from trainer.components import batch_sizes
from trainer.components.losses import LossSums
from trainer.distributed.all_reduce import Reduction
from trainer.gradients import statistics
from trainer.gradients.reach import Reach
from trainer.step import backward, parts, replicas
from trainer.step.applied import Joint
from trainer.step.loss_scale import Scaling
from trainer.step.objectives import Objectives
from trainer.step.solving import Solver
from trainer.step.values import Applied, FusedSums, Measurement, State, StepSummary


@dataclasses.dataclass(frozen=True)
class Fused:
    """Forward and one backward pass on every replica; one all-reduce.

    Attributes:
      strategy: where.
      objectives: the losses.
      reach: which of them reach which variable.
      solver: finds the coefficients before the backward pass.
      mixing: from one gradient per variable to what each optimizer applies.
      reduction: how values travel between replicas.
      scaling: of the losses.
      micro_batches: parts of a global batch that are computed one after another.
      compiled: compiles a function, where the run asks for it.
      keeps_coefficients: the coefficients are those that the state holds, of an earlier step.
      sums_first: the weighted sum needs the losses' sums over all replicas before its backward pass.
    """

    strategy: tf.distribute.Strategy
    objectives: Objectives
    reach: Reach
    solver: Solver
    mixing: Joint
    reduction: Reduction
    scaling: Scaling
    micro_batches: int
    compiled: Callable[[Callable[..., Any]], Callable[..., Any]]
    keeps_coefficients: bool
    sums_first: bool

    def compute(
        self, iterator: Any, batch: Any, step: tf.Tensor, measure: tf.Tensor, state: State
    ) -> tuple[Applied, StepSummary]:
        """Returns what a step changes, on every replica, and its summary, without norms and cosines."""
        del measure  # there is no gradient of each loss

        def accumulate(batch: Mapping[str, Any], micro_step: tf.Tensor, state: State) -> FusedSums:
            return self._accumulate(batch, step, micro_step, state)

        local = parts.accumulated(
            self.objectives, self.strategy, self.micro_batches, iterator, batch, step, accumulate, (state,)
        )
        with tf.name_scope("combine"):
            return replicas.run(self.strategy, self._reduce, (local, step, state))

    def _accumulate(self, batch: Mapping[str, Any], step: tf.Tensor, micro_step: tf.Tensor, state: State) -> FusedSums:
        """Forward and backward pass over this replica's part of a micro-batch."""
        objectives, combination = self.objectives, self.solver.combination
        objectives.seed_random_layers(micro_step)

        def weigh(losses: Sequence[LossSums]) -> tuple[tf.Tensor, tf.Tensor, tuple[Any, ...]]:
            numbers, present = objectives.numbers(losses, batch), ()
            if self.sums_first:
                numbers = objectives.summed(numbers, self.reduction)
            elif objectives.varying:
                present = (tf.cast(batch[batch_sizes.EXAMPLES], numbers.in_all.dtype), *numbers.left)
            loss_sums, weight_sums = numbers.loss_sums, numbers.weight_sums
            counts = numbers.in_all if present else objectives.counts(numbers)
            denominators = (weight_sums if self.sums_first else counts, counts)
            active, normalizers = objectives.active_and_normalizers(*denominators, step)
            problem = objectives.problem(step, active, loss_sums * normalizers)
            answer = self._answer(problem, state)
            scales = combination.scales(problem.loss_weights, problem.losses)
            own = self.scaling.times_scale(scales * tf.cast(normalizers, tf.float64), state.loss_scale)
            method = combination.method
            shared = own * answer.coefficients if method.yields_coefficients else own
            return (
                shared,
                shared if method.weighs_task_specific else own,
                (loss_sums, weight_sums, counts, present, answer),
            )

        passes = self.compiled(backward.weighted_gradients)
        gradients, numbers = passes(
            objectives.model,
            objectives.losses,
            self.reach,
            batch,
            weigh,
            objectives.batch_size,
            objectives.watch,
        )
        return FusedSums(gradients, *numbers)

    def _answer(self, problem: Problem, state: State) -> Answer:
        if self.keeps_coefficients:
            return Answer(state.coefficients, state.combination)
        return self.solver.solve(problem, state.combination)

    def _reduce(self, local: FusedSums, step: tf.Tensor, state: State) -> tuple[Applied, StepSummary]:
        """One packed cross-replica sum of one gradient per variable."""
        combination = self.solver.combination
        numbers = (local.loss_sums, local.weight_sums, local.present)
        rows = [(gradient,) for gradient in local.gradients]
        if self.sums_first:
            rows, _ = self.reduction.sum(rows, ())
        else:
            rows, numbers = self.reduction.sum(rows, numbers)
        loss_sums, weight_sums, present = numbers
        counts = present[1] if present else local.counts
        active, normalizers = self.objectives.active_and_normalizers(weight_sums, counts, step)
        losses = loss_sums * normalizers
        problem = self.objectives.problem(step, active, losses)
        factors = mixing_lib.factors(combination, self.reach.losses, problem)
        if present:  # the backward pass divided by the nominal size
            larger = self.objectives.batch_size / tf.cast(present[0], tf.float64)
            factors = [larger if factor is None else larger * factor for factor in factors]
        gradients = self.scaling.unscaled([row for (row,) in rows], factors, state.loss_scale)
        finite = statistics.finite_together(gradients, losses, self.reach)
        in_domain = combination.accepts(losses, problem, finite.all, local.answer.coefficients)
        norms, cosines = statistics.not_measured(self.objectives.count)
        none = tf.constant(False)
        measurement = Measurement(none, active, norms, cosines, local.answer.coefficients)
        summary = StepSummary(losses, active, finite, in_domain, local.answer, measurement, has_cosines=none)
        return Applied(self.mixing.of_sums(gradients)), summary
