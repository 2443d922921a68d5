"""Settings of hooks and loggers, which follow a run from outside: import paths, with arguments."""

from typing import Any

from trainer.common import import_paths, schema
from trainer.common.errors import ConfigError

WANDB = "wandb"


def hook(value: Any, field: str) -> dict[str, Any]:
    """A function by import path; or a dictionary of that as `name`, and further arguments."""
    spec = schema.call("name")(value, field)
    if not import_paths.is_path(spec["name"]):
        raise ConfigError(f"{field}.name", spec["name"], "must be an import path, package.module:function")
    return spec


def logger(value: Any, field: str) -> dict[str, Any]:
    """`wandb`, or a class by import path; or a dictionary of that as `name`, and arguments."""
    spec = schema.call("name")(value, field)
    if spec["name"] != WANDB and not import_paths.is_path(spec["name"]):
        allowed = f"must be {WANDB!r} or an import path, package.module:Class"
        raise ConfigError(f"{field}.name", spec["name"], allowed)
    return spec
