"""The optimizer that the shared variables and every loss get: their own, the common one, or parts of both."""

import json

import pytest

from tests import problems
from trainer.common.errors import ConfigError
from trainer.config import loading, resuming
from trainer.config.settings import Config

ADAM = {"name": "adam", "learning_rate": 1e-3}
COSINE = {"name": "cosine_decay", "initial_learning_rate": 0.1, "warmup_steps": 3}
FILE = """
import ml_collections


def get_config():
    heads = {{name: [{{"layer": "Dense", "units": 1}}] for name in "ab"}}
    losses = {{name: {{"loss": "mse"}} for name in "ab"}}
    tree = {{"dataset": {{"name": "digits"}}, "model": {{"heads": heads}}, "losses": losses}}
    config = ml_collections.ConfigDict(tree | {more!r})
    return config
"""


def _load(tmp_path, more: dict, *overrides: str) -> Config:
    (tmp_path / "experiment.py").write_text(FILE.format(more=more))
    return loading.load(str(tmp_path / "experiment.py"), [tuple(each.split("=", 1)) for each in overrides])


@pytest.mark.parametrize(
    ("more", "overrides", "shared", "a", "b"),
    [
        ({}, [], ADAM, ADAM, ADAM),
        ({"optimizer": "sgd"}, [], {"name": "sgd"}, {"name": "sgd"}, {"name": "sgd"}),
        ({"optimizer": {"learning_rate": 1e-5}}, [], *[{"name": "adam", "learning_rate": 1e-5}] * 3),
        ({}, ["optimizer.learning_rate=1e-5"], *[{"name": "adam", "learning_rate": 1e-5}] * 3),
        ({}, ["optimizer.name=sgd"], *[{"name": "sgd"}] * 3),
        ({}, ["losses.a.optimizer.learning_rate=0.01"], ADAM, {"name": "adam", "learning_rate": 0.01}, ADAM),
        (
            {"shared_optimizer": {"learning_rate": 0.01}},
            ["losses.a.optimizer.learning_rate=0.02"],
            ADAM | {"learning_rate": 0.01},
            ADAM | {"learning_rate": 0.02},
            ADAM,
        ),
        ({}, ["shared_optimizer.learning_rate=0.01"], ADAM | {"learning_rate": 0.01}, ADAM, ADAM),
        (
            {"optimizer": {"name": "sgd"}},
            ["losses.b.optimizer=adam"],
            {"name": "sgd"},
            {"name": "sgd"},
            {"name": "adam"},
        ),
        (
            {"optimizer": {"name": "sgd", "learning_rate": 0.5, "momentum": 0.9}},
            ["losses.a.optimizer.learning_rate=1", "losses.b.optimizer={}", "shared_optimizer.name='lion'"],
            {"name": "lion"},
            {"name": "sgd", "learning_rate": 1.0, "momentum": 0.9},
            {"name": "sgd", "learning_rate": 0.5, "momentum": 0.9},
        ),
        (  # a schedule without a name is the common one with other arguments
            {"optimizer": {"name": "sgd", "learning_rate": COSINE}},
            ["losses.a.optimizer.learning_rate.warmup_steps=7", "losses.b.optimizer.learning_rate=0.2"],
            {"name": "sgd", "learning_rate": COSINE},
            {"name": "sgd", "learning_rate": COSINE | {"warmup_steps": 7}},
            {"name": "sgd", "learning_rate": 0.2},
        ),
        (
            {"optimizer": {"learning_rate": COSINE}},
            ["losses.a.optimizer.learning_rate={'name': 'polynomial_decay', 'decay_steps': 9}"],
            {"name": "adam", "learning_rate": COSINE},
            {"name": "adam", "learning_rate": {"name": "polynomial_decay", "decay_steps": 9}},
            {"name": "adam", "learning_rate": COSINE},
        ),
    ],
)
def test_what_is_not_said_is_that_of_all(tmp_path, more, overrides, shared, a, b):
    config = _load(tmp_path, more, *overrides)
    assert (config.shared_optimizer, config.losses["a"].optimizer, config.losses["b"].optimizer) == (shared, a, b)
    loading.save(config, tmp_path / "config.json")
    written = json.loads((tmp_path / "config.json").read_text())
    assert [written["shared_optimizer"], *(loss["optimizer"] for loss in written["losses"].values())] == [shared, a, b]
    assert loading.load_saved(tmp_path / "config.json") == config


@pytest.mark.parametrize(
    ("overrides", "field", "words"),
    [
        (["optimizer.learning_rate=-1"], "optimizer.learning_rate", "at least 0"),  # not of each that has it
        (["optimizer=none"], "optimizer", "a name, or a dictionary with 'name' and arguments, or arguments alone"),
        (["optimizer.name=3"], "optimizer.name", "must be a name"),
        (["shared_optimizer=3"], "shared_optimizer", "arguments alone"),
        (["losses.a.optimizer.learning_rate=x"], "losses.a.optimizer.learning_rate", "finite number"),
        (["losses.a.optimizer.learning_rate={}"], "losses.a.optimizer.learning_rate.name", "missing"),
    ],
)
def test_mistakes_are_named_where_they_are(tmp_path, overrides, field, words):
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, {}, *overrides)
    assert caught.value.field == field
    assert words in str(caught.value)


def test_runs_resume_with_the_same_optimizers_however_they_are_written(tmp_path):
    """Also a run of which `optimizer` was not kept, because there was no such key."""
    own = {"shared_optimizer": "sgd", **{f"losses__{name}__optimizer": "sgd" for name in problems.LOSSES}}
    loading.save(problems.config(**own), tmp_path / "config.json")
    tree = json.loads((tmp_path / "config.json").read_text())
    del tree["optimizer"]
    (tmp_path / "config.json").write_text(json.dumps(tree))
    saved = loading.load_saved(tmp_path / "config.json")
    common = dict.fromkeys(own)
    assert resuming.differences(saved, problems.config(**common, optimizer="sgd")) == []
    others = resuming.differences(saved, problems.config(**common, optimizer="adam"))
    assert [each.partition(" ")[0] for each in others] == [
        *(f"losses.{name}.optimizer.name" for name in problems.LOSSES),
        "shared_optimizer.name",
    ]
    cosine = problems.config(
        optimizer={"learning_rate": {"name": "cosine_decay", "initial_learning_rate": 1}}, **common
    )
    longer = problems.config(steps=40, optimizer=cosine.optimizer, **common)
    assert resuming.differences(cosine, longer) == ["steps is 20 there and 40 here (a schedule depends on it)"]
