"""The best evaluation, and the end of patience."""

import dataclasses

import pytest

from trainer.common.errors import ConfigError
from trainer.config.settings import EarlyStoppingConfig, MonitorConfig
from trainer.output.reports import TRAIN, VALIDATION, Report
from trainer.run import monitor


def _history(values):
    return [
        report
        for step, value in enumerate(values, start=1)
        for report in (Report(step, TRAIN, {"m": -100.0}), Report(step, VALIDATION, {"m": value}))
    ]


@pytest.mark.parametrize(
    ("values", "mode", "best"),
    [
        ([3.0, 1.0, 2.0], "min", 2),
        ([3.0, 1.0, 4.0], "max", 3),
        ([1.0, 1.0], "min", 1),
        ([None, float("nan"), 5.0], "min", 3),
        ([None], "max", None),
        ([], "min", None),
    ],
)
def test_best_step(values, mode, best):
    assert _after(_history(values), MonitorConfig("m", mode)).best_step == best


@pytest.mark.parametrize(
    ("values", "mode", "patience", "min_delta", "exhausted"),
    [
        ([3.0, 2.0, 1.0], "min", 1, 0.0, False),
        ([3.0, 2.0, 2.0], "min", 1, 0.0, True),
        ([1.0, 2.0, 2.5], "min", 3, 0.0, False),
        ([1.0, 2.0, 2.5, 1.5], "min", 3, 0.0, True),
        ([0.1, 0.2, 0.3], "max", 1, 0.0, False),
        ([0.1, 0.2, 0.3], "max", 2, 0.5, True),
        ([1.0, None, None], "min", 2, 0.0, True),
        ([], "min", 1, 0.0, False),
    ],
)
def test_early_stopping(values, mode, patience, min_delta, exhausted):
    early = EarlyStoppingConfig("m", mode, patience, min_delta)
    assert _after(_history(values), early_stopping=early).is_exhausted is exhausted


def _after(history, best=None, early_stopping=None):
    state = monitor.start(best, early_stopping)
    for report in history:
        state = state.after(report)
    return state


BEST, EARLY = MonitorConfig("m", "min"), EarlyStoppingConfig("m", "min", 2, 0.25)


@pytest.mark.parametrize("reports", [None, [Report(7, VALIDATION, {"m": -9.0})]])
def test_a_state_comes_back(reports):
    """Whatever has become of the reports; more patience needs none of them."""
    whole = _after(_history([3.0, 2.9, 2.8]), BEST, EARLY)
    patient = dataclasses.replace(EARLY, patience=9)
    assert whole.is_exhausted
    assert monitor.resume(monitor.start(BEST, EARLY), whole.saved(), reports) == whole
    resumed = monitor.resume(monitor.start(BEST, patient), whole.saved(), reports)
    assert resumed.early_stopping == monitor.Patience(patient, 3.0, 2)


@pytest.mark.parametrize(
    ("best", "early", "field"),
    [
        (MonitorConfig("m", "max"), None, "best"),
        (MonitorConfig("n", "min"), EARLY, "best"),
        (None, dataclasses.replace(EARLY, min_delta=0.0), "early_stopping"),
    ],
)
def test_another_monitor_needs_the_reports(best, early, field):
    history = [
        dataclasses.replace(report, values=dict(report.values) | {"n": 5.0}) for report in _history([3.0, 2.9, 2.8])
    ]
    saved = _after(history, BEST, EARLY).saved()
    assert monitor.resume(monitor.start(best, early), saved, history) == _after(history, best, early)
    assert monitor.resume(monitor.start(best, early), monitor.start(None, None).saved(), history) == _after(
        history, best, early
    )
    with pytest.raises(ConfigError, match=f"{field}=.*metrics.jsonl are damaged"):
        monitor.resume(monitor.start(best, early), saved, None)
