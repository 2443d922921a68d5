"""Moving averages of every loss's gradients of the shared variables, for methods that mix those."""

from collections.abc import Sequence

import tensorflow as tf

from trainer.gradients.reach import Jacobian, Reach


class GradientAverages:
    """One average per shared variable and loss that reaches it, on every replica; make it in the strategy's scope.

    After a step an average is m · average + (1 - m) · gradient; it starts at zero, and stays what it is while its loss
    is inactive.

    Args:
      reach: which losses reach which variable.
      names: the losses' names.
      keeps: m.
    """

    def __init__(self, reach: Reach, names: Sequence[str], keeps: float):
        self._reach = reach
        self._names = tuple(names)
        self._keeps = keeps
        self._averages = tuple(
            tuple(tf.Variable(tf.zeros_like(reach.variables[v].value), trainable=False) for _ in reach.losses[v])
            for v in reach.shared
        )

    @property
    def by_name(self) -> dict[str, tf.Variable]:
        """The averages as `<loss>/<the variable's name>`."""
        return {
            f"{self._names[k]}/{self._reach.names[v]}": average
            for v, averages in zip(self._reach.shared, self._averages, strict=True)
            for k, average in zip(self._reach.losses[v], averages, strict=True)
        }

    def moved(self, jacobian: Jacobian, factors: tf.Tensor, active: tf.Tensor) -> Jacobian:
        """Returns the averages of the shared variables after a step, without setting them; call it in replica context.

        Args:
          jacobian: per variable of the reach, reduced gradients of the losses that reach it.
          factors: (K,) float64 by which each gradient is multiplied first.
          active: (K,) bool.

        Returns:
          For every shared variable, one gradient for every loss that reaches it.
        """
        kept = tf.unstack(tf.where(active, tf.constant(self._keeps, tf.float64), 1.0))
        entering = tf.unstack(tf.where(active, (1 - self._keeps) * factors, 0.0))
        return tuple(
            tuple(
                tf.cast(kept[k], average.dtype) * average + tf.cast(entering[k], average.dtype) * gradient
                for k, average, gradient in zip(self._reach.losses[v], averages, jacobian[v], strict=True)
            )
            for v, averages in zip(self._reach.shared, self._averages, strict=True)
        )

    def assign(self, moved: Jacobian) -> None:
        """Sets the averages; call it in replica context."""
        for averages, values in zip(self._averages, moved, strict=True):
            for average, value in zip(averages, values, strict=True):
                average.assign(value)
