"""Bounds on measured numbers, and repeated measurement of those that do not hold."""

import dataclasses
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence

ATTEMPTS = 3  # machines are noisy
_HOLDS = {"≤": operator.le, "≥": operator.ge, "=": operator.eq}


class NotInstalledError(Exception):
    """An optional package that a number needs is not there, in one line."""


@dataclasses.dataclass(frozen=True)
class Bound:
    """One line of the table.

    Attributes:
      name: for `--only`.
      what: what is measured, in words.
      needs: keys of the numbers it is computed from.
      value: computes it.
      sense: "≤", "≥" or "=".
      limit: what it is held against; None: nothing, the value is only shown.
      unit: of the value.
    """

    name: str
    what: str
    needs: tuple[str, ...]
    value: Callable[[Mapping[str, float]], float]
    sense: str = "≤"
    limit: float | None = None
    unit: str = ""

    def holds(self, value: float) -> bool:
        """True where a value is within the bound."""
        return self.limit is None or _HOLDS[self.sense](value, self.limit)


@dataclasses.dataclass(frozen=True)
class Section:
    """Bounds whose numbers are measured together.

    Attributes:
      name: for `--only`.
      bounds: the bounds.
      measure: takes keys of numbers, returns them. A number that cannot be had is an exception instead, a
        NotInstalledError where an optional package is missing.
      unit: of the numbers.
    """

    name: str
    bounds: tuple[Bound, ...]
    measure: Callable[[Sequence[str]], Mapping[str, float | Exception]]
    unit: str = "ms"


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a bound.

    Attributes:
      bound: the bound.
      numbers: those it was computed from.
      value: the value; None where a number could not be had.
      reason: why not.
      holds: whether it holds; None where it was not measured because an optional package is missing.
      attempts: how often it was measured.
      unit: of the numbers.
    """

    bound: Bound
    numbers: Mapping[str, float]
    value: float | None
    reason: str
    holds: bool | None
    attempts: int
    unit: str


def evaluate(
    section: Section, bounds: Sequence[Bound], say: Callable[[Result], None], attempts: int = ATTEMPTS
) -> list[Result]:
    """Measures what the bounds need, and again where one does not hold.

    Args:
      section: what the bounds belong to.
      bounds: those that are wanted.
      say: called with every result, also with those that are measured again.
      attempts: how often at most.

    Returns:
      The last result of every bound, in the order of `bounds`.
    """
    results: dict[str, Result] = {}
    pending = list(bounds)
    for attempt in range(1, attempts + 1):
        numbers = section.measure(_ordered(bound.needs for bound in pending))
        for bound in pending:
            results[bound.name] = _result(bound, numbers, attempt, section.unit)
            say(results[bound.name])
        # What failed with an error fails again.
        pending = [b for b in pending if results[b.name].holds is False and results[b.name].value is not None]
        if not pending:
            break
    return [results[bound.name] for bound in bounds]


def _result(bound: Bound, numbers: Mapping[str, float | Exception], attempt: int, unit: str) -> Result:
    failures = [numbers[key] for key in bound.needs if isinstance(numbers[key], Exception)]
    own = {key: numbers[key] for key in bound.needs if not isinstance(numbers[key], Exception)}
    if failures:
        missing = isinstance(failures[0], NotInstalledError)
        return Result(bound, own, None, str(failures[0]), None if missing else False, attempt, unit)
    value = bound.value(own)
    return Result(bound, own, value, "", bound.holds(value), attempt, unit)


def _ordered(needs: Iterable[Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(key for keys in needs for key in keys))


def difference(first: str, second: str) -> Callable[[Mapping[str, float]], float]:
    """Returns a function of measured numbers: those of the first contender less those of the second."""
    return lambda numbers: numbers[first] - numbers[second]
