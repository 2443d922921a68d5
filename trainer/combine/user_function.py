"""A function of the user's own as a combination method: the names of its parameters say what it looks at."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from trainer.combine import lazy_tensorflow as tf
from trainer.combine.entry import Card, LooksAt, Method
from trainer.combine.problem import SMOOTHED, Answer, Problem, State
from trainer.common import import_paths, schema
from trainer.common.errors import ConfigError, unknown

# The parts of a problem that a function may ask for, by the names of its parameters; all others are options.
PARTS = ("losses", "gramian", "gradients", "state", "active", "loss_weights", "seed", "step", "epoch")
_OF_A_BLOCK = ("gradients", "active", "loss_weights", "seed", "step", "epoch")  # beside gradients only these
_CHANGING = {"state", "seed", "step", "epoch"}  # what makes coefficients differ from step to step
_CARD = Card(formula="what it returns", work="its own", use="As you see fit.", avoid="None.", differences="None.")


def method(function: Callable[..., Any], options: Mapping[str, Any], *, field: str, options_field: str) -> Method:
    """The method of a function of the user's own.

    It is called with parts of the problem by name, and with options. It returns (K,) coefficients of the losses'
    gradients; with `state`, the coefficients and the new state; with `gradients`, the combined gradient of one block.
    It is traced, as everything in the step, and whatever it gives is checked.

    Args:
      function: its parameters are some of `PARTS`, and options with defaults. A function of `state` has an attribute
        `initial`: given K, the state at the start, name → a number, K or K x K numbers.
      options: values for some of its options.
      field: the key or argument that names the function, for errors.
      options_field: that of its options.

    Raises:
      ConfigError: its parameters are none of these, or it has not these options.
    """
    name = name_of(function)
    parts, own = _parameters(function, field, name)
    for key, value in options.items():
        if key not in own:
            raise unknown(f"{options_field}.{key}", value, "option", own, name=key)
    if ("state" in parts) != hasattr(function, "initial"):
        lacking = "an attribute `initial`, a function of K" if "state" in parts else "a parameter `state`"
        raise ConfigError(field, name, f"must have {lacking}: `initial` gives the `state` at the start")
    called = _Called(function, name, field, parts)
    initial = functools.cache(called.initial_values)  # it may draw random numbers, and is asked for in every trace
    elementwise = "gradients" in parts
    looks_at = LooksAt.NOTHING
    for part, looked_at in (("losses", LooksAt.LOSSES), ("gramian", LooksAt.GRAMIAN), ("gradients", LooksAt.ELEMENTS)):
        looks_at = looked_at if part in parts else looks_at
    answers = called.with_state if "state" in parts else called.coefficients
    return Method(
        function=called.of_block if elementwise else answers,
        looks_at=looks_at,
        summary=_summary(function),
        card=_CARD,
        initial=(lambda count, **_: _constants(initial(count))) if "state" in parts else None,
        with_losses=lambda options: {"losses", "gramian"} <= {*parts},
        weighted="loss_weights" in parts,
        weighs_task_specific=looks_at in (LooksAt.NOTHING, LooksAt.LOSSES),
        random=bool(_CHANGING & {*parts}),
        draws="seed" in parts,
        own=True,
    )


def name_of(function: Callable[..., Any]) -> str:
    """A function's name for messages: its import path."""
    name = getattr(function, "__qualname__", type(function).__qualname__).rpartition(".")[2]
    return f"{getattr(function, '__module__', None) or type(function).__module__}:{name}"


@dataclasses.dataclass(frozen=True)
class _Called:
    """The calls of a function, and the checks of what it returns.

    Attributes:
      function: the function.
      name: its name, for errors.
      field: the key or argument that names it, for errors.
      parts: what it asks for.
    """

    function: Callable[..., Any]
    name: str
    field: str
    parts: tuple[str, ...]

    def coefficients(self, problem: Problem, **options: Any) -> tf.Tensor:
        """(K,) float64."""
        return self._coefficients(self._result(problem._asdict(), options), problem)

    def with_state(self, problem: Problem, state: State, **options: Any) -> Answer:
        """The coefficients, (K,) float64, and the new state."""
        state = {name: value for name, value in state.items() if name != SMOOTHED}
        result = self._result(problem._asdict() | {"state": state}, options)
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping)):
            raise self._error(f"must return (coefficients, new state), not {_shown(result)}")
        found, new = result
        if set(new) != set(state):
            raise self._error(
                f"must return a new state of {', '.join(state)}, not of {', '.join(map(str, new)) or 'nothing'}"
            )
        after = {
            name: self._numbers(new[name], old.shape, old.dtype, f"return as state {name!r} numbers")
            for name, old in state.items()
        }
        return Answer(self._coefficients(found, problem), after)

    def of_block(self, gradients: tf.Tensor, problem: Problem, **options: Any) -> tf.Tensor:
        """The combined gradient, of the variable's shape and dtype, of the gradients of k losses, (k, ...)."""
        flat = tf.reshape(gradients, [gradients.shape[0], -1])
        result = self._result(problem._asdict() | {"gradients": flat}, options)
        mixed = self._numbers(result, flat.shape[1:], flat.dtype, "return the combined gradient of a block")
        return tf.reshape(mixed, gradients.shape[1:])

    def initial_values(self, count: int) -> dict[str, Any]:
        """The state at the start: float64 or int64 arrays."""
        with tf.init_scope():
            given = self._guarded(self.function.initial, count)
            if not isinstance(given, Mapping) or not given:
                raise self._error(f"its `initial` must return a dictionary from names to numbers, not {_shown(given)}")
            return {name: self._initial_value(name, value, count) for name, value in given.items()}

    def _initial_value(self, name: Any, value: Any, count: int) -> Any:
        if not isinstance(name, str) or not schema.NAME.fullmatch(name) or name == SMOOTHED:
            allowed = f"its `initial` must have names of letters, digits and '_', other than {SMOOTHED!r}, not {name!r}"
            raise self._error(allowed)
        must = f"give as `initial` {name!r} a number, {count} or {count} x {count} of them"
        tensor = self._numbers(value, None, tf.float64, must)
        if tuple(tensor.shape) not in ((), (count,), (count, count)):
            raise self._error(f"must {must}, not {_shown(tensor)}")
        return tf.cast(tensor, tf.float64 if tensor.dtype.is_floating else tf.int64).numpy()

    def _result(self, values: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        return self._guarded(self.function, **{part: values[part] for part in self.parts}, **options)

    def _guarded(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """The result of the user's code; raises ConfigError for whatever that raises."""
        try:
            with import_paths.users_code():
                return function(*arguments, **named)
        except import_paths.USER_ERRORS as error:
            raise self._error(f"raised {import_paths.describe(error)}") from error

    def _coefficients(self, result: Any, problem: Problem) -> tf.Tensor:
        count = problem.active.shape[0]
        return self._numbers(result, [count], tf.float64, f"return a coefficient for each of the {count} losses")

    def _numbers(self, value: Any, shape: Any, dtype: tf.DType, must: str) -> tf.Tensor:
        """The numbers as a tensor of this shape and dtype; with `shape` None of its own shape and dtype."""
        try:
            # Lists and numbers of Python take this dtype; arrays have their own, which the hint would replace.
            tensor = tf.convert_to_tensor(value, dtype_hint=None if hasattr(value, "dtype") else dtype)
        except (TypeError, ValueError) as error:
            raise self._error(f"must {must}, not {_shown(value)}") from error
        if not (tensor.dtype.is_floating or tensor.dtype.is_integer):
            raise self._error(f"must {must}, not {_shown(tensor)}")
        if shape is None:
            return tensor
        if not tensor.shape.is_compatible_with(shape):
            raise self._error(f"must {must}, of shape {tuple(shape)}, not {_shown(tensor)}")
        return tf.cast(tensor if tensor.shape.is_fully_defined() else tf.ensure_shape(tensor, shape), dtype)

    def _error(self, allowed: str) -> ConfigError:
        return ConfigError(self.field, self.name, allowed)


def _constants(values: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(value) for name, value in values.items()}


def _parameters(function: Callable[..., Any], field: str, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The parts that a function asks for, and the names of its options."""
    if inspect.isclass(function):
        raise ConfigError(field, name, "must be a function, not a class")
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise ConfigError(field, name, "has no signature that says what it looks at") from error
    parts, options = [], []
    for each in parameters:
        named = each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
        if named and each.name in PARTS:
            parts.append(each.name)
        elif named and each.default is not each.empty:
            options.append(each.name)
        else:
            allowed = f"its parameter {str(each)!r} is neither an option, with a default, nor one of {', '.join(PARTS)}"
            raise ConfigError(field, name, allowed)
    if not parts:
        raise ConfigError(field, name, f"has none of the parameters {', '.join(PARTS)}: it looks at nothing")
    if "gradients" in parts and (others := [part for part in parts if part not in _OF_A_BLOCK]):
        allowed = f"combines `gradients` block by block, and cannot have {', '.join(others)} besides"
        raise ConfigError(field, name, allowed)
    return tuple(parts), tuple(options)


def _summary(function: Callable[..., Any]) -> str:
    """The first line of a function's documentation, without its full stop."""
    text = inspect.getdoc(function) or ""
    return text.partition("\n")[0].strip().removesuffix(".") or "a function of your own"


def _shown(value: Any) -> str:
    """A value's type, of a tensor or an array its dtype and shape, for errors."""
    if not (hasattr(value, "shape") and hasattr(value, "dtype")):
        return f"a {type(value).__name__}"
    return f"{tf.as_dtype(value.dtype).name} of shape {tf.TensorShape(value.shape)}"
