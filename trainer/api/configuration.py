"""The configuration of a run from Python: a file, a ConfigDict or a dictionary, with objects and changes."""

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_collections

from trainer.api import objects
from trainer.combine import registry
from trainer.common import import_paths
from trainer.common.errors import ConfigError, first_line
from trainer.config import loading
from trainer.config.settings import Config


class Given(NamedTuple):
    """A configuration as it was given.

    Attributes:
      config: the resolved one, in which every value is plain.
      objects: what its import paths `object:<name>` mean, by name.
    """

    config: Config
    objects: dict[str, Callable]


def read(config: Any, combine: Any = None, changes: Mapping[str, Any] | None = None) -> Given:
    """Resolves a configuration.

    Args:
      config: a Python file with `get_config()`, a ConfigDict or a nested dictionary. Its values may be objects.
      combine: replaces `combine.name` where given.
      changes: dotted key → value, which may be an object.

    Raises:
      ConfigError: it cannot be used.
    """
    changes = dict(changes or {}) | ({} if combine is None else {"combine.name": combine})
    if isinstance(combine, str):
        registry.check_name(combine, "combine")
    plain, found = read_tree(config, changes)
    with import_paths.objects(found):
        return Given(loading.resolve(plain), found)


def read_tree(config: Any, changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Callable]]:
    """Reads a configuration as `read` does, without resolving it.

    Returns:
      The configuration as nested dictionaries of plain values, and what the import paths `object:<name>` in it mean.

    Raises:
      ConfigError: it cannot be used.
    """
    tree = _tree(config)
    for key, value in changes.items():
        loading.set_value(tree, key, value, key, value)
    return objects.take_out(tree)


def _tree(config: Any) -> dict[str, Any]:
    if isinstance(config, str | pathlib.Path):
        config = loading.run_file(os.fspath(config))
    if not isinstance(config, Mapping | ml_collections.ConfigDict):
        allowed = "must be the path of a Python file, a ConfigDict or a dictionary"
        raise ConfigError("config", type(config).__name__, allowed)
    try:
        return loading.plain(config, lambda value, field: value)
    except (ml_collections.config_dict.RequiredValueError, RecursionError) as error:
        raise ConfigError("config", ConfigError.ABSENT, f"is incomplete: {first_line(error)}") from error
