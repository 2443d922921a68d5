"""A step with one backward pass for every loss, whose gradients are reduced one by one and then combined."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from trainer.combine import mixing as mixing_lib
from trainer.distributed.all_reduce import Reduction
from trainer.gradients import statistics
from trainer.gradients.layout import Layout
from trainer.gradients.reach import Reach
from trainer.step import absence, backward, replicas
from trainer.step import parts as parts_lib
from trainer.step.applied import Mixing
from trainer.step.looped import Looped
from trainer.step.loss_scale import LossScale, Scaling
from trainer.step.objectives import Objectives
from trainer.step.solving import Solver
from trainer.step.values import Applied, LocalSums, LossNumbers, Measurement, State, StepSummary
from trainer.step.views import View


@dataclasses.dataclass(frozen=True)
class PerLoss:
    """Forward and K backward passes on every replica; one all-reduce; combine.

    Attributes:
      strategy: where.
      objectives: the losses.
      reach: which of them reach each of the variables, or of the groups that `view` joins.
      view: what the combination looks at and mixes.
      layout: what suits the replicas' devices.
      solver: solves its problem.
      mixing: from mixed gradients to what each optimizer applies.
      reduction: how values travel between replicas.
      scaling: of the losses.
      micro_batches: parts of a global batch that are computed one after another.
      compiled: compiles a function, where the run asks for it.
      can_be_absent: for each loss, whether there can be steps in which it takes no part.
      looped: takes the backward passes as a loop; None: they are taken one by one.
    """

    strategy: tf.distribute.Strategy
    objectives: Objectives
    reach: Reach
    view: View
    layout: Layout
    solver: Solver
    mixing: Mixing
    reduction: Reduction
    scaling: Scaling
    micro_batches: int
    compiled: Callable[[Callable[..., Any]], Callable[..., Any]]
    can_be_absent: tuple[bool, ...]
    looped: Looped | None

    def compute(
        self, iterator: Any, batch: Any, step: tf.Tensor, measure: tf.Tensor, state: State
    ) -> tuple[Applied, StepSummary]:
        """Returns what a step changes, on every replica, and its summary."""
        local = parts_lib.accumulated(
            self.objectives,
            self.strategy,
            self.micro_batches,
            iterator,
            batch,
            step,
            self._accumulate,
            (state.loss_scale,),
            placed=self.view.placed,
        )
        with tf.name_scope("combine"):
            return replicas.run(self.strategy, self._reduce_and_combine, (local, step, measure, state))

    def _accumulate(self, batch: Mapping[str, Any], micro_step: tf.Tensor, scale: LossScale) -> LocalSums:
        """Forward and backward passes over this replica's part of a micro-batch; no communication."""
        objectives, view = self.objectives, self.view
        objectives.seed_random_layers(micro_step)
        factor = self.scaling.of_sums(scale)
        parts = view.parts(batch, micro_step)
        size, watch = objectives.batch_size, objectives.watch
        if self.looped is None:
            passes = self.compiled(backward.per_loss_gradients)
            given = (objectives.model, objectives.losses, view.reach, batch, factor, parts, size, watch)
            found = passes(*given, self.layout.passes_at_once)
            jacobian, losses = view.folded(found[0]), found[1]
        else:
            passes = self.compiled(self.looped.per_loss_gradients)
            jacobian, losses = passes(objectives.losses, batch, factor, size, watch)
        return LocalSums(jacobian, *objectives.numbers(losses, batch, parts, view.sizes))

    def _reduce_and_combine(
        self, local: LocalSums, step: tf.Tensor, measure: tf.Tensor, state: State
    ) -> tuple[Applied, StepSummary]:
        """One packed cross-replica sum, global means, and the gradients that every optimizer applies."""
        jacobian, sums = self.reduction.sum(local.jacobian, (local.loss_sums, local.weight_sums, local.left))
        numbers = LossNumbers(*sums, local.in_all)
        active, losses, part_normalizers, normalizers = self._normalizers(numbers, step, state)
        jacobian = absence.cleared(jacobian, self.view.owners.losses, active, self.can_be_absent)
        finite = statistics.finite(jacobian, losses, self.view.owners)

        combination = self.solver.combination
        problem = self.objectives.problem(step, active, losses)
        rows = self.view.rows(jacobian, part_normalizers, normalizers, problem)
        answer = self.solver.solve(problem._replace(gramian=rows.gramian), state.combination)
        matrices = mixing_lib.mixing_matrices(
            combination,
            rows.gradients,
            self.reach.losses,
            normalizers=normalizers,
            shared_normalizers=rows.normalizers,
            problem=problem,
            coefficients=answer.coefficients,
            piece=self.layout.piece,
        )
        gradients = self.mixing.mixed(rows, matrices, problem)

        norms, cosines = statistics.norms_and_cosines(
            jacobian, self.reach, normalizers, rows.plain_gramian, active, wanted=measure, piece=self.layout.piece
        )
        answer = answer._replace(coefficients=mixing_lib.joint_coefficients(answer.coefficients))
        measurement = Measurement(measure, active, norms, cosines, answer.coefficients)
        in_domain = combination.accepts(losses, problem, finite.all, answer.coefficients, tf.nest.flatten(gradients))
        has_cosines = measure if rows.plain_gramian is None else tf.constant(True)
        summary = StepSummary(losses, active, finite, in_domain, answer, measurement, has_cosines)
        return Applied(gradients, rows.gradient_averages), summary

    def _normalizers(
        self, numbers: LossNumbers, step: tf.Tensor, state: State
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the active losses, their means, (K,) each, and the normalizers of the sums over parts and over all.

        The gradients stay sums. Their normalizers go into the mixing matrices, one factor per gradient: of two
        the graph optimizer may choose the order, on every replica another one.
        """
        loss_sums, weight_sums, counts = numbers.loss_sums, numbers.weight_sums, self.objectives.counts(numbers)
        active, of_parts = self.objectives.active_and_normalizers(weight_sums, counts, step)
        active = tf.reduce_all(active, axis=0)  # of two halves: in both
        whole = (tf.reduce_sum(weight_sums, axis=0), tf.reduce_sum(counts, axis=0))
        _, of_all = self.objectives.active_and_normalizers(*whole, step)
        losses = tf.where(active, tf.reduce_sum(loss_sums, axis=0) * of_all, 0)
        factors = [tf.where(active, tf.cast(each, tf.float64), 0) for each in (of_parts, of_all)]
        of_parts, of_all = self.scaling.divided(factors, self.scaling.of_sums(state.loss_scale))
        return active, losses, of_parts, of_all
