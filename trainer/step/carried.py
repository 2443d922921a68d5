"""State and totals, which a step hands to the next one, and the parts of them that a checkpoint holds."""

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
from trainer.step.values import Measurement, State, StepOutcome, StepSummary, Totals

Parts = dict[str, dict[str, tf.Variable]]  # a part of a checkpoint → a name within it → the variable
SINCE_REPORT, _REMEMBERED, _MEASURED = "since_report", "step", "measured"
COSINES = ("cosine_sums", "cosine_counts")
_OF_TOTALS = ("losses", "counts", "fallbacks", *COSINES)  # later steps only add to these, until a report reads them


@dataclasses.dataclass(frozen=True)
class Carried:
    """The state and the totals from step to step: how they begin, continue and enter a checkpoint.

    Attributes:
      combination: may remember something between steps.
      scaling: of the losses; may too.
      keeps_coefficients: whether later steps read the coefficients that this one found.
    """

    combination: Combination
    scaling: Scaling
    keeps_coefficients: bool

    def initial_state(self) -> State:
        """The state at the start of a run."""
        coefficients = tf.fill([self.combination.count], tf.constant(math.nan, tf.float64))
        return State(loss_scale_lib.initial(), coefficients, self.combination.initial_state())

    def next(
        self,
        state: State,
        totals: Totals,
        step: tf.Tensor,
        summary: StepSummary,
        finite: tf.Tensor,
        accepted: tf.Tensor,
        outcome: StepOutcome,
    ) -> tuple[State, Totals]:
        """Returns what the next step reads; a step that was not accepted adds to no sum, and leaves no coefficients."""
        loss_scale, failed = self.scaling.after(
            state.loss_scale, losses=summary.losses, finite=finite, in_domain=summary.in_domain, failed=outcome.failed
        )
        coefficients = tf.where(accepted, summary.answer.coefficients, math.nan)
        combination = _where(accepted, outcome.combination, state.combination)
        totals = _added(totals, summary, outcome._replace(failed=failed), step, accepted)
        return State(loss_scale, coefficients, combination), totals

    def checkpointed(self, state: State, totals: Totals) -> Parts:
        """The parts of a checkpoint that later steps of this run, and its next report, read."""
        since_report = {name: getattr(totals, name) for name in _OF_TOTALS}
        since_report |= {f"{_MEASURED}/{name}": value for name, value in totals.measured._asdict().items()}
        parts: Parts = {SINCE_REPORT: _variables(since_report)}
        remembered = self.remembered(state)
        return parts | ({_REMEMBERED: _variables(remembered)} if remembered else {})

    def remembered(self, state: State) -> dict[str, tf.Tensor]:
        """The tensors of the state that later steps read, by name."""
        remembered = dict(self.scaling.remembered(state.loss_scale))
        if self.keeps_coefficients:
            remembered["coefficients"] = state.coefficients
        return remembered | {f"combination/{name}": value for name, value in state.combination.items()}

    def with_remembered(self, state: State, values: Mapping[str, tf.Tensor]) -> State:
        """The state with these values, by the names of `remembered`, in place of its own."""
        scale = {name: values[name] for name in LossScale._fields if name in values}
        combination = {name: values[f"combination/{name}"] for name in state.combination}
        return State(state.loss_scale._replace(**scale), values.get("coefficients", state.coefficients), combination)

    def restored(self, parts: Mapping[str, Mapping[str, tf.Variable]]) -> tuple[State, Totals]:
        """The state and the totals from parts that `checkpointed` made."""
        values = {name: tf.convert_to_tensor(variable) for name, variable in parts.get(_REMEMBERED, {}).items()}
        state = self.with_remembered(self.initial_state(), values)
        found = {name: tf.convert_to_tensor(variable) for name, variable in parts[SINCE_REPORT].items()}
        measured = Measurement(*(found[f"{_MEASURED}/{name}"] for name in Measurement._fields))
        totals = initial_totals(self.combination.count)._replace(**{name: found[name] for name in _OF_TOTALS})
        return state, totals._replace(measured=measured)


def _variables(values: Mapping[str, tf.Tensor]) -> dict[str, tf.Variable]:
    return {name: tf.Variable(value) for name, value in values.items()}


def initial_totals(count: int) -> Totals:
    """The totals of no step, for `count` losses."""
    dtype = keras.config.floatx()
    zeros, none = tf.zeros([count], dtype), tf.zeros([count], tf.bool)
    norms, cosines = statistics.not_measured(count)
    measured = Measurement(tf.constant(False), none, norms, cosines, norms)
    no_step, zero = tf.constant(-1, tf.int64), tf.constant(0, tf.int64)
    return Totals(zeros, zeros, zero, no_step, none, zeros, cosines, cosines, measured)


def _added(totals: Totals, summary: StepSummary, outcome: StepOutcome, step: tf.Tensor, accepted: tf.Tensor) -> Totals:
    """The totals with one step more."""
    active = tf.cast(summary.active & accepted, totals.counts.dtype)
    cosine_sums, cosine_counts = _with_cosines(totals, summary, accepted)
    return Totals(
        losses=totals.losses + tf.where(active > 0, summary.losses, 0),
        counts=totals.counts + active,
        fallbacks=totals.fallbacks + tf.cast(summary.answer.fell_back & accepted, tf.int64),
        failed_step=tf.where(outcome.failed, step, totals.failed_step),
        failed=tf.where(outcome.failed, outcome.wrong, totals.failed),
        failed_losses=tf.where(outcome.failed, outcome.losses, totals.failed_losses),
        cosine_sums=cosine_sums,
        cosine_counts=cosine_counts,
        measured=_measured(totals, summary, accepted),
    )


def _with_cosines(totals: Totals, summary: StepSummary, accepted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums and counts of cosines with this step's; nothing is computed in a step that cannot have them."""
    if not _can_hold(summary.has_cosines):
        return totals.cosine_sums, totals.cosine_counts
    cosines = tf.where(summary.has_cosines & accepted, summary.measurement.cosines, 0)
    there = tf.sign(tf.linalg.diag_part(cosines))  # 0 for a gradient of zero, else 1: a cosine with itself is 1
    return totals.cosine_sums + cosines, totals.cosine_counts + there[:, tf.newaxis] * there


def _measured(totals: Totals, summary: StepSummary, accepted: tf.Tensor) -> Measurement:
    """The last measurement; nothing is computed in a step that cannot measure."""
    measured = summary.measurement.measured
    if _can_hold(measured):
        return _where(measured & accepted, summary.measurement, totals.measured)
    return totals.measured


def _can_hold(condition: tf.Tensor) -> bool:
    """False where a scalar condition is known while tracing not to hold."""
    return tf.get_static_value(condition) in (None, True)  # NumPy's False is not Python's


def _where(condition: tf.Tensor, new: Any, old: Any) -> Any:
    """`new` where the scalar `condition` holds, else `old`, leaf by leaf."""
    return tf.nest.map_structure(lambda new, old: tf.where(condition, new, old), new, old)
