"""The objective of tuning is a number of each validation report, or is refused in a line."""

import importlib.util
import math

import pytest

from tests import problems
from trainer.common.errors import ConfigError
from trainer.compare import objectives
from trainer.config import loading
from trainer.output.reports import Report

LOSSES = {"loss/label": 2.0, "loss/number": 0.5, "loss/vector": 4.0, "loss/vector_l1": 1.0}


def configuration(**changes):
    return loading.resolve(problems.tree(losses__label__metrics=["accuracy"], **changes))


def report(step=1, split="validation", **values):
    return Report(step, split, LOSSES | values)


def test_by_default_a_change_by_a_percent_counts_the_same_in_every_loss():
    objective = objectives.of(configuration())
    assert objective.value(report()) == pytest.approx(math.log(2.0 * 0.5 * 4.0 * 1.0) / 4, rel=1e-12)
    assert objective.mode == "min"
    better = [objective.value(report(**{name: value * 0.99})) for name, value in LOSSES.items()]
    assert better == pytest.approx([objective.value(report()) + math.log(0.99) / 4] * 4, rel=1e-12)
    for value in (0.0, -1.0, math.nan, math.inf, None):
        assert objective.value(report(**{"loss/number": value})) is None


def test_the_weights_of_a_trial_do_not_enter_the_total_loss():
    config = configuration(losses__label__weight=3.0, losses__number__weight=0.0, best={"metric": "total_loss"})
    objective = objectives.of(config)
    weights = [loss.weight for loss in config.losses.values()]
    expected = math.fsum(weight * value for weight, value in zip(weights, LOSSES.values(), strict=True))
    assert objective.value(report(**{"loss/number": None})) == pytest.approx(expected, rel=1e-12)
    assert objective.value(report(**{"loss/label": None})) is None


@pytest.mark.parametrize(
    ("given", "mode", "value"),
    [
        ("label/accuracy", "max", 0.75),
        ("loss/vector", "min", 4.0),
        ("{loss/label} - 2 * {label/accuracy}", "min", 0.5),
        ("1 / ({loss/label} - 2)", "min", None),
    ],
)
def test_what_is_given(given, mode, value):
    objective = objectives.of(configuration(), given)
    assert (objective.mode, objective.value(report(**{"label/accuracy": 0.75}))) == (mode, value)


def test_a_run_counts_by_the_variables_that_would_be_used():
    reports = [report(step, **{"loss/label": value}) for step, value in ((1, 3.0), (2, 1.0), (3, 2.0))]
    reports.append(report(3, "train", **{"loss/label": 0.0}))
    assert objectives.of(configuration(), "loss/label").of_run(reports) == 2.0
    best = configuration(best={"metric": "loss/vector"})
    assert objectives.of(best, "loss/label").of_run(reports) == 1.0
    assert objectives.of(best).of_run(reports) == 4.0
    assert objectives.of(best, "label/accuracy").of_run([]) is None


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("{loss/label", "--objective='{loss/label': cannot be read as an expression"),
        ("label/acuracy", "did you mean 'label/accuracy'"),
        ("{loss/label} + {loss/nubmer}", "did you mean 'loss/number'"),
        ("test/loss/label", "chosen on the validation split"),
        ("{total_loss}", "losses.vector.weight is a schedule"),
        ("label/mine", "does not say which way is better; write {label/mine} or -{label/mine}"),
    ],
)
def test_what_cannot_be_an_objective(given, line):
    schedule = {"name": "polynomial_decay", "initial_learning_rate": 0.01, "decay_steps": 5}
    metrics = ["accuracy", {"name": "tests.problems:load", "as": "mine"}]
    config = configuration(evaluate={"test": "at_every_evaluation"}, losses__vector__weight=schedule)
    if given == "label/mine":
        config = loading.resolve(problems.tree(losses__label__metrics=metrics))
    with pytest.raises(ConfigError) as refused:
        objectives.of(config, given)
    assert line in str(refused.value)


def test_without_optuna_a_line_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--tuned=8: needs the package of the extra 'tune', pip install 'optuna>=4'"):
        objectives.check_installed(8)
