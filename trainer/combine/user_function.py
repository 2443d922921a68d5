"""A function of the user's own as a combination method."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from trainer.combine import lazy_tensorflow as tf
from trainer.combine.entry import Card, LooksAt, Method
from trainer.combine.problem import Problem
from trainer.common.errors import ConfigError

_PARAMETERS = ("losses", "gramian")  # the parts of the problem that a function may ask for, by their names
_CARD = Card(formula="what it returns", work="its own", use="As you see fit.", avoid="None.", differences="None.")


def method(function: Callable[..., Any], field: str) -> Method:
    """The method of a function that returns (K,) float64 coefficients of the losses' gradients.

    Args:
      function: its parameters say what it looks at, by their names: `losses` (K,) float64, the losses of the global
        batch, and `gramian` (K, K) float64, the inner products of their gradients over all shared variables; zeros
        where a loss takes no part in the step. It is traced, as everything in the step.
      field: the argument that it was given for, for errors.

    Raises:
      ConfigError: it has a parameter without a default that is neither of them, or neither of them at all.
    """
    name = getattr(function, "__name__", type(function).__name__)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise ConfigError(field, name, "has no signature that says what it looks at") from error
    wanted = [each.name for each in parameters if each.name in _PARAMETERS]
    others = [each.name for each in parameters if each.name not in _PARAMETERS and each.default is each.empty]
    if others or not wanted:
        allowed = "must be a function of `losses`, `gramian` or both, which returns a coefficient for each loss"
        raise ConfigError(field, name, allowed)

    def coefficients(problem: Problem) -> tf.Tensor:
        result = tf.convert_to_tensor(function(**{each: getattr(problem, each) for each in wanted}))
        if result.shape != problem.active.shape:
            allowed = f"must return a coefficient for each of the {problem.active.shape[0]} losses, not {result.shape}"
            raise ConfigError(field, name, allowed)
        return tf.cast(result, tf.float64)

    return Method(
        function=coefficients,
        looks_at=LooksAt.GRAMIAN if "gramian" in wanted else LooksAt.LOSSES,
        summary=f"the function {name}",
        card=_CARD,
        with_losses=lambda options: "losses" in wanted,
    )
