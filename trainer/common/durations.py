"""Durations in steps, epochs or examples (`500`, `"20 epochs"`, `"50000 examples"`), and the steps of a run."""

import dataclasses
import math
import re
import sys
from collections.abc import Iterable

from trainer.common.errors import ConfigError

ENDLESS = sys.maxsize  # the number of examples of data that never end
ALLOWED = "a duration of at least 1 step: 500, '20 epochs' or '50000 examples'"
_PATTERN = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(step|epoch|example)?s?\s*")


def check(value: object, field: str) -> int | str:
    """Returns `value` where it is a positive duration; raises ConfigError naming `field` where it is not."""
    match = _PATTERN.fullmatch(str(value)) if isinstance(value, int | str) and not isinstance(value, bool) else None
    if not match or float(match[1]) <= 0 or (match[2] != "epoch" and float(match[1]) % 1):
        raise ConfigError(field, value, f"must be {ALLOWED}")
    return int(value) if isinstance(value, str) and value.strip().isdigit() else value


def to_steps(value: int | str, *, batch_size: int, examples: int, field: str = "duration") -> int:
    """The number of steps, rounded up.

    Args:
      value: a duration that `check` accepted.
      batch_size: examples per step (the global batch).
      examples: examples per epoch (the training split), or `ENDLESS`.
      field: the configuration's key of the duration, for errors.

    Raises:
      ConfigError: it is in epochs, and there are none.
    """
    count, unit = _PATTERN.fullmatch(str(value)).groups()
    if unit == "epoch" and examples == ENDLESS:
        raise ConfigError(field, value, "the training data never end and have no epochs; give steps or examples")
    if unit == "epoch":
        return max(1, math.ceil(float(count) * examples / batch_size))
    if unit == "example":
        return math.ceil(int(float(count)) / batch_size)
    return int(float(count))


@dataclasses.dataclass(frozen=True)
class Timeline:
    """The steps of a run in terms of examples and epochs, and the steps at which the run stops for something.

    Attributes:
      batch_size: examples per step (the global batch).
      examples: examples per epoch (the training split), or `ENDLESS`, of which all steps are in the first.
      steps: length of the run.
    """

    batch_size: int
    examples: int
    steps: int

    @classmethod
    def of(cls, duration: int | str, *, batch_size: int, examples: int) -> "Timeline":
        """The timeline of a run of this duration, one that `check` accepted."""
        return cls(batch_size, examples, to_steps(duration, batch_size=batch_size, examples=examples, field="steps"))

    def to_steps(self, duration: int | str, field: str = "duration") -> int:
        """The number of steps of a duration that `check` accepted, rounded up; `field` is its key, for errors."""
        return to_steps(duration, batch_size=self.batch_size, examples=self.examples, field=field)

    def first_example(self, step: int) -> int:
        """The position in the endless sequence of epochs of the first example of a step (from 0; a tensor too)."""
        return step * self.batch_size

    def epoch(self, step: int) -> int:
        """The epoch (counted from 0) in which a step (counted from 0; a tensor too) begins."""
        return self.first_example(step) // self.examples

    def is_due(self, interval: int, step: int) -> bool:
        """True once `step` steps are taken for what is done every `interval` steps and at the end of the run."""
        return step % interval == 0 or step == self.steps

    def next_boundary(self, step: int, *, intervals: Iterable[int], boundaries: Iterable[int], at_most: int) -> int:
        """The number of steps taken when the run stops next for something, at most `at_most` steps after `step`.

        Args:
          step: number of steps taken.
          intervals: something is due in every multiple of one of these.
          boundaries: further numbers of steps taken at which it stops.
          at_most: the most steps to take at once.
        """
        due = ((step // interval + 1) * interval for interval in intervals)
        return min(self.steps, step + at_most, *due, *(boundary for boundary in boundaries if boundary > step))
