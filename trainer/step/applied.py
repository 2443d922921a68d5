"""From mixed gradients to those that each optimizer applies: regularizers' own added once, then clipped."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import tensorflow as tf

from trainer.combine import mixing as mixing_lib
from trainer.combine.combination import Combination
from trainer.combine.problem import Problem
from trainer.components.optimizers import OptimizerGroup
from trainer.gradients import ordered_sums
from trainer.gradients.layout import Joined
from trainer.gradients.reach import Reach
from trainer.step.values import Gradients
from trainer.step.views import Rows


class Mixing(Protocol):
    """A way to mix the gradients for the optimizers."""

    def mixed(self, rows: Rows, matrices: Sequence[tf.Tensor | None], problem: Problem) -> Gradients:
        """For every optimizer the gradients it applies.

        Args:
          rows: the gradients to mix.
          matrices: for each variable, as `trainer.combine.mixing.mixing_matrices` gives them.
          problem: the problem.
        """


@dataclasses.dataclass(frozen=True)
class Joint:
    """The losses' mixed gradients of a variable are summed; one optimizer applies the sum.

    Attributes:
      reach: which losses reach which variable.
      combination: how their gradients are combined.
      groups: the optimizers and what each of them updates.
      clip_norm: largest norm of all gradients together; None: no limit.
      joined: what is joined of the gradients that are mixed; None: nothing.
    """

    reach: Reach
    combination: Combination
    groups: Sequence[OptimizerGroup]
    clip_norm: float | None
    joined: Joined | None = None

    def mixed(self, rows: Rows, matrices: Sequence[tf.Tensor | None], problem: Problem) -> Gradients:
        """Returns for every optimizer the gradients it applies."""
        by = (self.reach if self.joined is None else self.joined.reach).losses

        def sums(wide: bool) -> list[tf.Tensor]:
            return [
                mixing_lib.joint(own, matrix, wide=wide)
                if matrix is not None
                else mixing_lib.elements(self.combination, own, by[v], rows.normalizers, problem, v)
                for v, (own, matrix) in enumerate(zip(rows.gradients, matrices, strict=True))
            ]

        dtype = rows.gradients[0][0].dtype
        mixed = mixing_lib.with_room(self.combination, dtype, dict(zip(by, matrices, strict=True)), sums)
        return self.of_sums(mixed if self.joined is None else self.joined.separate(mixed))

    def of_sums(self, gradients: Sequence[tf.Tensor]) -> Gradients:
        """Returns for every optimizer the gradients it applies, from one gradient per variable of the reach."""
        own = regularizer_gradients(self.reach)
        applied = tuple(
            tuple(gradients[v] + own[v] if v in own else gradients[v] for v in group.positions) for group in self.groups
        )
        clipped = clip_by_norm(tf.nest.flatten(applied), self.clip_norm)
        return tuple(tf.nest.pack_sequence_as(applied, clipped))


@dataclasses.dataclass(frozen=True)
class OfEachLoss:
    """Every loss's own optimizer applies that loss's mixed gradients; attributes as `Joint`'s, clipped for each."""

    reach: Reach
    combination: Combination
    groups: Sequence[OptimizerGroup]
    clip_norm: float | None

    def mixed(self, rows: Rows, matrices: Sequence[tf.Tensor | None], problem: Problem) -> Gradients:
        """Returns for every optimizer the gradients it applies."""
        del problem

        def of_each(wide: bool) -> list[tuple[tf.Tensor, ...]]:
            return [self._own(group, rows, matrices, wide=wide) for group in self.groups]

        of_losses = dict(zip(self.reach.losses, matrices, strict=True))
        dtype = rows.gradients[0][0].dtype
        mixed = mixing_lib.with_room(self.combination, dtype, of_losses, of_each)
        regularizers = regularizer_gradients(self.reach)
        result = []
        for group, gradients in zip(self.groups, mixed, strict=True):
            # A variable's regularizer counts once, for the first loss that reaches it.
            first = [v in regularizers and group.losses[0] == self.reach.losses[v][0] for v in group.positions]
            own = zip(gradients, group.positions, first, strict=True)
            own = tuple(gradient + regularizers[v] if added else gradient for gradient, v, added in own)
            result.append(clip_by_norm(own, self.clip_norm))
        return tuple(result)

    def _own(
        self, group: OptimizerGroup, rows: Rows, matrices: Sequence[tf.Tensor | None], *, wide: bool
    ) -> tuple[tf.Tensor, ...]:
        """One loss's mixed gradients of all that its optimizer updates."""
        (k,) = group.losses
        mixed = []
        for v in group.positions:
            by = self.reach.losses[v]
            row = self.combination.receivers(by).index(k)
            only = row if self.combination.method.diagonal or len(by) == 1 else None
            mixed.append(mixing_lib.own(rows.gradients[v], matrices[v], row, only=only, wide=wide))
        return tuple(mixed)


def regularizer_gradients(reach: Reach) -> dict[int, tf.Tensor]:
    """Gradients of the variables' own regularizers, by position in `reach.variables`; only where there is one."""
    gradients = {}
    for v, variable in enumerate(reach.variables):
        if getattr(variable, "regularizer", None) is not None:
            with tf.GradientTape() as tape:
                penalty = variable.regularizer(variable)
            gradients[v] = tf.convert_to_tensor(tape.gradient(penalty, variable.value))
    return gradients


def clip_by_norm(gradients: Sequence[tf.Tensor], norm: float | None) -> tuple[tf.Tensor, ...]:
    """Scales gradients down to a global norm of at most `norm`, all of them by the same factor; None: leaves them."""
    if norm is None:
        return tuple(gradients)
    square = ordered_sums.ordered([ordered_sums.square(gradient) for gradient in gradients])
    factor = norm / tf.maximum(tf.sqrt(square), norm)
    return tuple(gradient * tf.cast(factor, gradient.dtype) for gradient in gradients)
