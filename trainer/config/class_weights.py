"""The check of weights of classes, as far as it needs neither data nor model."""

from typing import Any

from trainer.common import schema
from trainer.common.errors import ConfigError

BALANCED = "balanced"
_ALLOWED = (
    "must be a list with a number of at least 0 for each class (or a pair of them for each label), a dictionary "
    "{class: weight}, or 'balanced'"
)


def check(value: Any, field: str) -> Any:
    """A list of weights or of pairs of weights, `{class: weight}` with text as keys, or `balanced`."""
    if value == BALANCED:
        return value
    if isinstance(value, dict) and value:
        return _by_class(value, field)
    if not isinstance(value, list | tuple) or not value:
        raise ConfigError(field, value, _ALLOWED)
    if any(isinstance(entry, list | tuple) for entry in value):
        weights = [_pair(entry, f"{field}.{label}") for label, entry in enumerate(value)]
    else:
        weights = _numbers(value, field)
    if not any(map(any, weights) if isinstance(weights[0], list) else weights):
        raise ConfigError(field, value, "must hold at least one number above 0")
    return weights


def _numbers(values: Any, field: str) -> list[float]:
    return [schema.number()(entry, f"{field}.{index}") for index, entry in enumerate(values)]


def _pair(value: Any, field: str) -> list[float]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ConfigError(field, value, "must be a pair [negative, positive], as for other labels")
    return _numbers(value, field)


def _by_class(value: dict, field: str) -> dict[str, float]:
    weights = {}
    for key, entry in value.items():
        if isinstance(key, bool) or not isinstance(key, int | str) or not str(key).strip():
            raise ConfigError(field, key, "must have numbers or names of classes as keys")
        if str(key) in weights:
            raise ConfigError(schema.join(field, str(key)), entry, "is given twice")
        weights[str(key)] = schema.number()(entry, schema.join(field, str(key)))
    return weights
