"""Names given as import paths, `package.module:attribute`, and calls of what they name."""

import contextlib
import importlib
import inspect
import re
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from trainer.common.errors import ConfigError, first_line, listed, unknown

# User code may end in `sys.exit`, which must not end the process without a word.
USER_ERRORS = (Exception, SystemExit)
OBJECT = "object"  # in the place of a module: `object:<name>` is an object of this process, as `objects` says
OF_ANOTHER_PROCESS = "is an object of the Python process that trained; trainer.load_run takes it in 'config'"
_objects: dict[str, Callable] = {}
_BY_KEYWORD = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


def is_path(name: str) -> bool:
    """True where `name` has the form of an import path, `package.module:name`."""
    return re.fullmatch(r"[\w.]+:\w+", name) is not None


@contextlib.contextmanager
def users_code() -> Iterator[None]:
    """A context for code of the user's own, which may make errors of warnings: none of them outlasts it.

    Libraries warn as they are imported, and must not end a run by that.
    """
    before = list(warnings.filters)
    try:
        yield
    finally:
        warnings.filters[:] = [each for each in warnings.filters if each[0] != "error" or each in before]


def is_object(path: str) -> bool:
    """True for the import path of an object of a process, which no other process can import."""
    return is_path(path) and path.partition(":")[0] == OBJECT


@contextlib.contextmanager
def objects(named: Mapping[str, Callable]) -> Iterator[None]:
    """A context in which the import path `object:<name>` leads to what has this name, in every thread."""
    before = dict(_objects)
    _objects.clear()
    _objects.update(named)
    try:
        yield
    finally:
        _objects.clear()
        _objects.update(before)


def load(path: str, field: str) -> Callable:
    """The class or function that `package.module:attribute` names.

    Raises:
      ConfigError: the module cannot be imported, or lacks the attribute, or that cannot be called.
    """
    module_name, _, attribute = path.partition(":")
    if is_object(path):
        if attribute not in _objects:
            raise ConfigError(field, path, OF_ANOTHER_PROCESS)
        return _objects[attribute]
    try:
        with users_code():
            module = importlib.import_module(module_name)
    except USER_ERRORS as error:
        raise ConfigError(field, path, f"cannot import {module_name!r}: {describe(error)}") from error
    if not hasattr(module, attribute):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise ConfigError(
            field, path, f"module {module_name} has no {attribute!r}; it has: {listed(public, attribute)}"
        )
    found = getattr(module, attribute)
    if not callable(found):
        raise ConfigError(field, path, f"names a {type(found).__name__}; it must be a class or a function")
    return found


def call(path: str, arguments: Mapping[str, Any], *, field: str, arguments_field: str) -> Any:
    """Calls the user's function that `path` names.

    Args:
      path: its import path.
      arguments: keyword arguments.
      field: the configuration's key for the path.
      arguments_field: the configuration's key for the arguments.

    Raises:
      ConfigError: it cannot be imported, does not take these arguments, or raises.
    """
    function = load(path, field)
    check_arguments(function, arguments, field=arguments_field)
    try:
        with users_code():
            return function(**arguments)
    except ConfigError:
        raise
    except USER_ERRORS as error:
        raise ConfigError(field, path, f"raised {describe(error)}") from error


def check_arguments(
    target: Callable,
    arguments: Mapping[str, Any],
    *,
    field: str,
    positional: int = 0,
    listed_only: bool = False,
    refused: Collection[str] = (),
    others: Collection[str] = (),
) -> None:
    """Raises ConfigError for a keyword argument that `target` does not take, or one that it needs and is not given.

    Args:
      target: a class or function.
      arguments: keyword arguments.
      field: the configuration's key, for errors.
      positional: how many arguments come before them.
      listed_only: refuse what `target` would take as **kwargs, too.
      refused: arguments that the caller refuses, so that none is offered in the place of an unknown one.
      others: arguments that it is given otherwise.
    """
    try:
        parameters = list(inspect.signature(target).parameters.values())[positional:]
    except (TypeError, ValueError):  # builtins need not have a signature
        return
    named = [parameter for parameter in parameters if parameter.kind in _BY_KEYWORD]
    names = [parameter.name for parameter in named]
    if listed_only or not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        for key, value in arguments.items():
            if key not in names:
                offered = [name for name in names if name not in refused and name not in others]
                raise unknown(f"{field}.{key}", value, "argument", offered, name=key)
    for parameter in named:
        if parameter.default is parameter.empty and parameter.name not in arguments and parameter.name not in others:
            raise ConfigError(f"{field}.{parameter.name}", ConfigError.ABSENT, "is missing and must be given")


def describe(error: BaseException) -> str:
    """An error of the user's code in one line: its type, its message and the user's last line on the way to it."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    libraries = (sysconfig.get_path("purelib"), "<frozen")
    frames = [frame for frame in frames[1:] if not frame.filename.startswith(libraries)] or frames
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {first_line(error)}{where}"
