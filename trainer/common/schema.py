"""Checks that turn a plain value into a resolved one, or say in one line what is wrong with it.

A check is `check(value, field) -> value`; `record`, `mapping` and `sequence` build larger checks from smaller ones.
A frozen dataclass whose fields are `setting(check, default)` describes a record.
"""

import dataclasses
import math
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from trainer.common.errors import ConfigError, text_of, unknown

Check = Callable[[Any, str], Any]
REQUIRED = object()
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def setting(check: Check, default: Any = REQUIRED, meaning: str = "", search: Any = None) -> Any:
    """A dataclass field with its check, its default and, for tables, what it means.

    Args:
      check: the check.
      default: its value where it is not given; `REQUIRED`: it must be given.
      meaning: a sentence, for tables.
      search: the values among which tuning looks for the best one; None: it is not tuned.
    """
    return dataclasses.field(metadata={"check": check, "default": default, "meaning": meaning, "search": search})


def integer(minimum: int) -> Check:
    """A whole number of at least `minimum` (and below 2^63)."""

    def check(value: Any, field: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value < 2**63:
            raise ConfigError(field, value, f"must be a whole number of at least {minimum}")
        return value

    return check


def real(value: Any, field: str) -> float:
    """A finite number."""
    valid = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    if not valid or (isinstance(value, int) and abs(value) > sys.float_info.max):
        raise ConfigError(field, value, "must be a finite number")
    return float(value)


def number(*, positive: bool = False) -> Check:
    """A finite number, at least 0 (above 0 where `positive`)."""

    def check(value: Any, field: str) -> float:
        allowed = f"must be a finite number {'above' if positive else 'of at least'} 0"
        try:
            result = real(value, field)
        except ConfigError as error:
            raise ConfigError(field, value, allowed) from error
        if result < 0 or (positive and result == 0):
            raise ConfigError(field, value, allowed)
        return result

    return check


def between(low: float, high: float) -> Check:
    """A number of at least `low` and at most `high`."""

    def check(value: Any, field: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ConfigError(field, value, f"must be a number of at least {low} and at most {high}")
        return float(value)

    return check


def one_or_each(check: Check) -> Check:
    """A value that `check` accepts, or a list of such."""
    return lambda value, field: (
        sequence(check)(value, field) if isinstance(value, list | tuple) else check(value, field)
    )


def proportions(value: Any, field: str) -> list[float]:
    """A list of numbers of at least 0, not all of them 0."""
    if not isinstance(value, list | tuple):
        raise ConfigError(field, value, "must be a list of numbers, one for each loss")
    numbers = sequence(number())(value, field)
    if not any(numbers):
        raise ConfigError(field, value, "must hold at least one number above 0")
    return numbers


def interval(value: Any, field: str) -> tuple[int, int]:
    """`[start, stop]`: two whole numbers, 0 <= start < stop, as a slice has them."""
    whole = isinstance(value, list | tuple) and all(isinstance(end, int) and not isinstance(end, bool) for end in value)
    if not whole or len(value) != 2 or not 0 <= value[0] < value[1]:
        raise ConfigError(field, value, "must be [start, stop], two whole numbers with 0 <= start < stop")
    return value[0], value[1]


def fraction(value: Any, field: str) -> float:
    """A number of at least 0 and below 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ConfigError(field, value, "must be a number of at least 0 and below 1")
    return float(value)


def optional(check: Check) -> Check:
    """None, or what `check` accepts."""
    return lambda value, field: None if value is None else check(value, field)


def number_or_call(number_: Check, key: str) -> Check:
    """A value that `number_` accepts, or a dictionary of something built by name, as for `call`."""

    def check(value: Any, field: str) -> Any:
        if isinstance(value, dict):
            return call(key)(value, field)
        try:
            return number_(value, field)
        except ConfigError as error:
            raise ConfigError(field, value, f"{error.allowed}, or a dictionary with {key!r} and arguments") from error

    return check


class _Unaccepted:
    """A value that no check accepts. It has the same text in every process, to which a check may find near names."""

    def __str__(self) -> str:
        return ""


def accepted(check: Check) -> str:
    """The words in which a check says what it accepts, besides None; raises ValueError for one that accepts all."""
    try:
        check(_Unaccepted(), "")
    except ConfigError as error:
        return error.allowed.rpartition("allowed: ")[2].removeprefix("must be ")
    raise ValueError("a check that accepts anything")


def boolean(value: Any, field: str) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise ConfigError(field, value, "must be True or False")
    return value


def string(value: Any, field: str) -> str:
    """Text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(field, value, "must be a name (a string that is not empty)")
    return value


def scalar(value: Any, field: str) -> float | int | str | bool:
    """A single number, text, True or False."""
    if not isinstance(value, float | int | str | bool):
        raise ConfigError(field, value, "must be a number or text")
    return value


def choice(kind: str, names: Sequence[str]) -> Check:
    """One of `names`."""

    def check(value: Any, field: str) -> str:
        if value not in names:
            raise unknown(field, value, kind, names)
        return value

    return check


def key_of(name: str) -> str:
    """The key of a dataclass's field: its name, without the `_` at the end of one that is a word of Python's."""
    return name.removesuffix("_")


def as_dict(record: Any) -> dict[str, Any]:
    """A dataclass as nested dictionaries by keys, which its `record` check takes."""
    return dataclasses.asdict(record, dict_factory=lambda entries: {key_of(name): value for name, value in entries})


def record(kind: type) -> Check:
    """A dictionary with the settings of the dataclass `kind` and no others, turned into a `kind`."""
    settings = {key_of(field.name): field.metadata for field in dataclasses.fields(kind)}
    names = {key_of(field.name): field.name for field in dataclasses.fields(kind)}

    def check(value: Any, field: str) -> Any:
        _expect(dict, value, field, "must be a dictionary")
        for key in value:
            if key not in settings:
                raise unknown(join(field, text_of(key)), value[key], "key", settings, name=text_of(key))
        resolved = {}
        for key, setting_ in settings.items():
            given = value.get(key, setting_["default"])
            if given is REQUIRED:
                raise ConfigError(join(field, key), ConfigError.ABSENT, "is missing and must be given")
            resolved[names[key]] = setting_["check"](given, join(field, key))
        return kind(**resolved)

    return check


def mapping(item: Check, kind: str, *, reserved: Sequence[str] = (), empty: bool = False) -> Check:
    """A dictionary of named items, at least one unless `empty`; none of them named as one of `reserved`."""

    def check(value: Any, field: str) -> dict[str, Any]:
        _expect(dict, value, field, f"must be a dictionary from {kind} names to their settings")
        if not value and not empty:
            raise ConfigError(field, value, f"must name at least one {kind}")
        for key in value:
            if not isinstance(key, str) or not NAME.fullmatch(key):
                raise ConfigError(
                    field, key, f"a {kind}'s name is letters, digits, '_' and '-', starting with a letter"
                )
            if key in reserved:
                raise ConfigError(
                    join(field, key),
                    ConfigError.ABSENT,
                    f"a {kind} cannot have this name, which is kept for reports",
                )
        return {key: item(entry, join(field, key)) for key, entry in value.items()}

    return check


def sequence(item: Check) -> Check:
    """A list of items; a single item that is not a list stands for a list of one."""

    def check(value: Any, field: str) -> list[Any]:
        entries = value if isinstance(value, list | tuple) else [value]
        return [item(entry, f"{field}.{index}") for index, entry in enumerate(entries)]

    return check


def keyword_arguments(value: Any, field: str) -> dict[str, Any]:
    """A dictionary of keyword arguments for a function."""
    _expect(dict, value, field, "must be a dictionary of arguments")
    for key, argument in value.items():
        if not isinstance(key, str) or not key.isidentifier():
            raise ConfigError(field, key, "an argument's name must be an identifier")
        _check_keys(argument, join(field, key))
    return value


def call(key: str, *, or_arguments: bool = False) -> Check:
    """Something built by name: a name, or a dictionary with the name under `key` and its arguments beside it.

    With `or_arguments` the name may be missing; the caller has to know it.
    """
    allowed = f"must be a name, or a dictionary with {key!r} and arguments" + (", or arguments alone" * or_arguments)

    def check(value: Any, field: str) -> dict[str, Any]:
        if isinstance(value, str):
            value = {key: value}
        _expect(dict, value, field, allowed)
        if key in value:
            string(value[key], join(field, key))
        elif not or_arguments:
            raise ConfigError(join(field, key), ConfigError.ABSENT, "is missing and must be given")
        return keyword_arguments(value, field)

    return check


def squashed(name: str) -> str:
    """Returns one spelling for all of a Keras name's: `CosineDecay`, `cosine_decay` → `cosinedecay`."""
    return name.replace("_", "").lower()


def join(field: str, key: str) -> str:
    """The dotted name of `key` within `field`; a key that is blank or cannot be printed is quoted."""
    shown = key if key.isprintable() and key == key.strip() != "" else repr(key)
    return f"{field}.{shown}" if field else shown


def _check_keys(value: Any, field: str) -> None:
    """Raises ConfigError for a key that would come back as another one from the JSON in which a run is saved."""
    for key, entry in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if isinstance(value, dict) and not isinstance(key, str):
            raise ConfigError(field, key, "must have strings as keys, which is what a run can save")
        _check_keys(entry, join(field, text_of(key)))


def _expect(kind: type, value: Any, field: str, allowed: str) -> None:
    if not isinstance(value, kind):
        raise ConfigError(field or "configuration", value, allowed)
