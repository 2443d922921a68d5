"""Settings of what a new run takes from trained variables: where they are, which of them, and what stands still."""

import dataclasses
import pathlib
from typing import Any

from trainer.common import schema
from trainer.common.errors import ConfigError, text_of
from trainer.common.schema import setting

FIELD = "init_from"
PATH = f"{FIELD}.path"
FORMS = "must be a run, the folder of a checkpoint, or a file .keras or .weights.h5"
_ALL = "*"
_GIVEN = "must be a path, or a dictionary with 'path' and what is to be taken of it"


def refuse_missing(path: str, base: pathlib.Path) -> None:
    """Raises ConfigError where there is nothing at the path of `init_from`, which may be relative to `base`."""
    try:
        exists = (base / path).exists()
    except (OSError, ValueError):  # a name that no file can have
        exists = False
    if not exists:
        raise ConfigError(PATH, path, f"does not exist; it {FORMS}")


def _patterns(value: Any, field: str) -> list[str]:
    """A list of patterns, at least one; a single one stands for a list of it."""
    found = schema.sequence(schema.string)(value, field)
    if not found:
        raise ConfigError(field, value, "must name at least one pattern of variables' names")
    return found


def _renames(value: Any, field: str) -> dict[str, str]:
    """A dictionary from patterns to names, each with as many `*` as its pattern."""
    if not isinstance(value, dict):
        raise ConfigError(field, value, "must be a dictionary from patterns of names there to names here")
    for old, new in value.items():
        schema.string(old, field)
        schema.string(new, schema.join(field, text_of(old)))
        if old.count(_ALL) != new.count(_ALL):
            reason = f"must have as many '*' as the pattern {old!r}: each stands for what that of the pattern matches"
            raise ConfigError(schema.join(field, old), new, reason)
    return dict(value)


@dataclasses.dataclass(frozen=True)
class InitialValuesConfig:
    """Trained values with which a new run's variables begin; a text alone stands for `path`."""

    path: str = setting(
        schema.string,
        meaning="A run's folder (its best checkpoint where it keeps one, else the last), a checkpoint's folder, or a "
        "file `.keras` or `.weights.h5` of Keras'. Of runs with `ema` the moving averages are taken. It is read when a "
        "run begins, not when it resumes.",
    )
    only: list[str] = setting(
        _patterns, [_ALL], "Patterns of the names of this model's variables that are to be taken, for example `trunk*`."
    )
    rename: dict[str, str] = setting(
        _renames,
        {},
        "Patterns of names there → names here, `{'old/*': 'new/*'}`; the first pattern that matches a name renames it.",
    )
    skip_mismatched: bool = setting(
        schema.boolean,
        False,
        "Leave a variable as it is initialized where the one there has another shape, instead of refusing it.",
    )


_RECORD = schema.record(InitialValuesConfig)


def check(value: Any, field: str) -> InitialValuesConfig:
    """A path, or a dictionary with it."""
    if not isinstance(value, str | dict):
        raise ConfigError(field, value, _GIVEN)
    return _RECORD({"path": value} if isinstance(value, str) else value, field)
