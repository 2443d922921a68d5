"""The reach of losses, variable by variable, and the type of their gradients.

Gradients stay a list per variable: for each variable one tensor for every loss that reaches it, in the order of the
losses. They are never concatenated into one matrix, which would take several times the memory and store zeros where
a loss does not reach.
"""

import dataclasses

import keras
import tensorflow as tf

Jacobian = tuple[tuple[tf.Tensor, ...], ...]


@dataclasses.dataclass(frozen=True)
class Reach:
    """The losses that reach each variable.

    Attributes:
      variables: the trainable variables that at least one loss reaches, in the model's order.
      losses: for each of them, the indices of the losses that reach it, ascending.
      names: the name of each of them in the model.
      unreached: names of the trainable variables that no loss reaches; they are never updated.
    """

    variables: tuple[keras.Variable, ...]
    losses: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]
    unreached: tuple[str, ...] = ()

    @property
    def by_name(self) -> dict[str, keras.Variable]:
        """`variables` by their names."""
        return dict(zip(self.names, self.variables, strict=True))

    @property
    def shared(self) -> tuple[int, ...]:
        """Positions in `variables` of those that two losses or more reach."""
        return tuple(v for v, losses in enumerate(self.losses) if len(losses) > 1)

    @property
    def not_shared(self) -> tuple[int, ...]:
        """Positions in `variables` of those that one loss alone reaches."""
        return tuple(v for v, losses in enumerate(self.losses) if len(losses) == 1)

    def task_specific(self, loss: int) -> tuple[int, ...]:
        """Positions in `variables` of those that only `loss` (an index) reaches."""
        return tuple(v for v, losses in enumerate(self.losses) if losses == (loss,))

    def reached_by(self, loss: int) -> tuple[int, ...]:
        """Positions in `variables` of all that `loss` (an index) reaches."""
        return tuple(v for v, losses in enumerate(self.losses) if loss in losses)
