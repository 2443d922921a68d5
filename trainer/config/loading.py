"""Reads a configuration: a Python file's `get_config()`, overrides from the command line, what a run saved.

Nothing here needs TensorFlow, so mistakes are reported at once.
"""

import ast
import dataclasses
import json
import pathlib
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections

from trainer.combine import registry
from trainer.common import atomic_files, import_paths, json_text, schema
from trainer.common.errors import ConfigError, first_line, text_of
from trainer.common.trust import Trust
from trainer.config import earlier_names, initial_values, optimizers, rules
from trainer.config.settings import Config

# Of what a run keeps. A version that cannot read what earlier ones kept has the next number, and its reason here.
_FORMAT = 4
_BITS = 4096  # of whole numbers: Python writes larger ones as text, and reads them, only where it is told to
_EARLIER = {
    1: "made before variables were named by their place in the model",
    2: "made when `gradients` was a key beside `reduction`",
    3: "made before checkpoints had checksums of what a run reads beside them",
}


def load(
    path: str,
    overrides: Sequence[tuple[str, str]] = (),
    combine: str | None = None,
    reduction: str | None = None,
) -> Config:
    """Reads a configuration file, applies overrides and resolves every default.

    Args:
      path: a Python file with `get_config()` returning an `ml_collections.ConfigDict`.
      overrides: (dotted key, text) pairs, as from `--config.batch_size=512`.
      combine: replaces `combine.name` where given, as `--combine` does.
      reduction: replaces `reduction` where given, as `--reduction` does.

    Returns:
      The resolved configuration: every setting present and checked.

    Raises:
      ConfigError: the file or a value cannot be used.
    """
    tree = read_tree(path, overrides)
    if combine is not None:
        _override(tree, "combine.name", repr(registry.check_name(combine, "--combine")))
    if reduction is not None:
        _override(tree, "reduction", repr(reduction))
    return resolve(tree)


def read_tree(path: str, overrides: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """Reads a configuration file and applies overrides; returns nested dictionaries, which `resolve` checks.

    Args:
      path: as for `load`.
      overrides: as for `load`.

    Raises:
      ConfigError: the file cannot be used, or a key leads nowhere.
    """
    tree = _read(run_file(path), path)
    for key, text in overrides:
        _override(tree, key, text)
    return tree


def resolve(tree: Mapping[str, Any]) -> Config:
    """Checks a nested dictionary of settings and fills in every default; raises ConfigError."""
    try:
        values = plain(tree)
        json_text.refuse_deep(values)  # it could be saved, and not read
    except (RecursionError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError("configuration", ConfigError.ABSENT, "is nested too deeply") from error
    return rules.check(optimizers.resolve(_with_own_names(schema.record(Config)(values, ""))))


def resolve_saved(tree: Mapping[str, Any]) -> Config:
    """As `resolve`, of a configuration that a run has kept, perhaps under earlier names."""
    return resolve(earlier_names.replaced(tree))


def to_json(config: Config) -> str:
    """A resolved configuration as JSON, with the format of what its run keeps."""
    return json.dumps({"format": _FORMAT, **schema.as_dict(config)}, indent=2) + "\n"


def save(config: Config, path: pathlib.Path) -> None:
    """Writes a resolved configuration as JSON."""
    atomic_files.write_whole(path, to_json(config))


def load_saved(path: pathlib.Path, overrides: Sequence[tuple[str, str]] = ()) -> Config:
    """Reads a configuration that `save` wrote, to compare it with another; `load_trusted` reads one to carry it out.

    Raises:
      ConfigError: it cannot be read, or is of another format.
    """
    try:
        tree = json_text.parse(path.read_bytes(), finite=False)  # a setting may be infinite
    except (OSError, ValueError) as error:
        raise ConfigError(
            "--workdir", str(path.parent), f"holds no readable run ({path.name}: {first_line(error)})"
        ) from error
    if reason := _other_format(tree):
        raise ConfigError("--workdir", str(path.parent), reason)
    tree = earlier_names.replaced(tree)
    try:
        config = resolve(tree)
    except ConfigError as error:
        raise ConfigError("--workdir", str(path.parent), f"its {path.name} cannot be used: {error}") from error
    if not overrides:
        return config
    for key, text in overrides:
        _override(tree, key, text)
    return resolve(tree)


def load_trusted(path: pathlib.Path, overrides: Sequence[tuple[str, str]], trust: Trust) -> Config:
    """Reads a configuration that `save` wrote, of a run that anybody may have made, so that it may be carried out.

    Nothing that it names is imported yet (`Trust.check_definitions`).

    Raises:
      ConfigError: as `load_saved`; or it names code that is not trusted or never called.
    """
    config = load_saved(path, overrides)
    trust.check(schema.as_dict(config), str(path.parent))
    return config


def naming(trust: Trust, path: str | None, overrides: Sequence[tuple[str, str]]) -> Trust:
    """The trust with the code that the configuration in a Python file names; as it is where `path` is None."""
    return trust if path is None else trust.naming(schema.as_dict(load(path, overrides)))


def _other_format(tree: Any) -> str | None:
    """Takes the format out of what `save` wrote; returns what is wrong with it, None for this version's own."""
    given = tree.pop("format", 1) if isinstance(tree, dict) else _FORMAT
    if given == _FORMAT:
        return None
    reason = _EARLIER.get(given) if isinstance(given, int) else None
    shown = text_of(given)[:40]
    return f"holds a run of format {shown}, {reason or 'made by another version than this one'}; start a new run"


def _with_own_names(config: Config) -> Config:
    """Every loss that compares a head with a target, and metrics without one, by their own name where none is said."""

    def named(entries: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: dataclasses.replace(each, head=each.head or name, target=each.target or name)
            for name, each in entries.items()
        }

    pairs = {name: loss for name, loss in config.losses.items() if loss.reads is None and loss.from_ is None}
    return dataclasses.replace(config, losses=config.losses | named(pairs), metrics=named(config.metrics))


def run_file(path: str) -> ml_collections.ConfigDict:
    """Returns what `get_config()` of a Python file gives; raises ConfigError where it cannot be used."""
    file = pathlib.Path(path)
    try:
        exists = file.is_file()
    except OSError:  # a name that no file can have
        exists = False
    if not exists:
        raise ConfigError("--config", path, "must be an existing Python file, for example configs/digits.py")
    module = types.ModuleType("experiment_configuration")
    module.__file__ = path
    try:
        # Not imported: that would leave a __pycache__ beside the file, and read a stale one after a quick edit.
        with import_paths.users_code():
            exec(compile(file.read_bytes(), path, "exec"), vars(module))
    except import_paths.USER_ERRORS as error:
        raise ConfigError("--config", path, f"does not run: {_describe(error, path)}") from error
    if not callable(getattr(module, "get_config", None)):
        raise ConfigError("--config", path, "must define get_config() returning an ml_collections.ConfigDict")
    try:
        with import_paths.users_code():
            config = module.get_config()
    except import_paths.USER_ERRORS as error:
        raise ConfigError("--config", path, f"get_config() raised {_describe(error, path)}") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise ConfigError(
            "--config", path, f"get_config() must return an ml_collections.ConfigDict, not {type(config).__name__}"
        )
    return config


def _read(config: ml_collections.ConfigDict, path: str) -> dict[str, Any]:
    try:
        return plain(config)
    except (ml_collections.config_dict.RequiredValueError, RecursionError) as error:
        raise ConfigError(
            "--config", path, f"get_config() gives an incomplete configuration: {first_line(error)}"
        ) from error


def _describe(error: BaseException, path: str) -> str:
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} (line {error.lineno})"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f"{type(error).__name__}: {first_line(error)}" + (f" (line {lines[-1]})" if lines else "")


def plain(value: Any, convert: Callable[[Any, str], Any] | None = None, field: str = "") -> Any:
    """`value` as plain dictionaries, lists, strings, numbers, booleans and None, which is what a run can save.

    Args:
      value: nested dictionaries (or ConfigDicts), lists and values.
      convert: gets anything else and its dotted field, and returns a plain value; None: it is refused.
      field: the dotted field of `value`.

    Raises:
      ConfigError: something in it is not plain.
    """
    if isinstance(value, ml_collections.ConfigDict):
        # A ConfigDict iterates alphabetically; losses and heads keep the order in which they were written.
        value = {key: value[key] for key in getattr(value, "_fields", value)}
    if isinstance(value, Mapping):
        entries = ((_text(key), entry) for key, entry in value.items())
        return {key: plain(entry, convert, schema.join(field, text_of(key))) for key, entry in entries}
    if isinstance(value, list | tuple):
        return [plain(entry, convert, f"{field}.{index}") for index, entry in enumerate(value)]
    if isinstance(value, int) and value.bit_length() > _BITS:
        raise ConfigError(field, ConfigError.ABSENT, f"must be a number of at most {_BITS} bits")
    if value is None or isinstance(value, bool | int | float | str):
        return _text(value)
    if convert is not None:
        return convert(value, field)
    raise ConfigError(
        field,
        value,
        "must be plain: a dictionary, list, string, number, boolean or None (name a function by import path)",
    )


def _text(value: Any) -> Any:
    """`value`, a string without whatever a class of the user's own has added to it."""
    return str.__str__(value) if isinstance(value, str) else value


def _override(tree: dict[str, Any], key: str, text: str) -> None:
    set_value(tree, key, parse_value(text), f"--config.{key}", text)


def set_value(tree: dict[str, Any], key: str, value: Any, field: str, given: Any) -> None:
    """Sets the value at the dotted `key` of a nested dictionary; missing levels are made, the check comes later.

    Raises:
      ConfigError: naming `field` and what was `given` there: a part of the key leads nowhere.
    """
    node, holder, at = tree, {}, ""
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if node is None:
            node = holder[at] = {}
        elif isinstance(node, str):  # "adam" stands for {"name": "adam"}
            node = holder[at] = {"path" if at == initial_values.FIELD else "name": node}
        if isinstance(node, dict):
            holder, at, node = node, part, node.get(part)
        elif isinstance(node, list) and part.isdecimal() and int(part) < len(node):
            holder, at, node = node, int(part), node[int(part)]
        elif isinstance(node, list):
            raise ConfigError(field, given, f"{part!r} is not a position in a list of {len(node)}")
        else:
            raise ConfigError(field, given, f"{'.'.join(parts[:depth])} is a value, it has no {part!r}")
    holder[at] = value


def parse_value(text: str) -> Any:
    """Returns the value that a text on the command line means: of Python where it is one, else the text itself."""
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return plain(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
