"""The optimizers that take part in a step, and their updates."""

import contextlib
import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from trainer.components.optimizers import Update
from trainer.gradients.moving_average import MovingRows
from trainer.step import replicas
from trainer.step.values import Applied
from trainer.step.weight_average import WeightAverage

_AVERAGE, _MOVING_ROWS = "average", "moving_rows"  # parts of a checkpoint


@dataclasses.dataclass(frozen=True)
class Updates:
    """The optimizers of a run, and what follows their updates.

    Attributes:
      strategy: where.
      optimizers: what each of them updates, in the order in which they apply.
      can_rest: for each loss, whether there can be steps in which it takes no part.
      average: moving averages of the weights, where the run keeps them.
      moving_rows: moving averages of the gradients, where the combination mixes those.
    """

    strategy: tf.distribute.Strategy
    optimizers: Sequence[Update]
    can_rest: Sequence[bool]
    average: WeightAverage | None
    moving_rows: MovingRows | None

    def apply(self, applied: Applied, step: tf.Tensor, active: tf.Tensor, accepted: tf.Tensor) -> None:
        """Updates variables and averages on every replica alike; nothing is reduced a second time.

        Conditions stand around `strategy.run`, because one inside it cannot hold an apply.

        Args:
          applied: what each replica changes.
          step: number of the step.
          active: (K,) bool, the losses that take part.
          accepted: scalar bool, whether anything is changed at all.
        """
        for group in self._groups():
            arguments = ([applied.gradients[i] for i in group], [self.optimizers[i] for i in group])
            replicas.run_if(accepted & self._takes_part(group, active), self.strategy, _apply, arguments)
        if self.average is not None:
            replicas.run_if(accepted, self.strategy, self.average.update, (step,))
        if self.moving_rows is not None:
            replicas.run_if(accepted, self.strategy, self.moving_rows.assign, (applied.moving_rows,))

    def checkpointed(self) -> dict[str, dict[str, tf.Variable]]:
        """The parts of a checkpoint that hold the averages, of weights and of gradients, where there are any."""
        parts = self.averages_of_weights()
        return parts | ({} if self.moving_rows is None else {_MOVING_ROWS: self.moving_rows.by_name})

    def averages_of_weights(self) -> dict[str, dict[str, tf.Variable]]:
        """The part of a checkpoint that an evaluation needs beside the model, where there is one."""
        return {} if self.average is None else {_AVERAGE: self.average.by_name}

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """The model holds the moving averages of its weights within this context, where the run keeps them."""
        return contextlib.nullcontext() if self.average is None else self.average.in_place()

    def _groups(self) -> list[list[int]]:
        """Indices of `optimizers`, in order: those that always take part together, each that can be skipped apart."""
        groups: list[list[int]] = []
        for index, update in enumerate(self.optimizers):
            if groups and not self._can_rest(update) and not self._can_rest(self.optimizers[groups[-1][0]]):
                groups[-1].append(index)
            else:
                groups.append([index])
        return groups

    def _can_rest(self, update: Update) -> bool:
        return all(self.can_rest[k] for k in update.losses)

    def _takes_part(self, group: Sequence[int], active: tf.Tensor) -> tf.Tensor | bool:
        """True (or scalar bool) where a group is applied: an optimizer is skipped where its losses are all inactive."""
        update = self.optimizers[group[0]]
        return tf.reduce_any(tf.gather(active, update.losses)) if self._can_rest(update) else True


def _apply(gradients: Sequence[tuple[tf.Tensor, ...]], updates: Sequence[Update]) -> None:
    """Optimizers' updates of their variables, one after another."""
    for own, update in zip(gradients, updates, strict=True):
        update.optimizer.apply(list(own), list(update.variables))
