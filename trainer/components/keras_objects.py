"""Keras losses, metrics, optimizers, schedules and layers by name, with their arguments checked."""

import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from types import ModuleType
from typing import Any

import keras

from trainer.common import import_paths, schema
from trainer.common.errors import ConfigError, first_line, unknown

_ALIASES = {
    "mse": "MeanSquaredError",
    "mae": "MeanAbsoluteError",
    "mape": "MeanAbsolutePercentageError",
    "msle": "MeanSquaredLogarithmicError",
    "rmse": "RootMeanSquaredError",
    "bce": "BinaryCrossentropy",
    "kld": "KLDivergence",
}
# Arguments that are numbers though Keras' defaults do not show it.
_NUMBERS = ("initial_learning_rate", "decay_rate")
_FRACTIONS = ("beta_1", "beta_2")
_NUMBERS_OR_NONE = ("weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "warmup_target")


def find(
    name: str,
    module: ModuleType,
    base: type,
    *,
    kind: str,
    field: str,
    own: Sequence[type] = (),
    also: tuple[str, ...] = (),
) -> Callable[..., Any]:
    """The class in `module` (a subclass of `base`) or `own` that `name` means, or what an import path names.

    Args:
      name: the class's name in any of Keras' spellings (`MeanSquaredError`, `mean_squared_error`, `mse`), or
        `package.module:attribute`.
      module: where to look, for example `keras.losses`.
      base: what its classes derive from.
      kind: what to call it in an error.
      field: the configuration's key in an error.
      own: classes of the trainer that go by their names beside those of `module`.
      also: further names that the caller resolves, to be listed in an error.

    Raises:
      ConfigError: nothing has that name.
    """
    if import_paths.is_path(name):
        return import_paths.load(name, field)
    classes = {
        attribute: value
        for attribute, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, base) and value is not base
    }
    classes |= {value.__name__: value for value in own}
    spellings = {schema.squashed(attribute): value for attribute, value in classes.items()}
    spellings |= {alias: classes[target] for alias, target in _ALIASES.items() if target in classes}
    if schema.squashed(name) not in spellings:
        raise unknown(field, name, kind, [*also, *(snake(attribute) for attribute in classes)])
    return spellings[schema.squashed(name)]


def build(
    target: Callable[..., Any],
    arguments: Mapping[str, Any],
    *,
    field: str,
    base: type,
    implied: Mapping[str, Any] | None = None,
    refused: Collection[str] = (),
) -> Any:
    """Calls `target` with keyword arguments.

    Args:
      target: a class or function.
      arguments: what the configuration gives.
      field: the configuration's key, for errors.
      base: what the result must be an instance of.
      implied: arguments of the caller's own; those of the configuration win.
      refused: arguments that the caller refuses; an error offers none of them.

    Raises:
      ConfigError: an argument does not exist, is missing, or is refused; the result is something else.
    """
    # Layers take their common arguments (name, dtype, ...) as **kwargs and check those themselves.
    # Other Keras classes take **kwargs for names of the past; what they do not list is a mistake.
    layer = inspect.isclass(target) and issubclass(target, keras.layers.Layer)
    listed_only = inspect.isclass(target) and not layer
    # A class's `name` is the key by which the configuration names the class itself, except of a layer.
    hidden = refused if layer else {*refused, "name"}
    import_paths.check_arguments(target, arguments, field=field, listed_only=listed_only, refused=hidden)
    _check_booleans(target, arguments, field)
    try:
        result = target(**{**(implied or {}), **arguments})
    except ConfigError as error:
        if error.field.partition(".")[0] not in arguments:
            raise
        raise ConfigError(schema.join(field, error.field), error.value, error.allowed) from error
    except import_paths.USER_ERRORS as error:
        raise ConfigError(field, dict(arguments), f"{name_of(target)} refuses it: {first_line(error)}") from error
    if not isinstance(result, base):
        raise ConfigError(field, name_of(target), f"gives a {type(result).__name__}, not a {base.__name__}")
    return result


def _check_booleans(target: Callable[..., Any], arguments: Mapping[str, Any], field: str) -> None:
    """Raises ConfigError for a switch of a Keras class that is not True or False, and for a number that is.

    Python would take "no" for True, and True for 1.
    """
    defaults = _defaults(target)
    for key, value in arguments.items():
        default = defaults.get(key)
        if isinstance(default, bool):
            schema.boolean(value, f"{field}.{key}")
        elif isinstance(value, bool) and (default is inspect.Parameter.empty or isinstance(default, int | float)):
            raise ConfigError(f"{field}.{key}", value, "must not be True or False")


def make_numbers(
    found: Callable[..., Any], arguments: dict[str, Any], field: str, *, lists: tuple[str, ...] = ()
) -> None:
    """Makes floats of the arguments of a Keras class that are numbers, in place; raises ConfigError for others.

    Those named in `lists` may be lists of numbers. Keras checks few of them and fails late, in the first step.
    """
    if not _is_of_keras(found):
        return
    defaults = _defaults(found)
    for key, value in arguments.items():
        default = defaults.get(key)
        if key in lists and isinstance(value, list):
            arguments[key] = [schema.number()(entry, f"{field}.{key}.{index}") for index, entry in enumerate(value)]
        elif key in _NUMBERS_OR_NONE:
            arguments[key] = schema.optional(schema.number())(value, f"{field}.{key}")
        elif key in _FRACTIONS:
            arguments[key] = schema.fraction(value, f"{field}.{key}")
        elif key in _NUMBERS or (isinstance(default, float) and default >= 0 and not hasattr(value, "get_config")):
            arguments[key] = schema.number()(value, f"{field}.{key}")


def _is_of_keras(target: Callable[..., Any]) -> bool:
    return inspect.isclass(target) and target.__module__.startswith("keras.")


def _defaults(target: Callable[..., Any]) -> dict[str, Any]:
    """The defaults of a Keras class's arguments."""
    if not _is_of_keras(target):
        return {}
    return {name: parameter.default for name, parameter in inspect.signature(target).parameters.items()}


def split(spec: Mapping[str, Any], key: str = "name") -> tuple[str, dict[str, Any]]:
    """The name and the arguments of something to build."""
    return spec[key], {name: value for name, value in spec.items() if name != key}


def snake(name: str) -> str:
    """`MeanSquaredError` → `mean_squared_error`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def name_of(target: Any) -> str:
    """A name for a class, a function or another callable."""
    return getattr(target, "__name__", type(target).__name__)
