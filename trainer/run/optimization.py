"""The middle stage of an experiment: which loss reaches what, how gradients are combined and what applies them."""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from absl import logging

from input_pipelines.configuration import TRAIN
from trainer.combine import combination as combination_lib
from trainer.combine.combination import Combination
from trainer.common.durations import Timeline
from trainer.components import optimizers, rates
from trainer.components.optimizers import OptimizerGroup
from trainer.components.rates import RateScale
from trainer.config.rates import ReduceOnPlateauConfig
from trainer.config.settings import CombineConfig, LossConfig, method_options
from trainer.gradients.moving_average import GradientAverages
from trainer.gradients.reach import Reach
from trainer.run import checks
from trainer.run.network import Network
from trainer.step import discovery
from trainer.step.discovery import Discovered
from trainer.step.variable_average import VariableAverage


@dataclasses.dataclass(frozen=True)
class Optimization:
    """The combination of the losses' gradients, and the optimizers that apply its result.

    Attributes:
      combination: how the gradients are combined.
      groups: the optimizers and what each of them updates.
      gradient_averages: moving averages of the gradients, where the combination mixes those.
      average: moving averages of the variables, where the run keeps them.
      rate_scale: of all learning rates, where the run reduces them.
    """

    combination: Combination
    groups: tuple[OptimizerGroup, ...]
    gradient_averages: GradientAverages | None
    average: VariableAverage | None
    rate_scale: RateScale | None


def find_reach(network: Network, spec: Mapping[str, Any], strategy: tf.distribute.Strategy) -> Discovered:
    """Finds which loss reaches which variable, which can be masked, and what draws random numbers.

    Warns where no loss reaches a variable, and where a loss's input looks wrong.
    """
    found = discovery.discover_reach(network.model, network.losses, spec, strategy)
    reach = found.reach
    if reach.unreached:
        logging.warning("No loss reaches %s; they stay as they are.", ", ".join(reach.unreached))
    checks.not_finite(network.model, network.losses, network.data.not_finite)
    for line in checks.probabilities(network.model, network.losses, network.metrics, network.data.splits[TRAIN]):
        logging.warning("%s", line)
    return found


def build(
    config: CombineConfig,
    losses: Mapping[str, LossConfig],
    optimizer: Mapping[str, Any],
    shared_optimizer: Mapping[str, Any],
    ema: float | None,
    reach: Reach,
    timeline: Timeline,
    strategy: tf.distribute.Strategy,
    factors: Mapping[str, float] = types.MappingProxyType({}),
    plateau: ReduceOnPlateauConfig | None = None,
) -> Optimization:
    """Builds the combination and the optimizers.

    `ema` is the momentum of the averages of the variables, `factors` are those of learning rates by patterns, and
    `plateau` says how the rates are reduced.
    """
    combination = combination_lib.build(
        config.name,
        method_options(config),
        len(losses),
        use_weights=config.use_weights,
        log_losses=config.log_losses,
        smoothing=config.smoothing,
    )
    own = {name: loss.optimizer for name, loss in losses.items()}
    with strategy.scope():
        gradient_averages = (
            None if combination.keeps is None else GradientAverages(reach, list(losses), combination.keeps)
        )
        rate_scale = plateau and RateScale(plateau.factor, plateau.minimum)
        groups = optimizers.build_groups(
            optimizer, shared_optimizer, own, reach, combination, timeline, per_loss=config.apply == "per_loss"
        )
        groups = rates.adjusted(groups, reach.names, factors, rate_scale)
        average = None if ema is None else VariableAverage(strategy, reach.by_name, ema)
    return Optimization(combination, groups, gradient_averages, average, rate_scale)
