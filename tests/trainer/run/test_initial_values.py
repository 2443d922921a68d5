"""A run that begins with trained values."""

import json
import shutil

import keras
import numpy as np
import pytest

from tests import problems
from tests.trainer.run.short_runs import saved, train
from trainer.common.errors import ConfigError
from trainer.distributed.workers import Workers
from trainer.models.names import variables_by_name
from trainer.output import checkpoint, checkpoint_tensors
from trainer.run import experiment, initial_values
from trainer.step.update import AVERAGE

HEADS = problems.SIMPLE["model__heads"]
OTHER_HEADS = {
    "label": HEADS["label"],
    "number": [{"layer": "Dense", "units": 7, "use_bias": False}, HEADS["number"][0]],
}
TRUNK, LABEL, NUMBER, VECTOR = (
    f"{name}_0_dense/kernel" for name in ("trunk", "head_label", "head_number", "head_vector")
)

NEW = "head_number_1_dense/kernel"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with runs: `plain`; `averaged`, whose first checkpoint is the best; one damaged and one without any."""
    folder = tmp_path_factory.mktemp("runs")
    train(folder / "plain")
    train(folder / "averaged", ema=0.9, best={"metric": "loss/label", "mode": "max"})
    shutil.copytree(folder / "plain", folder / "empty", ignore=lambda *_: ["checkpoints"])
    shutil.copytree(folder / "plain", folder / "damaged")
    for step in (2, 4):
        (folder / "damaged" / "checkpoints" / f"step_0000000{step}" / "run.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def built():
    """An experiment of float32 with moving averages on two replicas: a head has another shape, another two layers."""
    changes = problems.SIMPLE | {"model__heads": OTHER_HEADS | {"vector": [{"layer": "Dense", "units": 3}]}}
    changes |= {"precision": "float32", "ema": 0.9}
    return experiment.build(problems.config(**changes), problems.strategy(2))


@pytest.fixture
def took(built, runs):
    """A function that gives the experiment, as initialized, the values that an `init_from` names."""
    before = {name: variable.numpy() for name, variable in variables_by_name(built.model).items()}

    def take(**init_from):
        config = problems.config(init_from=init_from).init_from
        return initial_values.take(config, built, Workers(built.strategy), runs)

    yield take
    for name, variable in variables_by_name(built.model).items():
        variable.assign(before[name])


def _values(built):
    return {name: variable.numpy() for name, variable in variables_by_name(built.model).items()}


@pytest.mark.parametrize(
    ("init_from", "taken", "folder"),
    [
        ({"path": "plain", "only": ["trunk*"]}, {TRUNK: TRUNK}, "plain/checkpoints/step_00000004"),
        (
            {"path": "averaged", "only": ["trunk*", "*/kernel"], "skip_mismatched": True},
            {TRUNK: TRUNK, LABEL: LABEL, VECTOR: VECTOR},
            "averaged/checkpoints/step_00000002",
        ),
        (
            {"path": "plain/checkpoints/step_00000002", "rename": {"head_number_0_*": "head_number_1_*"}},
            {TRUNK: TRUNK, LABEL: LABEL, VECTOR: VECTOR, NEW: NUMBER},
            "plain/checkpoints/step_00000002",
        ),
    ],
)
def test_values_of_runs(built, runs, took, init_from, taken, folder):
    """Variables and their moving averages have the values there, on both replicas; all others what they had."""
    before = _values(built)
    found = took(**init_from)
    path, _, step = folder.partition("/checkpoints/step_")
    part = AVERAGE if path == "averaged" else "model"
    there = saved(runs / path, int(step), part)
    assert found.source == folder + (" (moving averages)" if path == "averaged" else "")
    assert found.taken == taken
    assert set(found.left) | set(found.skipped) == set(before) - set(taken)
    assert found.parameters == sum(before[name].size for name in taken)
    expected = before | {name: there[old].astype(np.float32) for name, old in taken.items()}
    state = checkpoint.model_state(built.model)
    for name, variable in state.items():
        for own in built.strategy.experimental_local_results(variable):
            np.testing.assert_array_equal(own, expected[name], err_msg=name)
        if AVERAGE in built.step.averages() and name in built.step.averages()[AVERAGE]:
            np.testing.assert_array_equal(built.step.averages()[AVERAGE][name], expected[name], err_msg=name)


def test_values_of_a_file_of_keras(built, runs, took):
    """Variables of a file go by a number in their layer; a pattern puts a layer's at the place of another."""
    kernel = np.arange(42.0).reshape(6, 7)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(7, name="first", use_bias=False)])
    model.set_weights([kernel])
    model.save(runs / "model.keras")
    found = took(path="model.keras", rename={"first/*": "trunk_0_dense/*"})
    assert found.taken == {TRUNK: "first/0"}
    np.testing.assert_array_equal(_values(built)[TRUNK], kernel)


@pytest.mark.parametrize(
    ("init_from", "message"),
    [
        ({"path": "nowhere"}, r"init_from.path='nowhere': does not exist; it must be a run, the folder of a check"),
        ({"path": "plain/checkpoints"}, r"init_from.path='plain/checkpoints': must be a run, the folder of a check"),
        ({"path": "plain/log.txt"}, r"init_from.path='plain/log.txt': must be a run, the folder of a checkpoint"),
        ({"path": "empty"}, r"init_from.path='empty': holds no checkpoint yet"),
        ({"path": "damaged"}, r"init_from.path='damaged': all its 2 checkpoints are damaged .*run.json does not"),
        (
            {"path": "damaged/checkpoints/step_00000002"},
            r"init_from.path='damaged/.*': is a damaged checkpoint: run.json does not have its checksum",
        ),
        (
            {"path": "plain"},
            rf"init_from.path='plain': its {NUMBER} is float64\[7, 1\] there and float32\[7, 7\] here .*ed=True",
        ),
        ({"path": "plain", "only": ["trunk*", "x*"]}, r"init_from.only.1='x\*': matches none of this model's variab"),
        ({"path": "plain", "rename": {"x*": "y*"}}, r"init_from.rename='x\*': matches none of .*: head_label_0_dense"),
        (
            {"path": "plain", "rename": {"*": "other/*"}},
            r"init_from.path='plain': holds nothing that fits head_label_0_dense/\*, .* it has head_label_0_dense/\*, ",
        ),
        (
            {"path": "plain", "only": ["trunk*"], "rename": {"head_number_0_*": "head_numbr_1_*"}},
            r"init_from.rename.head_number_0_\*='head_numbr_1_\*': names none of this model's variables: head",
        ),
        (
            {"path": "plain", "rename": {"head_label_?_*": "new*", "head_number_?_*": "new*"}},
            rf"init_from.rename='head_number_\?_\*': names {NUMBER} as {LABEL} is named, newdense/kernel",
        ),
        ({"path": "plain", "rename": {"head_*": "new"}}, r"init_from.rename.head_\*='new': must have as many '\*' as"),
        ({"path": "plain", "only": []}, r"init_from.only=\[\]: must name at least one pattern"),
    ],
)
def test_what_cannot_be_taken(built, took, init_from, message):
    """One line, and no variable is changed."""
    before = _values(built)
    with pytest.raises(ConfigError, match=message) as error:
        took(**init_from)
    assert "\n" not in str(error.value)
    for name, value in _values(built).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_checkpoint_that_its_run_removes_is_not_missed(built, runs, took, monkeypatch, tmp_path):
    """The run may train: where the checkpoint is gone before it is read, the next one is read."""
    shutil.copytree(runs / "plain", tmp_path / "training")
    read = checkpoint_tensors.part

    def removing(folder, part):
        if folder.name == "step_00000004":
            shutil.rmtree(folder)
        return read(folder, part)

    monkeypatch.setattr(checkpoint_tensors, "part", removing)
    found = took(path=str(tmp_path / "training"), only=["trunk*"])
    assert found.source == f"{tmp_path}/training/checkpoints/step_00000002"


def test_a_run_from_another_resumes_without_it(tmp_path, runs):
    """It says and keeps what it has taken, once, and reads the other run no more, which is as it was."""
    shutil.copytree(runs / "plain", tmp_path / "other")
    before = {file: file.read_bytes() for file in (tmp_path / "other").rglob("*") if file.is_file()}
    changes = {"init_from": {"path": str(tmp_path / "other"), "only": ["trunk*", "head_number*"]}, "ema": 0.5}
    said = train(tmp_path / "whole", **changes)
    assert (
        f"  initial values of {tmp_path}/other/checkpoints/step_00000004: 2 of 4 variables (49 parameters): "
        "trunk_0_dense/*, head_number_0_dense/*\n"
        "    initialized as their layers say: 2: head_label_0_dense/*, head_vector_0_dense/*\n"
        "    not used of what is there: 2: head_label_0_dense/*, head_vector_0_dense/*\n"
    ) in said
    kept = json.loads((tmp_path / "whole" / "initial_values.json").read_text())
    assert kept["taken"] == {TRUNK: TRUNK, NUMBER: NUMBER}
    assert (kept["left"], kept["unused"], kept["skipped"]) == ([LABEL, VECTOR], [LABEL, VECTOR], {})
    assert {file: file.read_bytes() for file in before} == before

    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "checkpoints" / "step_00000004")
    shutil.rmtree(tmp_path / "other")
    assert "initial values" not in train(tmp_path / "half", **changes)
    for part in ("model", AVERAGE):
        whole, half = saved(tmp_path / "whole", 4, part), saved(tmp_path / "half", 4, part)
        assert {name: value.tobytes() for name, value in whole.items()} == {
            name: value.tobytes() for name, value in half.items()
        }
    with pytest.raises(ConfigError, match="init_from.path is .*other' there and 'x' here"):
        train(tmp_path / "half", **changes | {"init_from": {"path": "x", "only": ["trunk*", "head_number*"]}})
    with pytest.raises(ConfigError, match="init_from.path='x': does not exist"):
        train(tmp_path / "third", init_from="x")
    assert not (tmp_path / "third").exists()
