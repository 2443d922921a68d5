"""Runs from Python equal those of the command, bit for bit."""

import json
import sys

import keras
import numpy as np
import pytest

import trainer
from tests import config_files, forked
from tests.trainer.api.runs import assert_equal

TWIN = """
import keras, numpy as np
from input_pipelines.examples import Examples

RANDOM = np.random.RandomState(0)
INPUTS = RANDOM.normal(size=(60, 5)).astype("float32")
CLASSES = (INPUTS.sum(1) > 0).astype("int64")


def split(first, last):
    targets = {"sign": CLASSES[first:last], "first": INPUTS[first:last, :1]}
    return INPUTS[first:last], targets, {"first": np.arange(first, last) % 3}


def load():
    return {"train": Examples(*split(0, 40)), "validation": Examples(*split(40, 60))}


def absolute(target, prediction):
    return abs(target - prediction)[:, 0]


def balanced(losses, gramian, power=1.0):
    return (1 + gramian[0, 1] ** 2) / losses**power


def build():
    inputs = keras.Input((5,))
    start = lambda seed: keras.initializers.GlorotUniform(seed=seed)
    trunk = keras.layers.Dense(6, "tanh", kernel_initializer=start(1), name="trunk")(inputs)
    heads = {"sign": 2, "first": 1}
    return keras.Model(inputs, {
        name: keras.layers.Dense(units, kernel_initializer=start(2), name=name)(trunk) for name, units in heads.items()
    })
"""
NAMED = {
    "steps": 7,
    "batch_size": 16,
    "eval_every": 5,
    "dataset": {"name": "api_twin:load"},
    "model": {"name": "api_twin:build"},
    "losses": {
        "sign": {
            "loss": {"name": "sparse_categorical_crossentropy", "from_logits": True},
            "metrics": [{"name": "sparse_categorical_accuracy"}],
        },
        "first": {"loss": "api_twin:absolute", "metrics": [{"name": "mean_absolute_error"}]},
    },
    "optimizer": {
        "name": "adam",
        "beta_1": 0.8,
        "learning_rate": {
            "name": "exponential_decay",
            "initial_learning_rate": 0.01,
            "decay_steps": 3,
            "decay_rate": 0.5,
        },
    },
    "combine": {"name": "api_twin:balanced", "options": {"power": 0.5}},
}


@pytest.fixture
def twin(tmp_path, monkeypatch):
    """A module with what a configuration names, in the current folder."""
    (tmp_path / "api_twin.py").write_text(TWIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "api_twin", raising=False)
    keras.config.set_floatx("float32")  # other tests' runs leave theirs
    keras.config.set_dtype_policy("float32")
    import api_twin

    return api_twin


def _objects(twin) -> dict:
    """The configuration above with objects in the place of all names."""
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 3, 0.5)
    return {
        **NAMED,
        "dataset": {"train": twin.split(0, 40), "validation": twin.split(40, 60)},
        "model": twin.build(),
        "losses": {
            "sign": {
                "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                "metrics": [keras.metrics.SparseCategoricalAccuracy()],
            },
            "first": {"loss": twin.absolute, "metrics": [keras.metrics.MeanAbsoluteError()]},
        },
        "optimizer": keras.optimizers.Adam(schedule, beta_1=0.8),
        "combine": {"name": twin.balanced, "options": {"power": 0.5}},
    }


def test_a_run_of_objects_equals_its_twin_of_import_paths(twin, tmp_path, root):
    """Bit for bit, in variables and reports; resumed with the same objects and refused with others."""
    (tmp_path / "config.py").write_text(config_files.text(NAMED))
    result = forked.run("trainer.main", "--config=config.py", "--workdir=command", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    given = _objects(twin)
    before = given["model"].get_weights()
    run = trainer.train(given, "python", progress=False)
    assert_equal(tmp_path / "command", run.path)
    assert all((old == new).all() for old, new in zip(before, given["model"].get_weights(), strict=True))
    saved = json.loads((run.path / "config.json").read_text())
    assert saved["losses"]["first"]["loss"] == {"name": "object:absolute"}
    assert saved["model"]["name"].startswith("object:functional_")
    assert run.history == [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert list(run.history.frame()["step"]) == [row["step"] for row in run.history]
    assert run.evaluate() == run.history[-1]
    known = np.arange(40, 60) % 3 > 0
    errors = abs(run.model(twin.INPUTS[40:])["first"][:, 0] - twin.INPUTS[40:, 0])
    assert np.mean(errors[known]) == pytest.approx(run.history[-1]["first/mean_absolute_error"], rel=1e-5)
    other = {**_objects(twin), "model": keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)])}
    with pytest.raises(trainer.ConfigError, match="model.name is 'object:functional_.*' there and 'object:seq"):
        trainer.train(other, "python", progress=False)
    with pytest.raises(trainer.ConfigError, match=r"object:\w+ .*an object of the Python process that trained"):
        trainer.load_run("python")
    result = forked.run("trainer.main", "--mode=eval", "--workdir=python", cwd=tmp_path)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert trainer.load_run("python", config=_objects(twin)).evaluate() == run.history[-1]
    other = {**given, "dataset": {**given["dataset"], "train": twin.split(1, 41)}}
    with pytest.raises(trainer.ConfigError, match="the train split has changed since the run began"):
        trainer.train(other, "python", progress=False)


@pytest.mark.ci_only
@pytest.mark.parametrize("name", ["own_table", "own_arrays"])
def test_a_run_equals_the_commands(name, tmp_path, root, monkeypatch):
    file = root / "configs" / f"{name}.py"
    flags = ["--config.steps=5", "--config.batch_size=24", "--combine=mgda", "--workdir=command"]
    result = forked.run("trainer.main", f"--config={file}", *flags, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    monkeypatch.chdir(tmp_path)
    run = trainer.train(file, "python", combine="mgda", steps=5, batch_size=24, progress=False)
    assert_equal(tmp_path / "command", run.path)
