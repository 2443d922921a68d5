"""What a run's own validation reports decide: which checkpoint is the best, and whether to stop early."""

import math
from collections.abc import Iterable, Sequence

from trainer.config.settings import EarlyStoppingConfig, MonitorConfig
from trainer.output.reports import VALIDATION, Report


def best_step(history: Iterable[Report], monitor: MonitorConfig) -> int | None:
    """The step of the best validation report by `monitor`, the first of equals; None while there is none."""
    best = None
    for step, value in _values(history, monitor):
        if best is None or _better(value, best[1], monitor.mode):
            best = (step, value)
    return None if best is None else best[0]


def is_exhausted(history: Sequence[Report], early: EarlyStoppingConfig) -> bool:
    """Whether the last `patience` evaluations brought no improvement of more than `min_delta`."""
    best, waited = None, 0
    evaluations = [report for report in history if report.split == VALIDATION]
    known = dict(_values(evaluations, early))
    for report in evaluations:
        value = known.get(report.step)
        if value is not None and (best is None or _better(value, best, early.mode, early.min_delta)):
            best, waited = value, 0
        else:
            waited += 1
    return waited >= early.patience


def _values(history: Iterable[Report], monitor: MonitorConfig) -> Iterable[tuple[int, float]]:
    for report in history:
        value = report.values.get(monitor.metric) if report.split == VALIDATION else None
        if value is not None and math.isfinite(value):
            yield report.step, value


def _better(value: float, best: float, mode: str, min_delta: float = 0.0) -> bool:
    return value > best + min_delta if mode == "max" else value < best - min_delta
