"""Names given as import paths: `package.module:attribute`."""

import importlib
import traceback
from types import ModuleType
from typing import Any

from trainer.errors import ConfigError, first_line


def is_path(name: str) -> bool:
    """Whether `name` is written as an import path."""
    return ":" in name


def load(path: str, field: str) -> Any:
    """The attribute that `package.module:attribute` names.

    Raises:
      ConfigError: the module cannot be imported or lacks the attribute.
    """
    module_name, _, attribute = path.partition(":")
    module = _import(module_name, path, field)
    try:
        return getattr(module, attribute)
    except AttributeError:
        public = sorted(name for name in vars(module) if not name.startswith("_"))
        raise ConfigError(
            field, path, f"module {module_name} has no {attribute!r}; it has: {', '.join(public)}"
        ) from None


def _import(module_name: str, path: str, field: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{frame.filename}:{frame.lineno}"
        raise ConfigError(
            field,
            path,
            f"cannot import {module_name}: {type(error).__name__}: {first_line(error)} ({where})",
        ) from error
