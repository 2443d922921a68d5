"""From the plan of a step to the objects that take it: the one place that knows all ways to compute."""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any

import tensorflow as tf

from trainer.combine.combination import Combination
from trainer.common.errors import ConfigError
from trainer.components.optimizers import Update
from trainer.config.plan import Plan, Way
from trainer.config.plan import View as ViewOf
from trainer.distributed.all_reduce import Reduction
from trainer.gradients.moving_average import MovingRows
from trainer.gradients.reach import Reach
from trainer.step import alternating, applied, backward, cut, views
from trainer.step.alternating import Alternating
from trainer.step.applied import Joint, Mixing
from trainer.step.carried import Carried
from trainer.step.computation import Computation
from trainer.step.features import Features
from trainer.step.fused import Fused
from trainer.step.loss_scale import DynamicScaling, NoScaling, Scaling
from trainer.step.objectives import Objectives
from trainer.step.observation import NoObservation, Observation
from trainer.step.per_loss import PerLoss
from trainer.step.solving import Solver
from trainer.step.step import Step
from trainer.step.update import Updates
from trainer.step.views import View
from trainer.step.weight_average import WeightAverage


@dataclasses.dataclass(frozen=True)
class Settings:
    """The numbers and switches of a step.

    Attributes:
      every: steps from one that is due to the next, where two ways alternate.
      micro_batches: parts of a global batch that are computed one after another.
      clip_norm: largest global norm of what is applied (of every loss's own update, when applied per loss); None: no
        limit.
      weighted_targets: the targets that have weights, so that a batch can lack their labels.
      scales_losses: whether losses are scaled for their backward passes (float16).
      jit_compile: compile forward and backward passes with XLA.
    """

    every: int
    micro_batches: int
    clip_norm: float | None
    weighted_targets: Collection[str]
    scales_losses: bool
    jit_compile: bool


def build(
    plan: Plan,
    settings: Settings,
    *,
    strategy: tf.distribute.Strategy,
    objectives: Objectives,
    reach: Reach,
    solver: Solver,
    optimizers: Sequence[Update],
    average: WeightAverage | None,
    moving_rows: MovingRows | None,
    reduction: Reduction,
) -> Step:
    """The step of a plan.

    Args:
      plan: how steps are computed.
      settings: its numbers.
      strategy: built the model and the optimizers.
      objectives: the model's losses.
      reach: which of them reach which variable.
      solver: solves the combination's problem.
      optimizers: what each of them updates.
      average: moving averages of the weights, where the run keeps them.
      moving_rows: moving averages of the gradients, where the plan's view is of those.
      reduction: how values travel between replicas.

    Raises:
      ConfigError: the model has no features to look at.
    """
    scaling = DynamicScaling(objectives.batch_size) if settings.scales_losses else NoScaling()
    keeps_weights = plan.between is not None and not plan.probes
    combination, losses = solver.combination, objectives.losses
    mix = applied.OfEachLoss if plan.applied_per_loss else applied.Joint
    passes = _Passes(strategy, objectives, reach, solver, reduction, scaling, settings)

    def way(kind: Way) -> Computation:
        if kind is Way.PER_LOSS:
            view = _view(plan, objectives, reach, combination, settings, moving_rows)
            return passes.per_loss(view, mix(reach, combination, optimizers, settings.clip_norm))
        joint = applied.Joint(reach, combination, optimizers, settings.clip_norm)
        if kind is Way.FEATURES:
            return passes.features(joint)
        missing = any(loss.target in settings.weighted_targets for loss in losses)
        return passes.fused(joint, keeps_weights, plan.sums_first(labels_can_be_missing=missing))

    whole = way(plan.way)
    if plan.between is not None:
        due = alternating.at_the_end_of_every if plan.probes else alternating.without_weights_or_every
        whole = Alternating(whole, way(plan.between), due(settings.every))
    can_rest = tuple(loss.target in settings.weighted_targets or loss.every > 1 for loss in losses)
    return Step(
        objectives=objectives,
        reach=reach,
        computation=whole,
        updates=Updates(strategy, optimizers, can_rest, average, moving_rows),
        observation=Observation(strategy, objectives, solver, reduction) if plan.observes else NoObservation(),
        carried=Carried(combination, scaling, keeps_weights),
    )


@dataclasses.dataclass(frozen=True)
class _Passes:
    """What all ways to compute are made of."""

    strategy: tf.distribute.Strategy
    objectives: Objectives
    reach: Reach
    solver: Solver
    reduction: Reduction
    scaling: Scaling
    settings: Settings

    def per_loss(self, view: View, mix: Mixing) -> PerLoss:
        """A pass for every loss."""
        return PerLoss(
            strategy=self.strategy,
            objectives=self.objectives,
            reach=self.reach,
            view=view,
            solver=self.solver,
            mixing=mix,
            reduction=self.reduction,
            scaling=self.scaling,
            micro_batches=self.settings.micro_batches,
            compiled=self._compiled,
        )

    def fused(self, joint: Joint, keeps_weights: bool, sums_first: bool) -> Fused:
        """One pass for the weighted sum."""
        return Fused(
            strategy=self.strategy,
            objectives=self.objectives,
            reach=self.reach,
            solver=self.solver,
            mixing=joint,
            reduction=self.reduction,
            scaling=self.scaling,
            micro_batches=self.settings.micro_batches,
            compiled=self._compiled,
            keeps_weights=keeps_weights,
            sums_first=sums_first,
        )

    def features(self, joint: Joint) -> Features:
        """A pass for every loss to the features."""
        if not self.reach.shared:
            raise ConfigError("gradients", "features", "is for losses that share variables; these share none")
        parts = cut.split(self.objectives.model)
        return Features(
            self.strategy, self.objectives, parts, self.reach, self.solver, joint, self.reduction, self.scaling
        )

    @property
    def _compiled(self) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        return backward.compiled if self.settings.jit_compile else backward.as_it_is


def _view(
    plan: Plan,
    objectives: Objectives,
    reach: Reach,
    combination: Combination,
    settings: Settings,
    moving_rows: MovingRows | None,
) -> View:
    """What the combination looks at and mixes."""
    if plan.view is ViewOf.TWO_HALVES:
        return views.TwoHalves(reach, objectives.count, objectives.batch_size, settings.micro_batches)
    if plan.view is ViewOf.MOVING_AVERAGES:
        return views.MovingAverages(reach, objectives.batch_size, combination, moving_rows)
    return views.WholeBatch(reach, objectives.batch_size, combination)
