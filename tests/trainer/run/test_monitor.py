"""The best evaluation, and the end of patience."""

import pytest

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
    assert monitor.best_step(_history(values), MonitorConfig("m", mode)) == best


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
    assert monitor.is_exhausted(_history(values), early) is exhausted
