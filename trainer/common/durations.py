"""Durations in steps, epochs or examples: `500`, `"20 epochs"`, `"50000 examples"`."""

import math
import re

from trainer.common.errors import ConfigError

ALLOWED = "a duration of at least 1 step: 500, '20 epochs' or '50000 examples'"
_PATTERN = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(step|epoch|example)?s?\s*")


def check(value: object, field: str) -> int | str:
    """Returns `value` where it is a positive duration; raises ConfigError naming `field` where it is not."""
    match = _PATTERN.fullmatch(str(value)) if isinstance(value, int | str) and not isinstance(value, bool) else None
    if not match or float(match[1]) <= 0 or (match[2] != "epoch" and float(match[1]) % 1):
        raise ConfigError(field, value, f"must be {ALLOWED}")
    return int(value) if isinstance(value, str) and value.strip().isdigit() else value


def to_steps(value: int | str, *, batch_size: int, examples: int) -> int:
    """The number of steps, rounded up.

    Args:
      value: a duration that `check` accepted.
      batch_size: examples per step (the global batch).
      examples: examples per epoch (the training split).
    """
    count, unit = _PATTERN.fullmatch(str(value)).groups()
    if unit == "epoch":
        return max(1, math.ceil(float(count) * examples / batch_size))
    if unit == "example":
        return math.ceil(int(float(count)) / batch_size)
    return int(float(count))
