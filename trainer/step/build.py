"""From the plan of a step to the objects that take it: the one place that knows all ways to compute."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from trainer.combine.combination import Combination
from trainer.common.errors import ConfigError
from trainer.components.optimizers import OptimizerGroup
from trainer.config.plan import StepPlan, Way
from trainer.config.plan import View as ViewOf
from trainer.config.settings import PASSES
from trainer.distributed.all_reduce import Reduction
from trainer.gradients import layout as layout_lib
from trainer.gradients.layout import Joined, Layout
from trainer.gradients.moving_average import GradientAverages
from trainer.gradients.reach import Reach
from trainer.step import absence, applied, backward, cut, looped, views
from trainer.step.alternating import Alternating
from trainer.step.carried import Carried
from trainer.step.computation import Computation
from trainer.step.features import Features
from trainer.step.fused import Fused
from trainer.step.loss_scale import DynamicScaling, NoScaling
from trainer.step.objectives import Objectives
from trainer.step.observation import NoObservation, Observation
from trainer.step.per_loss import PerLoss
from trainer.step.probes import Probes
from trainer.step.solving import Solver
from trainer.step.step import Step
from trainer.step.update import Updates
from trainer.step.variable_average import VariableAverage
from trainer.step.views import View


@dataclasses.dataclass(frozen=True)
class Settings:
    """The numbers and switches of a step.

    Attributes:
      every: steps from one that is due to the next, where two ways alternate; None: those that a report needs.
      micro_batches: parts of a global batch that are computed one after another.
      clip_norm: largest global norm of what is applied (of every loss's own update, when applied per loss); None: no
        limit.
      can_lack_labels: for each loss, whether a batch can hold no label for it.
      scales_losses: whether losses are scaled for their backward passes (float16).
      compile: what is compiled with XLA.
    """

    every: int | None
    micro_batches: int
    clip_norm: float | None
    can_lack_labels: Sequence[bool]
    scales_losses: bool
    compile: str


def build(
    plan: StepPlan,
    settings: Settings,
    *,
    strategy: tf.distribute.Strategy,
    objectives: Objectives,
    reach: Reach,
    solver: Solver,
    groups: Sequence[OptimizerGroup],
    average: VariableAverage | None,
    gradient_averages: GradientAverages | None,
    reduction: Reduction,
    layout: Layout,
) -> Step:
    """The step of a plan.

    Args:
      plan: how steps are computed.
      settings: its numbers.
      strategy: built the model and the optimizers.
      objectives: the model's losses.
      reach: which of them reach which variable.
      solver: solves the combination's problem.
      groups: the optimizers and what each of them updates.
      average: moving averages of the variables, where the run keeps them.
      gradient_averages: moving averages of the gradients, where the plan's view is of those.
      reduction: how values travel between replicas.
      layout: of gradients while they are combined.

    Raises:
      ConfigError: the model has no features to look at.
    """
    scaling = DynamicScaling(objectives.batch_size) if settings.scales_losses else NoScaling()
    common = {
        "strategy": strategy,
        "objectives": objectives,
        "reach": reach,
        "solver": solver,
        "reduction": reduction,
        "scaling": scaling,
    }
    can_be_skipped = absence.can_be_absent(objectives, settings.can_lack_labels)
    computation, probes = _computations(plan, settings, common, layout, groups, gradient_averages)
    return Step(
        objectives=objectives,
        reach=reach,
        computation=computation,
        probes=probes,
        updates=Updates(strategy, groups, can_be_skipped, settings.scales_losses, average, gradient_averages),
        observation=Observation(strategy, objectives, solver, reduction) if plan.observes else NoObservation(),
        carried=Carried(solver.combination, scaling, plan.keeps_coefficients),
    )


def _computations(
    plan: StepPlan,
    settings: Settings,
    common: Mapping[str, Any],
    layout: Layout,
    groups: Sequence[OptimizerGroup],
    gradient_averages: GradientAverages | None,
) -> tuple[Computation, Probes | None]:
    """The way in which gradients are computed, or two in turn; `common` is what every way is made of, by name."""
    objectives, reach, combination = common["objectives"], common["reach"], common["solver"].combination
    compiled = backward.compiled if settings.compile == PASSES else backward.as_it_is
    in_parts = {"micro_batches": settings.micro_batches, "compiled": compiled}
    mix = applied.OfEachLoss if plan.applied_per_loss else applied.Joint
    mixing = mix(reach, combination, groups, settings.clip_norm)
    of_rows = {"mixing": mixing, "can_be_absent": absence.can_be_absent(objectives, settings.can_lack_labels)}

    def way(kind: Way) -> Computation:
        if kind is Way.PER_LOSS:
            # What is joined must be applied together, by a method that does not tell variables apart.
            together = plan.view is ViewOf.WHOLE_BATCH and not plan.applied_per_loss
            together &= not combination.method.tells_variables_apart
            loop = looped.find(objectives, reach, layout) if together else None
            joined = loop.joined if loop else layout_lib.join(reach) if together and layout.joined else None
            view = _view(plan, objectives, reach, combination, settings, layout, joined, gradient_averages)
            given = common | in_parts | of_rows
            if joined is not None:
                given |= {"reach": joined.reach, "mixing": dataclasses.replace(mixing, joined=joined)}
            return PerLoss(**given, layout=layout, view=view, looped=loop)
        if kind is Way.FEATURES:
            return Features(**common, **of_rows, layout=layout, parts=_parts(objectives, reach))
        sums_first = plan.sums_first(labels_can_be_missing=any(settings.can_lack_labels))
        # On one replica they are known before the backward pass, and so is the size of a batch.
        whole = common["strategy"].num_replicas_in_sync == 1 and settings.micro_batches == 1
        sums_first |= objectives.varying and whole
        return Fused(
            **common, **in_parts, mixing=mixing, keeps_coefficients=plan.keeps_coefficients, sums_first=sums_first
        )

    if plan.between is None:
        return way(plan.way), None
    if plan.probes:
        return way(plan.between), Probes(way(plan.way), settings.every)
    return Alternating(way(plan.way), way(plan.between), settings.every), None


def _parts(objectives: Objectives, reach: Reach) -> cut.CutModel:
    """The model, cut at its features; raises ConfigError where nothing is shared, there are none, or more is needed."""
    if not reach.shared:
        raise ConfigError("reduction", "features", "is for losses that share variables; these share none")
    for loss in objectives.losses:
        if loss.takes_derivative:
            reason = f"cuts the model, through which losses.{loss.name} takes derivatives; use 'per_loss'"
            raise ConfigError("reduction", "features", reason)
    return cut.split(objectives.model)


def _view(
    plan: StepPlan,
    objectives: Objectives,
    reach: Reach,
    combination: Combination,
    settings: Settings,
    layout: Layout,
    joined: Joined | None,
    gradient_averages: GradientAverages | None,
) -> View:
    """Builds the view of the gradients that the combination looks at and mixes."""
    if plan.view is ViewOf.TWO_HALVES:
        return views.TwoHalves(reach, objectives.count, objectives.batch_size, settings.micro_batches, layout)
    if plan.view is ViewOf.MOVING_AVERAGES:
        return views.MovingAverages(reach, objectives.batch_size, combination, layout, gradient_averages)
    return views.WholeBatch(reach, objectives.batch_size, combination, layout, joined)
