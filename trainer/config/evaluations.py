"""The settings of evaluations: when splits beside `validation` are evaluated, and by whose values in segments."""

import dataclasses
from typing import Any

from trainer.common import durations, schema
from trainer.common.errors import ConfigError
from trainer.common.schema import setting

AT_END, AT_EVERY_EVALUATION = "at_end", "at_every_evaluation"
MOST_SEGMENTS = 100


def when(value: Any, field: str) -> int | str:
    """`at_end`, `at_every_evaluation` or a duration."""
    if value in (AT_END, AT_EVERY_EVALUATION):
        return value
    try:
        return durations.check(value, field)
    except ConfigError as error:
        reason = f"must be {AT_END!r}, {AT_EVERY_EVALUATION!r} or {durations.ALLOWED}"
        raise ConfigError(field, value, reason) from error


@dataclasses.dataclass(frozen=True)
class SegmentsConfig:
    """Groups of examples for which evaluations also report each loss and metric by itself, and the worst of them."""

    by: str = setting(
        schema.string,
        meaning="A target, an input or, of a source, any other feature, which says to which segment an example "
        f"belongs: a whole number, or True or False, for each. There may be {MOST_SEGMENTS} different ones.",
    )
