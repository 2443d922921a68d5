"""Decisions by a run's own validation reports: which checkpoint is the best, and whether to stop early."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from trainer.common.errors import ConfigError, unknown
from trainer.components.metrics import LossMetric
from trainer.config.settings import EarlyStoppingConfig, MonitorConfig
from trainer.output.reports import VALIDATION, Report


def resolve(
    config: MonitorConfig | None, field: str, metrics: Mapping[str, Mapping[str, LossMetric]]
) -> MonitorConfig | None:
    """`config` with "min" or "max" for "auto"; raises ConfigError where no evaluation gives such a metric.

    Args:
      config: what is watched; None: nothing.
      field: its key in the configuration, for errors.
      metrics: loss name → metric name → metric; of every loss.
    """
    if config is None:
        return None
    directions: dict[str, str | None] = {f"loss/{loss}": "down" for loss in metrics}
    for loss, own in metrics.items():
        # What Keras' own callbacks go by where their mode is "auto".
        directions |= {f"{loss}/{name}": getattr(metric.metric, "_direction", None) for name, metric in own.items()}
    if config.metric not in directions:
        raise unknown(f"{field}.metric", config.metric, "validation metric", directions)
    if config.mode != "auto":
        return config
    if directions[config.metric] is None:
        raise ConfigError(f"{field}.mode", "auto", f"must be 'min' or 'max': {config.metric!r} does not say")
    return dataclasses.replace(config, mode="max" if directions[config.metric] == "up" else "min")


def best_step(history: Iterable[Report], monitor: MonitorConfig) -> int | None:
    """The step of the best validation report by `monitor`, the first of equals; None while there is none."""
    best = None
    for step, value in _values(history, monitor):
        if best is None or _better(value, best[1], monitor.mode):
            best = (step, value)
    return None if best is None else best[0]


def is_exhausted(history: Sequence[Report], early: EarlyStoppingConfig) -> bool:
    """True where the last `patience` evaluations brought no improvement of more than `min_delta`."""
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
