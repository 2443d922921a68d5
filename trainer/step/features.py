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
from trainer.components import comparisons
from trainer.components import losses as losses_lib
from trainer.components.losses import LossSums, NamedLoss
from trainer.distributed.all_reduce import Reduction
from trainer.gradients import gramian as gramian_lib
from trainer.gradients import ordered_sums, statistics
from trainer.gradients.reach import Reach
from trainer.step import replicas
from trainer.step.applied import Joint
from trainer.step.cut import CutModel
from trainer.step.loss_scale import Scaling
from trainer.step.objectives import Objectives
from trainer.step.solving import Solver
from trainer.step.values import Applied, Measurement, State, StepSummary

Extra = TypeVar("Extra")


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
    """

    strategy: tf.distribute.Strategy
    objectives: Objectives
    parts: CutModel
    reach: Reach
    solver: Solver
    mixing: Joint
    reduction: Reduction
    scaling: Scaling

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

        def weigh(losses: Sequence[LossSums], gramian: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tuple[Any, ...]]:
            loss_sums, weight_sums, counts = objectives.numbers(losses)
            in_one = [tf.cast(values, tf.float64) for values in (loss_sums, weight_sums)]  # a collective has one dtype
            _, (gramian, *in_one) = self.reduction.sum((), (gramian, *in_one))
            loss_sums, weight_sums = (tf.cast(values, counts.dtype) for values in in_one)
            active, normalizers = objectives.active_and_normalizers(weight_sums, counts, step)
            losses_now = loss_sums * normalizers
            normalizers = tf.cast(normalizers, tf.float64)
            (of_gramian,) = self.scaling.divided((normalizers,), factor)
            problem = objectives.problem(step, active, losses_now)
            problem = problem._replace(gramian=gramian_lib.scaled(gramian, of_gramian))
            answer = self.solver.solve(problem, state.combination)
            answer = answer._replace(coefficients=mixing_lib.joint_coefficients(answer.coefficients))
            normalizers = self.scaling.times_rest(normalizers, scale, factor)  # from here on gradients of means
            scales = combination.scales(problem.loss_weights, problem.losses) * normalizers
            return answer.coefficients * scales, scales, (losses_now, problem, answer)

        gradients, (losses, problem, answer) = weighted_gradients(
            self.parts, objectives.losses, self.reach, batch, weigh, factor, objectives.batch_size
        )
        active, gramian = problem.active, problem.gramian
        rows, _ = self.reduction.sum([(gradient,) for gradient in gradients], ())
        gradients = self.scaling.unscaled([row for (row,) in rows], (None,) * len(rows), scale)
        finite = statistics.finite_together(gradients, losses, self.reach, rows=tf.linalg.diag_part(gramian))
        norms, cosines = statistics.of_gramian(gramian)
        measurement = Measurement(tf.constant(True), active, tf.where(active, norms, 0), cosines, answer.coefficients)
        in_domain = combination.in_domain(losses, problem.loss_weights, active)
        summary = StepSummary(losses, active, finite, in_domain, answer, measurement)
        return Applied(self.mixing.of_sums(gradients)), summary


def weighted_gradients(
    parts: CutModel,
    losses: Sequence[NamedLoss],
    reach: Reach,
    batch: Mapping[str, Any],
    weigh: Callable[[Sequence[LossSums], tf.Tensor], tuple[tf.Tensor, tf.Tensor, Extra]],
    scale: tf.Tensor | None = None,
    batch_size: int | None = None,
) -> tuple[tuple[tf.Tensor, ...], Extra]:
    """K backward passes to the features, and one on from there for the weighted sum.

    Args:
      parts: the model.
      losses: the K losses.
      reach: which of them reach which variable.
      batch: this replica's part.
      weigh: given every loss's sums and the (K, K) float64 inner products, over this replica's examples, of the
        gradients of Σ w·ℓ at the features, times `scale`², returns (K,) factors for shared variables, (K,) factors for
        task-specific ones, and anything more.
      scale: scalar float32 by which every loss is multiplied for its backward pass; None: 1.
      batch_size: examples of the global batch, as `comparisons.sums` has it.

    Returns:
      For every variable of `reach` its gradient of Σ factorₖ Σ w·ℓₖ, times `scale`; and what else `weigh` returned.
    """
    in_trunk = {id(variable) for variable in parts.trunk.trainable_variables}
    trunk = [v for v, variable in enumerate(reach.variables) if id(variable) in in_trunk]
    with tf.GradientTape() as trunk_tape:
        features = parts.trunk(batch["inputs"], training=True)
    with tf.GradientTape(persistent=True) as heads_tape:
        heads_tape.watch(features)
        outputs = losses_lib.full_precision(parts.heads(features, training=True))
        found = comparisons.sums(losses, outputs, batch, batch_size=batch_size)
    rows, columns = [], [{} for _ in reach.variables]
    for k, loss_sums in enumerate(found):
        positions = [v for v in reach.reached_by(k) if id(reach.variables[v]) not in in_trunk]
        row, *gradients = heads_tape.gradient(
            loss_sums.loss_sum,
            [features, *(reach.variables[v].value for v in positions)],
            output_gradients=scale,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        rows.append(row)
        for v, gradient in zip(positions, gradients, strict=True):
            columns[v][k] = tf.convert_to_tensor(gradient)
    shared, own, extra = weigh(found, gramian_lib.block(rows))
    through_trunk = trunk_tape.gradient(
        features,
        [reach.variables[v].value for v in trunk],
        output_gradients=ordered_sums.weighted(rows, shared),
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    gradients = dict(zip(trunk, through_trunk, strict=True))
    for v, by in enumerate(reach.losses):
        if v not in gradients:
            factors = tf.gather(shared if len(by) > 1 else own, by)
            gradients[v] = ordered_sums.weighted([columns[v][k] for k in by], factors)
    return tuple(tf.convert_to_tensor(gradients[v]) for v in range(len(reach.variables))), extra
