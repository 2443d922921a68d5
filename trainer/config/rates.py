"""Settings of learning rates besides those of optimizers: factors of single variables, and reduction on a plateau."""

import dataclasses
from typing import Any

from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.common.schema import setting
from trainer.config.monitors import MonitorConfig

_POSITIVE = schema.number(positive=True)


def _reducing(value: Any, field: str) -> float:
    """A number above 0 and below 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ConfigError(field, value, "must be a number above 0 and below 1")
    return float(value)


@dataclasses.dataclass(frozen=True)
class ReduceOnPlateauConfig(MonitorConfig):
    """A validation metric whose lack of improvement reduces all learning rates, as Keras' ReduceLROnPlateau."""

    factor: float = setting(_reducing, 0.1, "What every learning rate is multiplied by, each time.")
    patience: int = setting(
        schema.integer(1), 10, "How many evaluations in a row without an improvement reduce the learning rates."
    )
    min_delta: float = setting(schema.number(), 0.0, "By how much a value must be better to be an improvement.")
    cooldown: int = setting(
        schema.integer(0),
        0,
        "How many evaluations after a reduction do not count towards `patience`; the last one does, as in Keras.",
    )
    minimum: float = setting(
        schema.number(), 0.0, "The least learning rate that an optimizer is reduced to; a schedule may go below it."
    )


def factors(value: Any, field: str) -> dict[str, float]:
    """A dictionary from patterns of variables' names to numbers above 0."""
    if not isinstance(value, dict):
        raise ConfigError(field, value, "must be a dictionary from patterns of variables' names to numbers above 0")
    for pattern in value:
        schema.string(pattern, field)
    return {pattern: _factor(factor, schema.join(field, pattern)) for pattern, factor in value.items()}


def _factor(value: Any, field: str) -> float:
    try:
        return _POSITIVE(value, field)
    except ConfigError as error:
        raise ConfigError(field, value, f"{error.allowed}; freeze keeps variables as they are") from error
