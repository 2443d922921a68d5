"""The last stage of an experiment: its step."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from input_pipelines.configuration import TRAIN
from trainer.common.durations import Timeline
from trainer.components import schedules
from trainer.config import plan as plan_lib
from trainer.config import step_settings
from trainer.config.plan import StepPlan
from trainer.config.settings import LOOP, Config, LossConfig
from trainer.distributed import strategy as strategy_lib
from trainer.distributed.all_reduce import Reduction
from trainer.gradients.reach import Reach
from trainer.run.network import Network
from trainer.run.optimization import Optimization
from trainer.step import absence
from trainer.step import build as step_build
from trainer.step.backward import Watch
from trainer.step.objectives import Objectives
from trainer.step.solving import Solver
from trainer.step.step import Step


def plan(config: Config, network: Network, masked: Sequence[bool]) -> StepPlan:
    """The plan of an experiment's steps; `masked` is that of `build`. Raises ConfigError where there is none."""
    return plan_lib.of(config, labels_can_be_missing=any(_lacking(network, masked)))


def build(
    config: Config,
    plan: StepPlan,
    network: Network,
    reach: Reach,
    masked: Sequence[bool],
    optimization: Optimization,
    timeline: Timeline,
    strategy: tf.distribute.Strategy,
    watch: Watch | None,
) -> Step:
    """The step of an experiment; raises ConfigError where it cannot be computed in the way that is configured.

    `masked` says of each loss whether a mask or an ignored class can take some of its values out; `watch` is that of
    `Objectives`.
    """
    lacking = _lacking(network, masked)
    step = step_build.build(
        plan,
        step_build.Settings(
            every=every(config, plan, timeline),
            micro_batches=config.micro_batches,
            clip_norm=config.clip_norm,
            can_lack_labels=lacking,
            scales_losses=config.precision == "mixed_float16",
            compile=config.compile,
        ),
        strategy=strategy,
        objectives=Objectives(
            model=network.model,
            losses=network.losses,
            loss_weights=tuple(loss_weights(config.losses, timeline).values()),
            timeline=timeline,
            seed=config.seed,
            masked=tuple(masked),
            watch=watch,
            compiled=config.compile == LOOP,
        ),
        reach=reach,
        solver=Solver(optimization.combination, strategy_lib.solver_device(strategy)),
        groups=optimization.groups,
        average=optimization.average,
        gradient_averages=optimization.gradient_averages,
        reduction=reduction(config.reduce_dtype, config.bytes_per_pack, reach, strategy),
        layout=strategy_lib.layout(strategy),
    )
    plan_lib.check_labels(step_settings.of(config), labels_can_be_missing=any(lacking))
    return step


def reduction(dtype: str | None, bytes_per_pack: int, reach: Reach, strategy: tf.distribute.Strategy) -> Reduction:
    """The sum over replicas of these variables' gradients, as `reduce_dtype` and `bytes_per_pack` have it.

    Raises:
      ConfigError: these devices cannot sum them in their type.
    """
    if dtype is not None:
        instead = "leave it None, so that float32 travels, or take replicas on CPUs"
        strategy_lib.check_summed(strategy, tf.as_dtype(dtype), "reduce_dtype", dtype, instead)
        return Reduction(tf.as_dtype(dtype), bytes_per_pack)
    for name, variable in reach.by_name.items():
        instead = "give its layer float32 variables, as precision='mixed_bfloat16' does"
        strategy_lib.check_summed(strategy, tf.as_dtype(variable.dtype), "model", name, instead)
    return Reduction(None, bytes_per_pack)


def every(config: Config, plan: StepPlan, timeline: Timeline) -> int | None:
    """Returns the interval in steps at which the first of two alternating ways is due; None: at every report."""
    if plan.probes:
        return None if config.probe_every is None else timeline.to_steps(config.probe_every, "probe_every")
    return config.combine.update_every


def loss_weights(
    losses: Mapping[str, LossConfig], timeline: Timeline
) -> dict[str, float | schedules.LearningRateSchedule]:
    """Loss name → its weight, a number or a schedule over steps; raises ConfigError for a schedule."""
    return {
        name: schedules.build(loss.weight, f"losses.{name}.weight", timeline)
        if isinstance(loss.weight, dict)
        else loss.weight
        for name, loss in losses.items()
    }


def _lacking(network: Network, masked: Sequence[bool]) -> tuple[bool, ...]:
    """For each loss, whether a batch can hold no label for it."""
    return absence.can_lack_labels(network.losses, network.data.splits[TRAIN].spec, masked)
