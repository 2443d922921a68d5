"""Evaluating a run that somebody else made calls nothing that it names, except what the user trusts."""

import json
import pathlib
import pickle
import shlex
import shutil

import keras
import pytest

from tests import config_files, forked
from tests.answers import assert_one_line
from tests.input_pipelines.test_payloads import Payload
from trainer.common.errors import ConfigError
from trainer.output import checkpoint

OTHERS = """
import pathlib
from os import system

import keras
import numpy as np
from input_pipelines.examples import Examples

pathlib.Path("called").touch()


def load():
    inputs = np.linspace(0, 1, 16, dtype=np.float32).reshape(8, 2)
    return dict.fromkeys(("train", "validation"), Examples(inputs, {"y": inputs[:, :1]}))


def model():
    inputs = keras.Input((2,))
    return keras.Model(inputs, {"y": keras.layers.Dense(1)(inputs)})


def loss(target, prediction):
    return keras.losses.mean_squared_error(target, prediction)
"""
TREE = {
    "dataset": {"name": "of_others:load"},
    "model": {"name": "of_others:model"},
    "losses": {"y": {"loss": "losses_of_others:loss"}},
    "batch_size": 8,
    "steps": 1,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run, `run`, the modules that it names, and the configuration that it was trained with."""
    folder = tmp_path_factory.mktemp("others")
    for module in ("of_others", "losses_of_others"):
        (folder / f"{module}.py").write_text(OTHERS)
    (folder / "own.py").write_text(config_files.text(TREE))
    trained = forked.run("trainer.main", "--config=own.py", "--workdir=run", cwd=folder)
    assert trained.returncode == 0, trained.stderr
    return folder


def _evaluated(place: pathlib.Path, *arguments: str):
    """The result of the command, and whether a module of others was imported or called."""
    (place / "called").unlink(missing_ok=True)
    result = forked.run("trainer.main", "--mode=eval", *arguments, cwd=place)
    return result, (place / "called").exists()


def test_the_refusal_says_how_to_trust(place):
    """Everything at once, and the command that it prints evaluates the run."""
    result, called = _evaluated(place, "--workdir=run", "--verbosity=-1")
    assert not called
    assert_one_line(
        result, "of_others:load (dataset.name)", "losses_of_others:loss (losses.y.loss.name)", "--config=FILE"
    )
    python, flag, module, mode, *arguments = shlex.split(result.stderr.partition("trust it: ")[2])
    assert [python, flag, module, mode] == ["python", "-m", "trainer.main", "--mode=eval"]
    assert arguments == ["--workdir=run", "--verbosity=-1", "--trust=losses_of_others,of_others"]
    result, called = _evaluated(place, *arguments)
    assert (result.returncode, result.stderr, called) == (0, "", True)
    assert "Validation of" in result.stdout
    again, called = _evaluated(place, "--workdir=run", "--config=own.py")
    assert (again.returncode, again.stdout, again.stderr, called) == (0, result.stdout, "", True)


@pytest.mark.parametrize(
    ("changes", "flags", "words"),
    [
        ({"model": {"name": "os:system", "options": {"command": "touch ran"}}}, [], ["os:system (model.name)"]),
        ({"model": {"name": "os:system", "options": {"command": "touch ran"}}}, ["--trust=os"], ["--trust='os'"]),
        ({"model": {"name": "of_others:system", "options": {"command": "touch ran"}}}, [], ["posix is of the st"]),
        ({"losses": {"y": {"loss": "mse", "metrics": ["evil:f"]}}}, [], ["evil:f (losses.y.metrics.0.name)"]),
        ({"optimizer": {"name": "sgd", "learning_rate": {"name": "evil:f"}}}, [], ["evil:f (optimizer.learning_rate"]),
        (
            {"dataset": {"name": "npz", "path": ".", "inputs": {"x": {}}, "targets": {"y": {"prepare": ["evil:f"]}}}},
            [],
            ["evil:f (dataset"],
        ),
        ({"dataset": {"name": "tfds/kaggle:f", "targets": {"y": {}}, "inputs": {"x": {}}}}, [], ["download code"]),
        ({"model": {"heads": {"y": [{"layer": "TFSMLayer", "filepath": "x"}]}}}, ["--config=own.py"], ["TFSMLayer"]),
        ({"model": {"name": "trainer.common.import_paths:load", "options": {}}}, [], ["of this project itself"]),
    ],
)
def test_nothing_else_is_called(place, tmp_path, changes, flags, words):
    (tmp_path / "run").mkdir()
    (place / "evil.py").write_text(OTHERS)
    saved = json.loads((place / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps({"format": saved["format"], **TREE, **changes}))
    trusted = [] if flags else ["--trust=of_others,losses_of_others"]
    result, called = _evaluated(place, f"--workdir={tmp_path / 'run'}", *trusted, *flags)
    assert_one_line(result, *words)
    assert not (place / "ran").exists()
    assert called == ("of_others:system" in str(changes))  # which is found out once its module is imported


@pytest.mark.parametrize("name", ["config.json", "data.json", "checksums.json"])
def test_no_file_of_a_run_is_unpickled(place, tmp_path, name):
    shutil.copytree(place / "run", tmp_path / "run")
    marker = tmp_path / "unpickled"
    for path in (tmp_path / "run").rglob(name):
        path.write_bytes(pickle.dumps(Payload(marker)))
    result, _ = _evaluated(place, f"--workdir={tmp_path / 'run'}", "--config=own.py")
    assert (result.returncode, "Traceback" in result.stderr) == (2, False)
    assert not marker.exists()


def test_no_checkpoint_is_unpickled(place, tmp_path):
    """Also not where its checksums are right."""
    (folder,) = (place / "run" / "checkpoints").iterdir()
    marker = tmp_path / "unpickled"
    layer = keras.layers.Dense(1, name="dense", dtype="float32")
    model = keras.Sequential([keras.Input((2,)), layer])
    state = {"model": checkpoint.model_state(model)}
    checkpoint.restore(folder, state)
    for pattern in ("*.index", "*.data-*"):
        copy = shutil.copytree(folder, tmp_path / pattern[2:6] / folder.name)
        (damaged,) = copy.glob(pattern)
        damaged.write_bytes(pickle.dumps(Payload(marker)))
        with pytest.raises(ConfigError, match=r"no readable checkpoint|does not hold"):
            checkpoint.restore(copy, state)
    assert not marker.exists()
