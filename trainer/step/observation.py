"""The losses of a step's batch after its update, for a combination that needs them."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import tensorflow as tf

from trainer.components import schedules
from trainer.distributed.all_reduce import Reduction
from trainer.step import parts, replicas
from trainer.step.objectives import Objectives
from trainer.step.solving import Solver
from trainer.step.values import StepOutcome, StepSummary


class AfterUpdate(Protocol):
    """A look at the losses once the variables are updated."""

    def observed(self, batch: Any, step: tf.Tensor, summary: StepSummary, accepted: tf.Tensor) -> StepOutcome:
        """Returns the outcome of a step; `accepted` (scalar bool): whether the update was made."""


class NoObservation:
    """Nothing is looked at."""

    def observed(self, batch: Any, step: tf.Tensor, summary: StepSummary, accepted: tf.Tensor) -> StepOutcome:
        """Returns the outcome as known before the update."""
        del batch, step
        return without_update(summary, accepted)


@dataclasses.dataclass(frozen=True)
class Observation:
    """One forward pass more, of the same batch with the same random masks, and 2 K numbers reduced.

    Attributes:
      strategy: where.
      objectives: the losses.
      solver: its combination needs them.
      reduction: how values travel between replicas.
    """

    strategy: tf.distribute.Strategy
    objectives: Objectives
    solver: Solver
    reduction: Reduction

    def observed(self, batch: Any, step: tf.Tensor, summary: StepSummary, accepted: tf.Tensor) -> StepOutcome:
        """Returns the outcome with what the combination remembers now, and the losses that it cannot take."""
        outcome = without_update(summary, accepted)

        def run() -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
            results = self.strategy.run(self._observe, args=(batch, step, summary))
            remembered, after = replicas.first(self.strategy, results)
            loss_weights = schedules.at(step, self.objectives.loss_weights)
            in_domain = self.solver.combination.in_domain(after, loss_weights, summary.active)
            return remembered, ~in_domain | (summary.active & ~tf.math.is_finite(after)), after

        nothing = (summary.answer.state, tf.zeros_like(summary.active), summary.losses)
        remembered, wrong, after = tf.cond(accepted, run, lambda: tf.nest.map_structure(tf.identity, nothing))
        return StepOutcome(
            remembered,
            outcome.wrong | wrong,
            tf.where(wrong, after, outcome.losses),
            outcome.failed | tf.reduce_any(wrong),
        )

    def _observe(
        self, batch: Mapping[str, Any], step: tf.Tensor, summary: StepSummary
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Returns what the combination remembers then, and (K,) the losses."""
        objectives = self.objectives
        if objectives.varying:
            batch = parts.counted(batch, objectives.model)
        numbers = objectives.numbers(objectives.forward_again(batch, step), batch)
        numbers = objectives.summed(numbers, self.reduction)
        _, normalizers = objectives.active_and_normalizers(numbers.weight_sums, objectives.counts(numbers), step)
        after = numbers.loss_sums * normalizers
        with self.solver.on_device():
            problem = objectives.problem(step, summary.active, summary.losses)
            seen = tf.cast(after, tf.float64)
            return self.solver.combination.observe(problem, seen, summary.answer.state), after


def without_update(summary: StepSummary, accepted: tf.Tensor) -> StepOutcome:
    """The outcome of a step as far as its summary tells."""
    return StepOutcome(summary.answer.state, ~(summary.finite.of_each & summary.in_domain), summary.losses, ~accepted)
