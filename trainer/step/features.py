"""A step that combines by the losses' gradients at the representation that every head starts from.

A method that weighs whole gradients can take its coefficients from the gradients at the last representation that all
heads share (MGDA-UB, https://arxiv.org/abs/1810.04650; LibMTL's `rep_grad`): K backward passes through the heads and
one through the trunk, instead of K through both. What is lost: the trunk's own Jacobian does not enter, so the Gramian
is another one (the gradients at the features are an upper bound for those of the trunk's variables), and what heads
that serve several losses have in common does not count.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import tensorflow as tf

from trainer.combine import mixing as mixing_lib
from trainer.combine.combination import Losses
from trainer.combine.problem import Answer, Problem, where_active
from trainer.components.loss_sums import LossSums
from trainer.components.losses import NamedLoss
from trainer.distributed.all_reduce import Reduction
from trainer.gradients import gramian as gramian_lib
from trainer.gradients import statistics
from trainer.gradients.layout import Layout
from trainer.gradients.reach import Reach
from trainer.step import absence, backward, head_passes, replicas
from trainer.step import parts as parts_lib
from trainer.step.applied import Joint
from trainer.step.cut import CutModel
from trainer.step.loss_scale import LossScale, Scaling
from trainer.step.objectives import Objectives
from trainer.step.solving import Solver
from trainer.step.values import Applied, LossNumbers, Measurement, State, StepSummary

Extra = TypeVar("Extra")
Found = tuple[tf.Tensor, Problem, Answer]  # the losses, their problem and its answer


@dataclasses.dataclass(frozen=True)
class Features:
    """K backward passes to the features, whose Gramian gives the coefficients; one from there on for their sum.

    Attributes:
      strategy: where.
      objectives: the losses.
      parts: the model, cut at the features.
      reach: which losses reach which variable.
      solver: finds the coefficients.
      mixing: from one gradient per variable to what each optimizer applies.
      reduction: how values travel between replicas.
      scaling: of the losses.
      layout: of the gradients at the features.
      can_be_absent: for each loss, whether there can be steps in which it takes no part.
    """

    strategy: tf.distribute.Strategy
    objectives: Objectives
    parts: CutModel
    reach: Reach
    solver: Solver
    mixing: Joint
    reduction: Reduction
    scaling: Scaling
    layout: Layout
    can_be_absent: tuple[bool, ...]

    def compute(
        self, iterator: Any, batch: Any, step: tf.Tensor, measure: tf.Tensor, state: State
    ) -> tuple[Applied, StepSummary]:
        """Returns what a step changes, on every replica, and its summary."""
        del iterator, measure  # there is one batch; the Gramian is there anyway
        return replicas.run(self.strategy, self._combine, (batch, step, state))

    def _combine(self, batch: Mapping[str, Any], step: tf.Tensor, state: State) -> tuple[Applied, StepSummary]:
        """All passes over this replica's part of the batch, and two sums across replicas."""
        objectives, combination, scale = self.objectives, self.solver.combination, state.loss_scale
        objectives.seed_random_layers(step)
        factor = self.scaling.of_sums(scale)
        if objectives.varying:
            batch = parts_lib.counted(batch, objectives.model)

        def weigh(losses: Sequence[LossSums], rows: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, Found]:
            numbers, dtype = objectives.numbers(losses, batch), losses[0].loss_sum.dtype
            in_one = tf.nest.map_structure(lambda values: tf.cast(values, tf.float64), numbers[:3])  # of one dtype
            gramian = parts_lib.zeros_if_empty(gramian_lib.block(rows, self.layout.piece), batch)
            _, (gramian, in_one) = self.reduction.sum((), (gramian, in_one))
            sums = tf.nest.map_structure(lambda values: tf.cast(values, dtype), in_one)
            numbers = LossNumbers(*sums, numbers.in_all)
            counts = objectives.counts(numbers)
            active, normalizers = objectives.active_and_normalizers(numbers.weight_sums, counts, step)
            losses_now = numbers.loss_sums * normalizers
            if any(self.can_be_absent):  # where the sums need not be finite
                losses_now = tf.where(active, losses_now, 0)
            normalizers = tf.cast(normalizers, tf.float64)
            (of_gramian,) = self.scaling.divided((normalizers,), factor)
            problem = objectives.problem(step, active, losses_now)
            gramian = gramian_lib.scaled(gramian, of_gramian)
            if any(self.can_be_absent):
                gramian = where_active(active, gramian, tf.zeros_like(gramian))
            problem = problem._replace(gramian=gramian)
            answer = self.solver.solve(problem, state.combination)
            answer = answer._replace(coefficients=mixing_lib.joint_coefficients(answer.coefficients))
            normalizers = self.scaling.times_rest(normalizers, scale, factor)  # from here on gradients of means
            scales = combination.scales(problem.loss_weights, problem.losses) * normalizers
            return answer.coefficients * scales, scales, (losses_now, problem, answer)

        def mix(
            columns: Sequence[Sequence[tf.Tensor]], by: Sequence[Losses], factors: tf.Tensor, found: Found
        ) -> list[tf.Tensor]:
            _, problem, _ = found
            columns = absence.cleared(columns, by, problem.active, self.can_be_absent)
            return mixing_lib.weighted(combination, columns, by, factors)

        with parts_lib.kept_if_empty(objectives.model, batch):
            size, watch = objectives.batch_size, objectives.watch
            gradients, (losses, problem, answer) = weighted_gradients(
                self.parts, objectives.losses, self.reach, batch, weigh, mix, factor, size, watch
            )
        gradients = parts_lib.zeros_if_empty(gradients, batch)
        with tf.name_scope("combine"):
            return self._applied(gradients, losses, problem, answer, scale)

    def _applied(
        self, gradients: Sequence[tf.Tensor], losses: tf.Tensor, problem: Problem, answer: Answer, scale: LossScale
    ) -> tuple[Applied, StepSummary]:
        """One sum of one gradient per variable across replicas, and the step's summary."""
        active, gramian = problem.active, problem.gramian
        rows, _ = self.reduction.sum([(gradient,) for gradient in gradients], ())
        gradients = self.scaling.unscaled([row for (row,) in rows], (None,) * len(rows), scale)
        finite = statistics.finite_together(gradients, losses, self.reach, rows=tf.linalg.diag_part(gramian))
        norms, cosines = statistics.of_gramian(gramian)
        measurement = Measurement(tf.constant(True), active, tf.where(active, norms, 0), cosines, answer.coefficients)
        in_domain = self.solver.combination.accepts(losses, problem, finite.all, answer.coefficients)
        summary = StepSummary(losses, active, finite, in_domain, answer, measurement, has_cosines=tf.constant(True))
        return Applied(self.mixing.of_sums(gradients)), summary


def weighted_gradients(
    parts: CutModel,
    losses: Sequence[NamedLoss],
    reach: Reach,
    batch: Mapping[str, Any],
    weigh: Callable[[Sequence[LossSums], Sequence[tf.Tensor]], tuple[tf.Tensor, tf.Tensor, Extra]],
    mix: Callable[[Sequence[Sequence[tf.Tensor]], Sequence[Losses], tf.Tensor, Extra], list[tf.Tensor]],
    scale: tf.Tensor | None = None,
    batch_size: int | None = None,
    watch: backward.Watch | None = None,
) -> tuple[tuple[tf.Tensor, ...], Extra]:
    """K backward passes to the features, and one on from there for the weighted sum.

    Args:
      parts: the model.
      losses: the K losses.
      reach: which of them reach which variable.
      batch: this replica's part.
      weigh: given every loss's sums and the gradients of each Σ w·ℓ at the features of this replica's examples, times
        `scale`, returns (K,) factors for shared variables, (K,) factors for task-specific ones, and anything more.
      mix: the weighted sums of columns of gradients, given for each the indices of its losses, all (K,) factors and
        `weigh`'s extra.
      scale, batch_size, watch: as `backward.per_loss_gradients` has them.

    Returns:
      For every variable of `reach` its gradient of Σ factorₖ Σ w·ℓₖ, times `scale`; and what else `weigh` returned.
    """
    passes = head_passes.run(parts, losses, reach, batch, scale, batch_size, watch)
    with tf.name_scope("combine"):
        shared, own, extra = weigh(passes.sums, passes.rows)
        (mixed,) = mix([passes.rows], [tuple(range(len(losses)))], shared, extra)
    through_trunk = head_passes.through_trunk(passes, reach, mixed)
    gradients = dict(zip(passes.trunk, through_trunk, strict=True))
    with tf.name_scope("combine"):
        for factors, is_shared in ((shared, True), (own, False)):
            positions = [v for v in passes.columns if (len(reach.losses[v]) > 1) == is_shared]
            if positions:
                columns, by = [passes.columns[v] for v in positions], [reach.losses[v] for v in positions]
                gradients |= zip(positions, mix(columns, by, factors, extra), strict=True)
    return tuple(gradients[v] for v in range(len(reach.variables))), extra
