"""A step with one backward pass for every loss, whose gradients are reduced one by one and then combined."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from trainer.combine import mixing as mixing_lib
from trainer.distributed.all_reduce import Reduction
from trainer.gradients import statistics
from trainer.gradients.reach import Reach
from trainer.step import backward, replicas
from trainer.step.applied import Mixing
from trainer.step.loss_scale import LossScale, Scaling
from trainer.step.objectives import Objectives
from trainer.step.solving import Solver
from trainer.step.values import Applied, LocalSums, Measurement, State, StepSummary
from trainer.step.views import View


@dataclasses.dataclass(frozen=True)
class PerLoss:
    """Forward and K backward passes on every replica; one all-reduce; combine.

    Attributes:
      strategy: where.
      objectives: the losses.
      reach: which of them reach which variable.
      view: what the combination looks at and mixes.
      solver: solves its problem.
      mixing: from mixed gradients to what each optimizer applies.
      reduction: how values travel between replicas.
      scaling: of the losses.
      micro_batches: parts of a global batch that are computed one after another.
      compiled: compiles a function, where the run asks for it.
    """

    strategy: tf.distribute.Strategy
    objectives: Objectives
    reach: Reach
    view: View
    solver: Solver
    mixing: Mixing
    reduction: Reduction
    scaling: Scaling
    micro_batches: int
    compiled: Callable[[Callable[..., Any]], Callable[..., Any]]

    def compute(
        self, iterator: Any, batch: Any, step: tf.Tensor, measure: tf.Tensor, state: State
    ) -> tuple[Applied, StepSummary]:
        """Returns what a step changes, on every replica, and its summary."""
        local = replicas.over_micro_batches(
            self.strategy, self.micro_batches, iterator, batch, step, self._accumulate, (state.loss_scale,)
        )
        return replicas.run(self.strategy, self._reduce_and_combine, (local, step, measure, state))

    def _accumulate(self, batch: Mapping[str, Any], micro_step: tf.Tensor, scale: LossScale) -> LocalSums:
        """Forward and backward passes over this replica's part of a micro-batch; no communication."""
        objectives, view = self.objectives, self.view
        objectives.seed_random_layers(micro_step)
        factor = self.scaling.of_sums(scale)
        parts = view.parts(batch, micro_step)
        passes = self.compiled(backward.per_loss_gradients)
        jacobian, losses = passes(objectives.model, objectives.losses, view.reach, batch, factor, parts)
        weighted, weights, per_example = (
            tf.reshape(tf.stack(column), [len(parts), -1]) for column in zip(*losses, strict=True)
        )
        sizes = per_example * tf.constant(view.sizes, weights.dtype)[:, tf.newaxis]
        return LocalSums(view.folded(jacobian), weighted, weights, sizes)

    def _reduce_and_combine(
        self, local: LocalSums, step: tf.Tensor, measure: tf.Tensor, state: State
    ) -> tuple[Applied, StepSummary]:
        """One packed cross-replica sum, global means, and the gradients that every optimizer applies."""
        jacobian, (weighted, weights) = self.reduction.sum(local.jacobian, (local.weighted, local.weights))
        active, losses, means, mean = self._means(weighted, weights, local.sizes, step, state)
        finite = statistics.finite(jacobian, losses, self.view.owners)

        combination = self.solver.combination
        problem = self.objectives.problem(step, active, losses)
        rows = self.view.rows(jacobian, means, mean, problem)
        answer = self.solver.solve(problem._replace(gramian=rows.gramian), state.combination)
        coefficients = mixing_lib.coefficients(
            combination,
            rows.mixed,
            self.reach.losses,
            means=mean,
            row_means=rows.means,
            problem=problem,
            weights=answer.weights,
        )
        gradients = self.mixing.mixed(rows, coefficients, problem)

        norms, cosines = statistics.norms_and_cosines(
            jacobian, self.reach, mean, rows.plain_gramian, active, wanted=measure
        )
        answer = answer._replace(weights=mixing_lib.joint_weights(answer.weights))
        measurement = Measurement(measure, active, norms, cosines, answer.weights)
        in_domain = combination.in_domain(losses, problem.weights, active)
        return Applied(gradients, rows.moved), StepSummary(losses, active, finite, in_domain, answer, measurement)

    def _means(
        self, weighted: tf.Tensor, weights: tf.Tensor, sizes: tf.Tensor, step: tf.Tensor, state: State
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the active losses, their means, (K,) each, and what makes means of gradients of parts and of all.

        The gradients stay sums. What makes means of them goes into the coefficients, one factor per gradient: of two
        the graph optimizer may choose the order, on every replica another one.
        """
        active, means = self.objectives.active_and_means(weights, sizes, step)
        active = tf.reduce_all(active, axis=0)  # of two halves: in both
        _, mean = self.objectives.active_and_means(tf.reduce_sum(weights, 0), tf.reduce_sum(sizes, 0), step)
        losses = tf.where(active, tf.reduce_sum(weighted, axis=0) * mean, 0)
        factors = [tf.where(active, tf.cast(each, tf.float64), 0) for each in (means, mean)]
        means, mean = self.scaling.divided(factors, self.scaling.of_sums(state.loss_scale))
        return active, losses, means, mean
