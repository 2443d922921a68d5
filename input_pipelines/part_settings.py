"""The settings of how the examples of a training split are parted. Needs no TensorFlow."""

import dataclasses
from typing import Any

from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.common.schema import setting

TRAIN, VALIDATION = "train", "validation"


def _share(value: Any, field: str) -> float | dict[str, float]:
    """A share, or one for each of several splits."""
    if isinstance(value, dict):
        return schema.mapping(schema.fraction, "split")(value, field)
    try:
        return schema.fraction(value, field)
    except ConfigError as error:
        raise ConfigError(field, value, f"{error.allowed}, or a dictionary from splits to such shares") from error


@dataclasses.dataclass(frozen=True)
class HeldOutConfig:
    """The training examples of other splits instead; one of `by`, `last_by` and `stratify` at most."""

    share: float | dict[str, float] = setting(
        _share,
        schema.REQUIRED,
        "The share to validate on; or of each split its share: `{'validation': 0.2, 'test': 0.1}`.",
    )
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
        "The target whose values all splits have in the same shares. None: as drawn.",
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


def shares(held_out: float | HeldOutConfig) -> dict[str, float]:
    """Returns split → its share of the training examples, of those that `held_out` makes."""
    share = held_out.share if isinstance(held_out, HeldOutConfig) else held_out
    return share if isinstance(share, dict) else {VALIDATION: share}


def made(held_out: float | HeldOutConfig | None, fold: FoldConfig | None) -> tuple[str, ...]:
    """Returns the splits that `held_out` or `fold` make of the training split."""
    if held_out is not None:
        return tuple(shares(held_out))
    return (VALIDATION,) if fold is not None else ()


def check(held_out: float | HeldOutConfig | None, fold: FoldConfig | None, field: str) -> None:
    """Raises ConfigError where these settings of a source, whose key is `field`, do not go together."""
    for key, chosen in (("held_out", held_out), ("fold", fold)):
        ways = [way for way in ("by", "last_by", "stratify") if getattr(chosen, way, None) is not None]
        if len(ways) > 1:
            raise ConfigError(f"{field}.{key}.{ways[1]}", getattr(chosen, ways[1]), f"cannot be beside {ways[0]!r}")
    if held_out is not None and fold is not None:
        raise ConfigError(f"{field}.fold", ConfigError.ABSENT, f"cannot be beside {field}.held_out")
    if held_out is not None:
        found, at = shares(held_out), f"{field}.held_out.share"
        if TRAIN in found:
            raise ConfigError(f"{at}.{TRAIN}", found[TRAIN], "is what the others leave; name those")
        if sum(found.values()) >= 1:
            raise ConfigError(at, found, f"leaves no example to the {TRAIN} split")
    if fold is None:
        return
    if fold.number > fold.of:
        raise ConfigError(f"{field}.fold.number", fold.number, f"must be at most {field}.fold.of, {fold.of}")
