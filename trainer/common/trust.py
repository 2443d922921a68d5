"""The code that may be called where a file that somebody else wrote names it.

A run's config.json and a folder that TFDS prepared are data, although they name functions and classes. Called are this
project's own examples, datasets and models, what the user's own configuration names as well, and packages that the user
trusts. Nothing else is called, or even imported.
"""

import dataclasses
import importlib.util
import inspect
import json
import pathlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from trainer.common import import_paths, schema
from trainer.common.errors import ConfigError, UntrustedError, listed

FLAG = "--trust"
_ROOT = pathlib.Path(__file__).resolve().parents[2]
_PROJECT = ("trainer", "input_pipelines", "configs", "launch")
# Of the project, these are meant to be named; other parts run programs, call import paths or remove files.
_NAMEABLE = ("configs", "input_pipelines.datasets", "trainer.models")
_NEVER = sys.stdlib_module_names | {"__main__", "test"}
# Layers of Keras that run code they are given, or load it; the last ones read any file as their vocabulary.
_FOREIGN_CODE = ("TFSMLayer", "Lambda", "FlaxLayer", "JaxLayer", "TorchModuleWrapper")
_LOOKUPS = ("StringLookup", "IntegerLookup", "TextVectorization")
# Where Keras makes an object of `{"class_name": ..., "config": ...}` among a few of its own kind alone.
_SMALL_OBJECTS = ("regularizer", "initializer", "constraint")


class _Named(NamedTuple):
    """Something in a configuration that names code.

    Attributes:
      field: the key.
      text: an import path, or a Keras object as JSON.
      shown: what to call it in an error.
    """

    field: str
    text: str
    shown: str


@dataclasses.dataclass(frozen=True)
class Trust:
    """The code that may be called beside the project's own.

    Attributes:
      packages: packages and modules by their first name, such as `my_package`.
      named: what the user's own configuration names: import paths, and Keras objects as JSON.
    """

    packages: frozenset[str] = frozenset()
    named: frozenset[str] = frozenset()

    def naming(self, tree: Mapping[str, Any]) -> "Trust":
        """This trust, and in what the user's own configuration names; `tree` is that as a nested dictionary."""
        return dataclasses.replace(self, named=self.named | {each.text for each in _named(tree)})

    def admits(self, module: str) -> bool:
        """True where code of a module, by its dotted name, may be called."""
        return _why_never(module) is None and (_is_nameable(module) or _package(module) in self.packages)

    def check(self, tree: Mapping[str, Any], run: str) -> None:
        """Checks all that a run's own configuration names; imports nothing.

        Args:
          tree: the configuration as a nested dictionary.
          run: the run's directory, for errors.

        Raises:
          ConfigError: it names something that is never called.
          UntrustedError: it names code that is not trusted.
        """
        paths = []
        for each in _named(tree):
            if import_paths.is_path(each.text):
                paths.append(each)
            elif each.text not in self.named:
                raise _refusal(
                    run,
                    f"gives {each.field} {each.shown}, which may load files or run code; give the configuration that "
                    "the run was trained with as --config=FILE",
                )
        for each in paths:
            if import_paths.is_object(each.text) and each.text not in self.named:
                raise _refusal(run, f"names {each.text} ({each.field}), which {import_paths.OF_ANOTHER_PROCESS}")
            if reason := _why_never(_module(each.text)):
                raise _refusal(run, f"names {each.text} ({each.field}): {reason}")
        own = [each for each in paths if each.text not in self.named and not self.admits(_module(each.text))]
        if own:
            packages = sorted({*self.packages, *(_package(each.text) for each in own)})
            shown = listed((f"{each.text} ({each.field})" for each in own), "")
            reason = f"its config.json names code that is not trusted: {shown}; --config=FILE admits what your own"
            raise UntrustedError("--workdir", run, f"{reason} configuration names", packages)

    def check_definitions(self, tree: Mapping[str, Any], run: str) -> None:
        """Imports what `check` has admitted, and checks that it is defined where it is named or trusted.

        A module also has what it imports, `mine:system` after `from os import system`. What the user's own
        configuration names is called as it is.

        Raises:
          ConfigError: a module cannot be imported, or names what is neither a class nor a function, or is never called.
          UntrustedError: it is defined in a package that is not trusted.
        """
        for each in _named(tree):
            if not import_paths.is_path(each.text) or each.text in self.named:
                continue
            found = import_paths.load(each.text, each.field)
            if not (inspect.isclass(found) or inspect.isroutine(found)):
                raise _refusal(
                    run,
                    f"names {each.text} ({each.field}), a {type(found).__name__}: of a run's own file, only classes "
                    "and functions are called",
                )
            home = found.__module__ or type(found).__module__  # None of some that are not written in Python
            if _package(home) == "keras" and found.__name__ in _FOREIGN_CODE:
                raise _refusal(run, f"names {each.text} ({each.field}), which may load files or run code")
            self.require(home, "--workdir", run, f"its config.json names {each.text} ({each.field}), defined in {home}")

    def require(self, module: str, field: str, value: Any, what: str) -> None:
        """Checks that code of a module may be called.

        Args:
          module: its dotted name.
          field: the key or flag of the file that names it, for errors.
          value: its value.
          what: what the file does, for errors.

        Raises:
          ConfigError: it is never called.
          UntrustedError: it is not trusted.
        """
        if reason := _why_never(module):
            raise ConfigError(field, value, f"{what}: {reason}")
        if not self.admits(module):
            packages = sorted({*self.packages, _package(module)})
            raise UntrustedError(field, value, f"{what}, which is not trusted", packages)


NOBODY = Trust()


def in_packages(names: Sequence[str] | None) -> Trust:
    """The trust in packages that a flag names, if any; raises ConfigError for one that cannot be trusted."""
    for name in names or ():
        if not re.fullmatch(r"\w+", name):
            raise ConfigError(FLAG, name, "must be names of packages or modules without a dot, as my_package,mine")
        if reason := _why_never(name):
            raise ConfigError(FLAG, name, f"cannot be trusted: {reason}")
    return Trust(frozenset(names or ()))


def _named(tree: Any, field: str = "") -> Iterator[_Named]:
    """Everything in nested plain values that names code; every text that has the form of an import path is one."""
    if isinstance(tree, str) and import_paths.is_path(tree):
        yield _Named(field, tree, tree)
    elif isinstance(tree, Mapping):
        if shown := _keras_object(tree, field):
            yield _Named(field, json.dumps(tree, sort_keys=True), shown)
        for key, value in tree.items():
            yield from _named(value, schema.join(field, key))
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            yield from _named(value, f"{field}.{index}")


def _keras_object(spec: Mapping[str, Any], field: str) -> str | None:
    """A word for a Keras object that loads files, runs code or makes others of which nobody knows; None for others."""
    if "class_name" in spec:
        small = set(spec) <= {"class_name", "config"} and field.endswith(_SMALL_OBJECTS)
        return None if small else f"an object of Keras by class_name ({spec['class_name']})"
    layer = spec.get("layer")
    if not isinstance(layer, str):
        return None
    names = _FOREIGN_CODE + (_LOOKUPS if isinstance(spec.get("vocabulary"), str) else ())
    return next((f"the layer {name}" for name in names if schema.squashed(name) == schema.squashed(layer)), None)


def _refusal(run: str, reason: str) -> ConfigError:
    return ConfigError("--workdir", run, f"its config.json {reason}")


def _module(path: str) -> str:
    return path.partition(":")[0]


def _package(path: str) -> str:
    return _module(path).partition(".")[0]


def _why_never(module: str) -> str | None:
    """The reason why no trust makes code of a module callable; None where trust does."""
    package = _package(module)
    if not all(module.split(".")):
        return f"{module!r} is no name of a module"
    if package in _NEVER:
        return f"{package} is of the standard library, of which nothing is called for a file"
    if package in _PROJECT and not _is_nameable(module) and _is_the_projects(package):
        return f"of this project itself, only {', '.join(_NAMEABLE)} are called for a file"
    return None


def _is_nameable(module: str) -> bool:
    within = any(module == name or module.startswith(f"{name}.") for name in _NAMEABLE)
    return within and _is_the_projects(_package(module))


def _is_the_projects(package: str) -> bool:
    """True where importing a package gives the project's, and not another of that name in the current folder."""
    spec = importlib.util.find_spec(package)
    origin = None if spec is None else spec.origin
    return origin is not None and pathlib.Path(origin).resolve().parent == _ROOT / package
