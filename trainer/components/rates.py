"""Learning rates of single variables, and of all of them once a metric no longer improves."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.common import patterns
from trainer.common.errors import ConfigError, listed
from trainer.components.optimizers import OptimizerGroup

_FACTORS = "learning_rate_factors"  # the key


class RateScale:
    """The factor of all learning rates, on top of schedules, which falls in a run; make it in the strategy's scope.

    Attributes:
      factor: what a rate is multiplied by each time; above 0 and below 1.
      minimum: the least rate to which one is reduced. Where a schedule gives less, that stays as it is.
      count: how often the rates have been reduced.
    """

    def __init__(self, factor: float, minimum: float):
        self.factor, self.minimum = factor, minimum
        self.count = 0
        self._scale = tf.Variable(1.0, trainable=False, dtype=tf.float64, name="learning_rate_scale")

    def assign(self, count: int) -> None:
        """Reduces the rates `count` times in all; call it outside of steps, and every step after uses it."""
        self.count = count
        self._scale.assign(self.factor**count)

    def scaled(self, rate: keras.Variable | tf.Tensor | float) -> tf.Tensor:
        """The reduced rate, a scalar of the type of `rate`; `rate` itself before the first reduction."""
        rate = tf.convert_to_tensor(rate)
        return tf.maximum(rate * tf.cast(self._scale, rate.dtype), tf.minimum(rate, self.minimum))


def by_name(factors: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """The factor of every variable's learning rate by its name: that of the first pattern that matches, else 1.

    Raises:
      ConfigError: a pattern matches none of the names.
    """
    found: dict[str, float] = {}
    for pattern, factor in factors.items():
        matching = patterns.matching(names, pattern)
        if not matching:
            reason = f"matches no variable that is trained; there are: {listed(names, pattern)}"
            raise ConfigError(f"{_FACTORS}.{pattern}", factor, reason)
        found = dict.fromkeys(matching, factor) | found
    return {name: found.get(name, 1.0) for name in names}


def adjusted(
    groups: Sequence[OptimizerGroup], names: Sequence[str], factors: Mapping[str, float], scale: RateScale | None
) -> tuple[OptimizerGroup, ...]:
    """The groups with the factors of their variables, once `adjust` has changed their optimizers.

    Args:
      groups: all optimizers, each built for its variables.
      names: of all variables that are trained, by the positions that groups have.
      factors: patterns of these names → factors of learning rates.
      scale: of the rates of all; None: there is none.

    Raises:
      ConfigError: a pattern matches none of the names.
    """
    of_all = by_name(factors, names)
    found = [dataclasses.replace(each, factors=tuple(of_all[names[v]] for v in each.positions)) for each in groups]
    for group in found:
        adjust(group.optimizer, group.factors, scale)
    return tuple(found)


def adjust(optimizer: keras.optimizers.Optimizer, factors: Sequence[float], scale: RateScale | None) -> None:
    """Changes the rates at which an optimizer updates and decays its variables.

    Whatever looks at several variables, such as `global_clipnorm`, stays one for all of them. The optimizer's
    `learning_rate` is the reduced one, without factors.

    Args:
      optimizer: built for its variables.
      factors: of the rate, for each of them.
      scale: of the rates of all; None: there is none.
    """
    if scale is not None:
        _adjust_rate(optimizer, scale.scaled)
    if any(factor != 1 for factor in factors):
        _adjust_each(optimizer, factors)


def _adjust_rate(optimizer: keras.optimizers.Optimizer, adjusted: Callable[[Any], Any]) -> None:
    """Puts a function around the rate that an optimizer reads, for which Keras has no public place."""
    current = optimizer._get_current_learning_rate
    optimizer._get_current_learning_rate = lambda: adjusted(current())


def _adjust_each(optimizer: keras.optimizers.Optimizer, factors: Sequence[float]) -> None:
    """Gives each variable its own rate, in Keras' two functions that read one: the update and the decay of weights."""
    update_step, apply_weight_decay = optimizer.update_step, optimizer._apply_weight_decay
    own = [1.0]  # the factor of what is being traced, which all replicas trace alike

    @contextlib.contextmanager
    def at(factor: float) -> Iterator[None]:
        own[0] = factor
        try:
            yield
        finally:
            own[0] = 1.0

    def of(variable: tf.Variable) -> float:
        return factors[optimizer._get_variable_index(variable)]

    def update(gradient: Any, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        with at(of(variable)):
            update_step(gradient, variable, _times(learning_rate, own[0]))

    def decay(variables: Sequence[tf.Variable]) -> None:
        for factor in dict.fromkeys(map(of, variables)):
            with at(factor):
                apply_weight_decay([variable for variable in variables if of(variable) == factor])

    _adjust_rate(optimizer, lambda rate: _times(rate, own[0]))
    optimizer.update_step, optimizer._apply_weight_decay = update, decay


def _times(rate: keras.Variable | tf.Tensor, factor: float) -> keras.Variable | tf.Tensor:
    return rate if factor == 1 else tf.convert_to_tensor(rate) * factor
