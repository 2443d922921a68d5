"""Exponential moving average of the variables, on which a run evaluates (`ema`)."""

import contextlib
from collections.abc import Iterator, Mapping

import keras
import tensorflow as tf


class VariableAverage:
    """Averages of a model's trainable variables, one per replica beside each variable; make it in the strategy's scope.

    After step s the average is m · average + (1 - m) · variable, with m = `momentum`, as Keras' optimizers have it
    (`use_ema`); after the first step it is the variable itself.

    Args:
      strategy: built the variables.
      variables: the variables, by name.
      momentum: m, at least 0 and below 1.
    """

    def __init__(self, strategy: tf.distribute.Strategy, variables: Mapping[str, keras.Variable], momentum: float):
        self._strategy = strategy
        self._names, self._variables = tuple(variables), tuple(variables.values())
        self._momentum = momentum
        self._averages = tuple(tf.Variable(variable.value, trainable=False) for variable in self._variables)
        self._swap = tf.function(lambda: strategy.run(self._swap_on_replica), autograph=False)

    @property
    def by_name(self) -> dict[str, tf.Variable]:
        """The averages by their variables' names."""
        return dict(zip(self._names, self._averages, strict=True))

    def update(self, step: tf.Tensor) -> None:
        """Takes in the variables as step `step` (counted from 0) has left them; call it in replica context."""
        for variable, average in zip(self._variables, self._averages, strict=True):
            momentum = tf.where(tf.equal(step, 0), tf.zeros([], average.dtype), self._momentum)
            average.assign(average * momentum + variable.value * (1 - momentum))

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The model's variables hold their averages within this context."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap_on_replica(self) -> None:
        for variable, average in zip(self._variables, self._averages, strict=True):
            value = tf.identity(variable.value)
            variable.value.assign(tf.identity(average))
            average.assign(value)
