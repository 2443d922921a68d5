"""The settings of how the examples of a training split are parted. Needs no TensorFlow."""

import dataclasses
from typing import Any

from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.common.schema import setting


@dataclasses.dataclass(frozen=True)
class HeldOutConfig:
    """The training examples to validate on instead; one of `by`, `last_by` and `stratify` at most."""

    share: float = setting(schema.fraction, schema.REQUIRED, "Their share.")
    by: str | None = setting(
        schema.optional(schema.string),
        None,
        "The feature whose examples of one value stay together (`patient`). None: of any.",
    )
    last_by: str | None = setting(
        schema.optional(schema.string),
        None,
        "The feature by whose order the last examples are held out: numbers, or dates as 2024-12-31. None: at random.",
    )
    stratify: str | None = setting(
        schema.optional(schema.string),
        None,
        "The target whose values both splits have in the same shares. None: as drawn.",
    )


@dataclasses.dataclass(frozen=True)
class FoldConfig:
    """One of several folds of the training examples to validate on; the others are to train on."""

    of: int = setting(schema.integer(2), schema.REQUIRED, "How many folds; every example is in one of them.")
    number: int = setting(schema.integer(1), schema.REQUIRED, "Which of them, counted from 1.")
    by: str | None = setting(
        schema.optional(schema.string),
        None,
        "The feature whose examples of one value stay together (`patient`). None: of any.",
    )
    stratify: str | None = setting(
        schema.optional(schema.string),
        None,
        "The target whose values all folds have in the same shares. None: as drawn.",
    )


def held_out(value: Any, field: str) -> float | HeldOutConfig:
    """A share, or a dictionary with a share and how it is chosen."""
    if isinstance(value, dict):
        return schema.record(HeldOutConfig)(value, field)
    try:
        return schema.fraction(value, field)
    except ConfigError as error:
        raise ConfigError(field, value, f"{error.allowed}, or a dictionary with 'share'") from error


def check(held_out: float | HeldOutConfig | None, fold: FoldConfig | None, field: str) -> None:
    """Raises ConfigError where these settings of a source, whose key is `field`, do not go together."""
    for key, chosen in (("held_out", held_out), ("fold", fold)):
        ways = [way for way in ("by", "last_by", "stratify") if getattr(chosen, way, None) is not None]
        if len(ways) > 1:
            raise ConfigError(f"{field}.{key}.{ways[1]}", getattr(chosen, ways[1]), f"cannot be beside {ways[0]!r}")
    if fold is None:
        return
    if held_out is not None:
        raise ConfigError(f"{field}.fold", ConfigError.ABSENT, f"cannot be beside {field}.held_out")
    if fold.number > fold.of:
        raise ConfigError(f"{field}.fold.number", fold.number, f"must be at most {field}.fold.of, {fold.of}")
