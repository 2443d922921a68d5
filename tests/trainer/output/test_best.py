"""The best step of a run, found from its configuration and reports alone."""

import pytest

from tests.trainer.compare import made_up
from trainer.output import best
from trainer.output.reports import Report

LOSSES = {"digit": ["accuracy"], "ink": ["mae", "mine:own"]}


def _step(best_, values, split="validation"):
    reports = []
    for step, value in enumerate(values, 1):
        if split != "validation":
            reports.append(Report(step, split, {best_["metric"].partition("/")[2]: value}))
        reports.append(Report(step, "validation", {} if split != "validation" else value))
        reports.append(Report(step, "train", {"loss/digit": -9.0}))
    return best.step_of(made_up.config(LOSSES, best=best_), reports)


@pytest.mark.parametrize(
    ("metric", "mode", "name", "expected"),
    [
        ("digit/accuracy", "auto", "digit/accuracy", 3),
        ("loss/digit", "auto", "loss/digit", 2),
        ("digit/accuracy", "min", "digit/accuracy", 2),
        ("total_loss", "auto", "monitor/total_loss", 2),
        ("{ink/mae}  - {loss/ink}", "max", "monitor/{ink/mae} - {loss/ink}", 3),
        ("digit/accuracy/worst", "auto", "digit/accuracy/worst", 3),
        ("ink/own", "auto", "ink/own", None),  # the run would not have started
    ],
)
def test_the_first_of_the_best_by_the_direction_of_what_is_watched(metric, mode, name, expected):
    values = [{name: value} for value in (0.5, 0.1, 0.9, None, 0.9)]
    assert _step({"metric": metric, "mode": mode}, values) == expected


def test_a_value_of_another_split_of_the_same_step():
    assert _step({"metric": "test/ink/mae"}, [0.3, 0.1, 0.2], split="test") == 2


def test_none_is_watched():
    assert _step(None, [{"digit/accuracy": 0.5}]) is None
