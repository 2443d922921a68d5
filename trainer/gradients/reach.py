"""The reach of losses, variable by variable, and the type of their gradients.

Gradients stay a list per variable: for each variable one tensor for every loss that reaches it, in the order of the
losses. They are never concatenated into one matrix, which would take several times the memory and store zeros where
a loss does not reach.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

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

    def recording(self) -> contextlib.AbstractContextManager[tf.GradientTape]:
        """A context with a tape for gradients of `variables`, as `recording` gives it."""
        return recording(self.variables)

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


@contextlib.contextmanager
def recording(variables: Sequence[keras.Variable]) -> Iterator[tf.GradientTape]:
    """A context with a tape that can be asked repeatedly for gradients of these variables; call it in replica context.

    Of what depends on none of them it records nothing: frozen layers up to the first trained one have no backward pass.
    """
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch([variable.value for variable in variables])
        yield tape
