"""Runs in which some variables learn at other rates, and all at lower ones once a metric no longer improves."""

import json
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import eager, problems
from tests.properties import built_once, interrupted
from trainer.common.errors import ConfigError
from trainer.config import resuming

STEPS = 4
_PER_LOSS = {"combine__name": "independent", "dataset__options": {"missing": True}}


def _with_rates(optimizer, factor, **own):
    """Changes that give all optimizers this factor of a rate; those of losses in `own` have others."""
    factors = dict.fromkeys(("label", "number", "vector", "vector_l1", "shared"), factor) | own
    fields = {name: f"losses__{name}__optimizer" for name in problems.LOSSES} | {"shared": "shared_optimizer"}
    return {fields[name]: optimizer | {"learning_rate": 0.02 * each} for name, each in factors.items()}


@pytest.mark.parametrize(
    ("optimizer", "factors", "rates", "changes"),
    [
        # All that is shared, of which the first pattern decides, and one head.
        (
            {"name": "adamw", "weight_decay": 0.3},
            {"head_label*": 2.0, "head_number*": 1.0, "*": 0.1},
            {"label": 2.0, "number": 1.0},
            {"combine__name": "pcgrad"},
        ),
        ({"name": "adam"}, {"*": 0.1}, {}, _PER_LOSS),
    ],
    ids=["jointly", "per loss"],
)
def test_factors_are_rates(optimizer, factors, rates, changes):
    """Whatever a factor makes of a rate, another rate makes, too."""
    changes |= {"clip_norm": 0.5}
    found = problems.reference(STEPS, **_with_rates(optimizer, 1.0), learning_rate_factors=factors, **changes)
    expected = problems.reference(STEPS, **_with_rates(optimizer, 0.1, **rates), **changes)
    for name, value in expected.variables.items():
        assert found.variables[name] == pytest.approx(value, rel=0, abs=1e-12), name


@pytest.mark.parametrize("replicas", [2, pytest.param(3, marks=pytest.mark.ci_only)])
def test_factors_on_replicas(replicas):
    changes = problems.SIMPLE | _with_rates({"name": "sgd", "momentum": 0.9, "weight_decay": 0.3}, 1.0)
    changes |= {"learning_rate_factors": {"trunk_*": 0.1, "head_label*": 3.0}, "dataset__options": {"missing": True}}
    problems.assert_same(problems.run(replicas, STEPS, **changes), problems.reference(STEPS, **changes))


# ---------------------------------------------------------------------------------------------------------------------
# A run that evaluates after every second step and is never satisfied: rates fall after steps 6 and 10.
# ---------------------------------------------------------------------------------------------------------------------

EVERY = {
    "steps": 12,
    "report_every": 3,
    "eval_every": 2,
    "checkpoint_every": 3,
    "learning_rate_factors": {"trunk_*": 0.5},
}
FALLING = {"metric": "total_loss", "factor": 0.5, "patience": 2, "min_delta": 100.0, "minimum": 0.006}
COSINE = {"name": "cosine_decay", "initial_learning_rate": 0.05, "decay_steps": 12}
CHANGES = problems.SIMPLE | EVERY | {"losses__number__optimizer": {"name": "sgd", "learning_rate": COSINE}}


@pytest.fixture(scope="module")
def falling(tmp_path_factory):
    """The folder of such a run on two replicas."""
    path = tmp_path_factory.mktemp("falling") / "run"
    with built_once.building_once():
        interrupted.train(path, 2, **CHANGES, reduce_on_plateau=FALLING)
        yield path


def _rates(path, optimizer):
    rows = map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
    return {row["step"]: row[f"learning_rate/{optimizer}"] for row in rows if row["split"] == "train"}


def test_rates_that_are_reported_and_said(falling):
    """The report of step 6 comes before the evaluation; the least rate is not below `minimum`."""
    assert _rates(falling, "shared") == pytest.approx({3: 0.05, 6: 0.05, 9: 0.025, 12: 0.0125})
    cosine = _rates(falling, "number")
    assert cosine[9] == pytest.approx(0.006)  # of half of 0.0073
    assert cosine[12] == pytest.approx(0)
    lines = re.findall(r"step \d+: no better .*", (falling / "log.txt").read_text())
    assert len(lines) == 2
    assert lines[0].startswith(
        "step 6: no better total_loss in 2 evaluations, learning rate from 0.05 to 0.025 (shared, "
    )


class Table(keras.optimizers.schedules.LearningRateSchedule):
    """The rates of steps, one after another; after the last one 0."""

    def __init__(self, values):
        self.values = values

    def __call__(self, step):
        return tf.gather(tf.constant([*self.values, 0.0], tf.float64), step)


def test_rates_that_fall_are_those_of_a_schedule(tmp_path, falling):
    """A run on one device with these numbers as rates, its steps taken as they stand, has the same variables."""
    given = {"shared": np.full(12, 0.05), "number": 0.05 * (1 + np.cos(np.pi * np.arange(12) / 12)) / 2}
    tables = {}
    for name, rates in given.items():
        reduced = np.maximum(rates * np.repeat([1, 0.5, 0.25], [6, 4, 2]), np.minimum(rates, 0.006))
        values = {"name": "tests.trainer.run.test_learning_rates:Table", "values": reduced.tolist()}
        tables[name] = {"name": "sgd", "learning_rate": values}
    optimizers = {f"losses__{name}__optimizer": tables["shared"] for name in problems.LOSSES}
    optimizers |= {"losses__number__optimizer": tables["number"], "shared_optimizer": tables["shared"]}
    with eager.functions():
        interrupted.train(tmp_path / "run", **CHANGES | optimizers)
    found, expected = (_model(path) for path in (falling, tmp_path / "run"))
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=0, abs=1e-8), name


def _model(path):
    """The variables of the model after step 12."""
    reader = tf.train.load_checkpoint(str(path / "checkpoints" / "step_00000012" / "variables"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if name.startswith("model/")}


@pytest.mark.parametrize(
    "step", [9, pytest.param(3, marks=pytest.mark.ci_only), pytest.param(6, marks=pytest.mark.ci_only)]
)
def test_rates_come_back(tmp_path, falling, step):
    """As a kill leaves a run: after an evaluation that nothing was decided by, one that reduced rates, one after it."""
    shutil.copytree(falling, tmp_path / "run")
    interrupted.forget_after(tmp_path / "run", step)
    interrupted.train(tmp_path / "run", 2, **CHANGES, reduce_on_plateau=FALLING)
    assert interrupted.results(tmp_path / "run", 12) == interrupted.results(falling, 12)


@pytest.mark.ci_only
def test_more_steps(tmp_path, falling):
    """The evaluation at the end of a run that was shorter decides nothing."""
    changes = CHANGES | {"steps": 9, "reduce_on_plateau": FALLING}
    interrupted.train(tmp_path / "run", 2, **changes)
    interrupted.train(tmp_path / "run", 2, **changes | {"steps": 12})
    assert interrupted.variables(tmp_path / "run", 12) == interrupted.variables(falling, 12)


def test_when_to_evaluate_cannot_change():
    """Not if rates depend on it; nor the order of patterns, of which the first counts."""
    config = problems.config(**CHANGES, reduce_on_plateau=FALLING)
    other = problems.config(**CHANGES | {"eval_every": 3, "report_every": 1}, reduce_on_plateau=FALLING)
    assert resuming.differences(config, other) == ["eval_every is 2 there and 3 here (reduce_on_plateau depends on it)"]
    factors = {"*kernel": 0.5, "trunk_*": 0.1}
    there, here = (problems.config(learning_rate_factors=given) for given in (factors, dict(reversed(factors.items()))))
    words = "learning_rate_factors are in the order *kernel, trunk_* there and trunk_*, *kernel here"
    assert resuming.differences(there, here) == [words]


def test_settings_that_cannot_be_used():
    with pytest.raises(ConfigError, match=r"^reduce_on_plateau\.factor=1: must be a number above 0 and below 1$"):
        problems.config(reduce_on_plateau=FALLING | {"factor": 1})
    with pytest.raises(ConfigError, match=r"^reduce_on_plateau\.metric='a / b': cannot be read as an expression"):
        problems.config(reduce_on_plateau=FALLING | {"metric": "a / b"})
