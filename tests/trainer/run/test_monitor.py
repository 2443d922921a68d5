"""The best evaluation, and the end of patience."""

import dataclasses
import math

import keras
import numpy as np
import pytest

from tests import problems
from trainer.common.errors import ConfigError
from trainer.config import loading
from trainer.config.monitors import EarlyStoppingConfig, MonitorConfig
from trainer.config.rates import ReduceOnPlateauConfig
from trainer.output.reports import TRAIN, VALIDATION, Report
from trainer.run import monitor, watched


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


# ---------------------------------------------------------------------------------------------------------------------
# Learning rates.
# ---------------------------------------------------------------------------------------------------------------------


class _Model:
    """All that Keras' callback looks at."""

    def __init__(self, rate):
        self.optimizer = keras.optimizers.SGD(rate)


@pytest.mark.parametrize("seed", range(8))
def test_rates_fall_as_with_keras(seed):
    random = np.random.RandomState(seed)
    mode, min_delta = random.choice(["min", "max"]), random.choice([0.0, 0.5])
    patience, cooldown = int(random.randint(1, 4)), int(random.randint(0, 4))
    plateau = ReduceOnPlateauConfig("m", mode, 0.5, patience, min_delta, cooldown, 0.0)
    callback = keras.callbacks.ReduceLROnPlateau("m", 0.5, patience, 0, mode, min_delta, cooldown)
    callback.set_model(model := _Model(1.0))
    callback.on_train_begin()
    state, rates = monitor.start(reduce_on_plateau=plateau), []
    for step, value in enumerate(random.randint(0, 8, size=60) / 4, start=1):
        callback.on_epoch_end(step, {"m": value})
        state = state.after(Report(step, TRAIN, {"m": -100.0})).after(Report(step, VALIDATION, {"m": value}))
        rates.append(0.5**state.reductions)
        assert rates[-1] == float(model.optimizer.learning_rate), step
        assert monitor.resume(monitor.start(reduce_on_plateau=plateau), state.saved(), None) == state
    assert rates[-1] < 0.1


def test_an_evaluation_at_the_end_alone_reduces_nothing():
    """A run that is continued with more steps would not have had it; a value that is missing is no improvement."""
    state = monitor.start(reduce_on_plateau=ReduceOnPlateauConfig("m", "min", 0.5, 2, 0.0, 0, 0.0))
    for step, value in enumerate((3.0, None, 3.0)):
        before, state = state, state.after(Report(step, VALIDATION, {"m": value}))
    assert state.reductions == 1
    assert before.after(Report(3, VALIDATION, {"m": 3.0}), is_due=False) == before


# ---------------------------------------------------------------------------------------------------------------------
# Expressions and the total loss.
# ---------------------------------------------------------------------------------------------------------------------

RATIO = "{a/x} / {loss/b}"


def _reports(*values):
    names = ("loss/a", "loss/b", "a/x")
    return [Report(step, VALIDATION, dict(zip(names, row, strict=True))) for step, row in enumerate(values, start=1)]


def _added(reports, *metrics, weights):
    """The values that these add to the reports."""
    adds = watched.of([MonitorConfig(metric, "min") for metric in metrics], weights)
    return [
        [value for name, value in adds.added(report).values.items() if name not in report.values] for report in reports
    ]


def test_a_total_loss_has_the_weights_of_its_step():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2, 4], [0.5, 3.0, 0.0])  # 0.5 up to step 2
    rows = [(4.0, 8.0, 0.0), (None, 8.0, 0.0), (4.0, 8.0, 0.0), (math.nan, 1.0, 0.0), (None, 8.0, 0.0)]
    weights = {"a": schedule, "b": 0.25}
    assert _added(_reports(*rows), "total_loss", weights=weights) == [[4.0], [None], [14.0], [None], [2.0]]
    assert _added(_reports(*rows), "2 * {total_loss} - {loss/b}", weights=weights)[0] == [0.0]
    assert _added(_reports(rows[0]), "total_loss", weights={"a": 0.0, "b": 0.0}) == [[None]]
    assert _added(_reports(rows[0]), "loss/a", weights=weights) == [[]]


def test_an_expression_is_missing_where_it_says_nothing():
    """It reads a value that is missing or not finite, it divides by 0, or it overflows."""
    rows = [(1.0, 2.0, 3.0), (1.0, None, 3.0), (1.0, 2.0, math.inf), (1.0, 0.0, 3.0), (1.0, 1e-300, 1e300)]
    reports = _reports(*rows)
    assert _added(reports, RATIO, weights={}) == [[1.5], [None], [None], [None], [None]]
    adds = watched.of([MonitorConfig(RATIO, "max")], {})
    assert [bool(adds.dividing_by_zero(report)) for report in reports] == [False, False, False, True, False]
    training = Report(1, TRAIN, {"loss/b": 1.0})
    assert adds.added(training) is training


def test_monitors_go_by_expressions():
    """As by a metric; those of earlier reports are computed anew when a run resumes with another expression."""
    reports = _reports((1.0, 4.0, 3.0), (1.0, 2.0, 3.0), (1.0, 0.0, 3.0), (1.0, 3.0, 3.0))
    best, early = MonitorConfig(RATIO, "max"), EarlyStoppingConfig(RATIO, "max", 2, 0.0)
    adds = watched.of([best, early], {})
    state = _after(map(adds.added, reports), best, early)
    assert (state.best_step, state.early_stopping) == (2, monitor.Patience(early, 1.5, 2))
    other = MonitorConfig("total_loss", "min"), EarlyStoppingConfig("-1 * {loss/b}", "max", 2, 0.0)
    resumed = monitor.resume(monitor.start(*other), state.saved(), reports, watched.of(other, {"b": 1.0}))
    assert (resumed.best_step, resumed.early_stopping.waited) == (3, 1)
    with pytest.raises(ConfigError, match=r"best='total_loss': cannot change when"):
        monitor.resume(monitor.start(*other), state.saved(), None)


@pytest.mark.parametrize(
    ("metric", "mode", "words"),
    [
        ("{label/acuracy} - {loss/label}", "max", r"unknown validation metric 'label/acuracy'; did you mean 'label/ac"),
        ("{total_los} + {loss/label}", "max", r"unknown validation metric 'total_los'; did you mean 'total_loss'\?"),
        ("total_lose", "auto", r"unknown validation metric; did you mean 'total_loss'\?"),
        ("test/label/accuracy", "auto", r"cannot watch .*: set evaluate\.test='at_every_evaluation'$"),
        ("{loss/label} - {test/loss/label}", "max", r"cannot watch 'test/loss/label' of a split"),
        ("tset/loss/label", "auto", r"unknown validation metric"),
    ],
)
def test_names_that_are_not_there(metric, mode, words):
    directions = {"loss/label": "down", "label/accuracy": "up", "loss/number": "down"}
    with pytest.raises(ConfigError, match=rf"^early_stopping\.metric=.*: {words}"):
        monitor.resolve(MonitorConfig(metric, mode), "early_stopping", directions, ["test"])


def test_directions_that_are_known():
    assert monitor.resolve(MonitorConfig("total_loss", "auto"), "best", {}).mode == "min"
    with pytest.raises(ConfigError, match=r"^best\.mode='auto': must be 'min' or 'max' where best\.metric is an exp"):
        loading.resolve(problems.tree(best={"metric": RATIO}))
    with pytest.raises(ConfigError, match=r"^best\.metric='a/x - b/y': cannot be read as an expression: .*in braces"):
        loading.resolve(problems.tree(best={"metric": "a/x - b/y", "mode": "max"}))
