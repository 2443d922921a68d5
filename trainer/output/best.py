"""The best validation report of a run, by what its configuration watches. Needs no TensorFlow."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from trainer.config import directions, monitors
from trainer.config.monitors import MonitorConfig
from trainer.output.reports import TRAIN, VALIDATION, Report


@dataclasses.dataclass(frozen=True)
class Best:
    """The best validation report so far, the first of equals.

    Attributes:
      config: what is watched; `mode` is "min" or "max".
      step: of that report; None while there is none.
      value: its value of the metric.
    """

    config: MonitorConfig
    step: int | None = None
    value: float | None = None

    def after(self, report: Report) -> "Best":
        """The state after a further validation report."""
        value = watched_value(report, self.config)
        if value is None or not is_better(value, self.value, self.config.mode):
            return self
        return dataclasses.replace(self, step=report.step, value=value)


def step_of(config: Mapping[str, Any], reports: Iterable[Report]) -> int | None:
    """Returns the step of the best validation report by `best` of a run's configuration; None where it has none.

    Args:
      config: the resolved configuration, as nested dictionaries.
      reports: the reports of the run, in their order.
    """
    if config["best"] is None:
        return None
    monitor = MonitorConfig(**config["best"])
    if monitor.mode == "auto":
        known = {monitors.TOTAL_LOSS: directions.DOWN} | directions.of(config)
        direction = directions.of_value(monitor.metric, known)
        if direction is None:
            return None
        monitor = dataclasses.replace(monitor, mode="max" if direction == directions.UP else "min")
    best = Best(monitor)
    for report in evaluations(reports):
        best = best.after(report)
    return best.step


def joined(validation: Report, others: Iterable[Report]) -> Report:
    """A validation report with the values of other splits at the same step, as `<split>/<name>`, for monitors."""
    values = dict(validation.values)
    for other in others:
        values |= {f"{other.split}/{name}": value for name, value in other.values.items()}
    return dataclasses.replace(validation, values=values)


def evaluations(reports: Iterable[Report]) -> Iterator[Report]:
    """The validation reports among all reports, each `joined` with those of other splits before it."""
    others: list[Report] = []
    for report in reports:
        if report.split == VALIDATION:
            yield joined(report, (other for other in others if other.step == report.step))
        others = [*others, report] if report.split not in (TRAIN, VALIDATION) else []


def watched_value(report: Report, config: MonitorConfig) -> float | None:
    """The report's value of the metric; None where it has none that is finite."""
    value = report.values.get(monitors.reported_name(config.metric))
    return value if value is not None and math.isfinite(value) else None


def is_better(value: float, than: float | None, mode: str, min_delta: float = 0.0) -> bool:
    """True where a value is better than the best one before it by more than `min_delta`, or the first one."""
    if than is None:
        return True
    return value > than + min_delta if mode == "max" else value < than - min_delta
