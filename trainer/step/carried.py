"""What a step hands to the next one: the state, and the totals of the steps since the last report."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from trainer.combine.combination import Combination
from trainer.gradients import statistics
from trainer.step import loss_scale as loss_scale_lib
from trainer.step.loss_scale import LossScale, Scaling
from trainer.step.values import Measurement, Outcome, State, StepSummary, Totals


@dataclasses.dataclass(frozen=True)
class Carried:
    """How the state begins, and which part of it a checkpoint holds.

    Attributes:
      combination: remembers something, or does not.
      scaling: of the losses; the same.
      keeps_weights: whether later steps read the weights that this one found.
    """

    combination: Combination
    scaling: Scaling
    keeps_weights: bool

    def initial_state(self) -> State:
        """The state at the start of a run."""
        weights = tf.fill([self.combination.count], tf.constant(math.nan, tf.float64))
        return State(loss_scale_lib.initial(), weights, self.combination.initial_state())

    def remembered(self, state: State) -> dict[str, tf.Tensor]:
        """The part of the state that later steps of this run read, by name, for its checkpoints."""
        values = dict(self.scaling.remembered(state.loss_scale))
        if self.keeps_weights:
            values["weights"] = state.weights
        return values | {f"combination/{name}": value for name, value in state.combination.items()}

    def with_remembered(self, values: Mapping[str, tf.Tensor]) -> State:
        """The state of which `remembered` gave these values."""
        state = self.initial_state()
        scale = {name: values[name] for name in LossScale._fields if name in values}
        combination = {name: values[f"combination/{name}"] for name in state.combination}
        return State(state.loss_scale._replace(**scale), values.get("weights", state.weights), combination)


def initial_totals(count: int) -> Totals:
    """The totals of no step, for `count` losses."""
    dtype = keras.config.floatx()
    zeros, none = tf.zeros([count], dtype), tf.zeros([count], tf.bool)
    norms, cosines = statistics.not_measured(count)
    measured = Measurement(tf.constant(False), none, norms, cosines, norms)
    no_step, zero = tf.constant(-1, tf.int64), tf.constant(0, tf.int64)
    return Totals(zeros, zeros, zero, no_step, none, zeros, measured)


def added(totals: Totals, summary: StepSummary, outcome: Outcome, step: tf.Tensor, fine: tf.Tensor) -> Totals:
    """The totals with one step more; `fine` (scalar bool): whether it changed anything."""
    active = tf.cast(summary.active & fine, totals.counts.dtype)
    return Totals(
        losses=totals.losses + tf.where(active > 0, summary.losses, 0),
        counts=totals.counts + active,
        fallbacks=totals.fallbacks + tf.cast(summary.answer.fell_back & fine, tf.int64),
        failed_step=tf.where(outcome.failed, step, totals.failed_step),
        failed=tf.where(outcome.failed, outcome.wrong, totals.failed),
        failed_losses=tf.where(outcome.failed, outcome.losses, totals.failed_losses),
        measured=where(summary.measurement.measured & fine, summary.measurement, totals.measured),
    )


def where(condition: tf.Tensor, new: Any, old: Any) -> Any:
    """`new` where the scalar `condition` holds, else `old`, leaf by leaf."""
    return tf.nest.map_structure(lambda new, old: tf.where(condition, new, old), new, old)
