"""The optimizers that take part in a step, and their updates."""

import contextlib
import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from trainer.components import optimizers
from trainer.components.optimizers import OptimizerGroup
from trainer.gradients.moving_average import GradientAverages
from trainer.step import replicas
from trainer.step.values import Applied
from trainer.step.variable_average import VariableAverage

AVERAGE, _GRADIENT_AVERAGES = "average", "gradient_averages"  # parts of a checkpoint


@dataclasses.dataclass(frozen=True)
class Updates:
    """The optimizers of a run, and what follows their updates.

    Attributes:
      strategy: where.
      groups: each optimizer with its variables, in the order in which they apply.
      can_be_skipped: for each loss, whether there can be steps in which it takes no part.
      can_be_refused: whether the run continues after a step that was not accepted.
      average: moving averages of the variables, where the run keeps them.
      gradient_averages: moving averages of the gradients, where the combination mixes those.
    """

    strategy: tf.distribute.Strategy
    groups: Sequence[OptimizerGroup]
    can_be_skipped: Sequence[bool]
    can_be_refused: bool
    average: VariableAverage | None
    gradient_averages: GradientAverages | None

    def apply(self, applied: Applied, step: tf.Tensor, active: tf.Tensor, accepted: tf.Tensor) -> None:
        """Updates variables and averages on every replica alike; nothing is reduced a second time.

        Conditions stand around `strategy.run`, because one inside it cannot hold an apply.

        Args:
          applied: what each replica changes.
          step: number of the step.
          active: (K,) bool, the losses that take part.
          accepted: scalar bool, whether anything is changed at all.
        """
        with optimizers.at_step(self._with_fewer_updates_than_steps(), step):
            for together in self._applied_together():
                arguments = ([applied.gradients[i] for i in together], [self.groups[i] for i in together])
                replicas.run_if(
                    accepted & self._takes_part(self.groups[together[0]], active), self.strategy, _apply, arguments
                )
        if self.average is not None:
            replicas.run_if(accepted, self.strategy, self.average.update, (step,))
        if self.gradient_averages is not None:
            replicas.run_if(accepted, self.strategy, self.gradient_averages.assign, (applied.gradient_averages,))

    def checkpointed(self) -> dict[str, dict[str, tf.Variable]]:
        """The parts of a checkpoint that hold the averages, of variables and of gradients, where there are any."""
        parts = self.averages_of_variables()
        return parts | ({} if self.gradient_averages is None else {_GRADIENT_AVERAGES: self.gradient_averages.by_name})

    def averages_of_variables(self) -> dict[str, dict[str, tf.Variable]]:
        """The part of a checkpoint that an evaluation needs beside the model, where there is one."""
        return {} if self.average is None else {AVERAGE: self.average.by_name}

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """The model holds the moving averages of its variables within this context, where the run keeps them."""
        return contextlib.nullcontext() if self.average is None else self.average.in_place()

    def _applied_together(self) -> list[list[int]]:
        """Indices of `groups`, in order: those that always take part together, each that can be skipped apart."""
        found: list[list[int]] = []
        for index, group in enumerate(self.groups):
            if found and not self._can_be_skipped(group) and not self._can_be_skipped(self.groups[found[-1][0]]):
                found[-1].append(index)
            else:
                found.append([index])
        return found

    def _with_fewer_updates_than_steps(self) -> list[OptimizerGroup]:
        """The optimizers whose own number of updates need not be the step's: it is read anyway, and the step is not."""
        return [group for group in self.groups if self.can_be_refused or self._can_be_skipped(group)]

    def _can_be_skipped(self, group: OptimizerGroup) -> bool:
        return len(group.losses) > 0 and all(self.can_be_skipped[k] for k in group.losses)

    def _takes_part(self, group: OptimizerGroup, active: tf.Tensor) -> tf.Tensor | bool:
        """True (or scalar bool) where a group is applied: an optimizer is skipped where its losses are all inactive."""
        return tf.reduce_any(tf.gather(active, group.losses)) if self._can_be_skipped(group) else True


def _apply(gradients: Sequence[tuple[tf.Tensor, ...]], groups: Sequence[OptimizerGroup]) -> None:
    """Optimizers' updates of their variables, one after another."""
    with tf.name_scope("update"):
        for own, group in zip(gradients, groups, strict=True):
            group.optimizer.apply(list(own), list(group.variables))
