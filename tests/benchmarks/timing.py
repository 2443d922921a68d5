"""Sections of step times, and the contenders that several of them have."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.benchmarks.bounds import Bound, NotInstalledError, Section
from tests.benchmarks.problems import Problem
from tests.benchmarks.rounds import Contender, Workers

FUSED = {"reduction": "fused"}


def ours(problem: Problem, per_call: int, worker: str = "one device", kind: str = "ours", **changes: Any) -> Contender:
    """The trainer, its configuration changed, in calls of `per_call` steps."""
    return Contender(worker, kind, problem, per_call, {"per_call": per_call, **changes})


def timed(
    workers: Workers, name: str, contenders: Mapping[str, Contender], *bounds: Bound, only_with: str | None = None
) -> Section:
    """A section of step times by contender; nothing is measured where the worker `only_with` cannot be had."""

    def measure(keys: Sequence[str]) -> Mapping[str, float | Exception]:
        try:
            if only_with is not None:
                workers.get(only_with)
        except NotInstalledError as error:
            return dict.fromkeys(keys, error)
        return workers.step_times(name, {key: contenders[key] for key in keys})

    return Section(name, bounds, measure)


def ratio(numerator: str, denominator: str) -> Callable[[Mapping[str, float]], float]:
    """Returns a function of measured numbers: that of the first contender divided by that of the second."""
    return lambda numbers: numbers[numerator] / numbers[denominator]
