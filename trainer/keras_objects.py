"""Keras losses, metrics, optimizers, schedules and layers by name, with their arguments checked."""

import inspect
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import keras

from trainer import imports
from trainer.errors import ConfigError, first_line, unknown

_ALIASES = {
    "mse": "MeanSquaredError",
    "mae": "MeanAbsoluteError",
    "mape": "MeanAbsolutePercentageError",
    "msle": "MeanSquaredLogarithmicError",
    "rmse": "RootMeanSquaredError",
    "bce": "BinaryCrossentropy",
    "kld": "KLDivergence",
}
_EVERY_KIND = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


def find(name: str, module: ModuleType, base: type, *, kind: str, field: str, also: tuple[str, ...] = ()) -> Any:
    """The class in `module` (a subclass of `base`) that `name` means, or what an import path names.

    Args:
      name: the class's name in any of Keras' spellings (`MeanSquaredError`, `mean_squared_error`, `mse`), or
        `package.module:attribute`.
      module: where to look, for example `keras.losses`.
      base: what its classes derive from.
      kind: what to call it in an error.
      field: the configuration's key in an error.
      also: further names that the caller resolves, to be listed in an error.

    Raises:
      ConfigError: nothing has that name.
    """
    if imports.is_path(name):
        return imports.load(name, field)
    classes = {
        attribute: value
        for attribute, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, base) and value is not base
    }
    spellings = {_squash(attribute): value for attribute, value in classes.items()}
    spellings |= {alias: classes[target] for alias, target in _ALIASES.items() if target in classes}
    if _squash(name) not in spellings:
        raise unknown(field, name, kind, [*also, *(snake(attribute) for attribute in classes)])
    return spellings[_squash(name)]


def build(target: Any, arguments: Mapping[str, Any], *, field: str) -> Any:
    """Calls `target` with keyword arguments.

    Raises:
      ConfigError: an argument does not exist, is missing, or the call refuses its value.
    """
    check_arguments(target, arguments, field=field)
    try:
        return target(**arguments)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(field, dict(arguments), f"{_name(target)} refuses it: {first_line(error)}") from error


def check_arguments(target: Any, arguments: Mapping[str, Any], *, field: str, positional: int = 0) -> None:
    """Raises ConfigError for a keyword argument that `target` does not take, or one that it needs and is not given.

    Args:
      target: a class or function.
      arguments: keyword arguments.
      field: the configuration's key, for errors.
      positional: how many arguments come before them.
    """
    parameters = list(inspect.signature(target).parameters.values())[positional:]
    names = [parameter.name for parameter in parameters if parameter.kind in _EVERY_KIND]
    open_ended = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    # Keras layers take their common arguments (name, dtype, ...) as **kwargs and check those themselves.
    is_layer = inspect.isclass(target) and issubclass(target, keras.layers.Layer)
    for key, value in arguments.items():
        if key not in names and not (open_ended and (is_layer or not inspect.isclass(target))):
            raise unknown(f"{field}.{key}", value, "argument", names, name=key)
    for parameter in parameters:
        if parameter.kind in _EVERY_KIND and parameter.default is parameter.empty and parameter.name not in arguments:
            raise ConfigError(f"{field}.{parameter.name}", ConfigError.ABSENT, "is missing and must be given")


def split(spec: Mapping[str, Any], key: str = "name") -> tuple[str, dict[str, Any]]:
    """The name and the arguments of something to build."""
    return spec[key], {name: value for name, value in spec.items() if name != key}


def snake(name: str) -> str:
    """`MeanSquaredError` → `mean_squared_error`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _squash(name: str) -> str:
    return name.replace("_", "").lower()


def _name(target: Any) -> str:
    return getattr(target, "__name__", type(target).__name__)
