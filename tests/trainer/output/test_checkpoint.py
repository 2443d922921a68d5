"""Checkpoints: what comes back, what damage is noticed, what is kept."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from trainer.common.errors import ConfigError, RunError
from trainer.output import checkpoint


def _save(directory: pathlib.Path, step: int, value: float) -> None:
    checkpoint.save(directory, step, checkpoint.snapshot(_state(value)))


def _state(value: float) -> dict[str, dict[str, tf.Variable]]:
    return {
        "model": {"dense/kernel": tf.Variable([[value, 2.0]]), "a.b/bias": tf.Variable(np.float64(value))},
        "optimizers/shared": {"iterations": tf.Variable(int(value), dtype=tf.int64)},
    }


@pytest.fixture
def directory(tmp_path):
    """Checkpoints of steps 1 to 3."""
    for step in (1, 2, 3):
        _save(tmp_path / "checkpoints", step, step)
    return tmp_path / "checkpoints"


def _values(folder: pathlib.Path) -> list[np.ndarray]:
    state = _state(0.0)
    checkpoint.restore(folder, state)
    return [variable.numpy() for part in state.values() for variable in part.values()]


def test_round_trip(directory):
    kernel, bias, iterations = _values(directory / "step_00000002")
    np.testing.assert_array_equal(kernel, [[2.0, 2.0]])
    assert (bias, iterations) == (2.0, 2)


def _flip_a_bit(path: pathlib.Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "truncated": lambda folder: (data := next(folder.glob("*.data-*"))).write_bytes(data.read_bytes()[:-1]),
    "flipped": lambda folder: _flip_a_bit(next(folder.glob("*.data-*"))),
    "index flipped": lambda folder: _flip_a_bit(folder / "variables.index"),
    "removed": lambda folder: next(folder.glob("*.data-*")).unlink(),
    "emptied": lambda folder: [path.unlink() for path in folder.iterdir()],
    "no checksums": lambda folder: (folder / "checksums.json").unlink(),
    "checksums empty": lambda folder: (folder / "checksums.json").write_text("{}"),
    "checksums torn": lambda folder: (folder / "checksums.json").write_text('{"variables.index": "12'),
    "checksums nested": lambda folder: (folder / "checksums.json").write_text("[" * 100_000 + "]" * 100_000),
    "checksums of a file elsewhere": lambda folder: (folder / "checksums.json").write_text(
        json.dumps({"variables.index": "", "/dev/zero": ""})
    ),
    "checksums of another kind": lambda folder: (folder / "checksums.json").write_text("[1]"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_skipped_with_a_warning(directory, kind):
    DAMAGE[kind](directory / "step_00000003")
    warnings = []
    assert checkpoint.newest_good(directory, warnings.append) == directory / "step_00000002"
    (warning,) = warnings
    assert "step_00000003 is damaged (" in warning
    checkpoint.set_aside(directory, newer_than=2)
    assert checkpoint.saved_steps(directory) == [1, 2]
    assert (directory / "damaged_step_00000003").is_dir()
    _save(directory, 3, 3.5)
    assert checkpoint.newest_good(directory, warnings.append) == directory / "step_00000003"
    assert len(warnings) == 1


def test_a_step_can_be_damaged_twice(directory):
    for name in ("damaged_step_00000003", "damaged_step_00000003_2"):
        checkpoint.set_aside(directory, newer_than=2)
        assert (directory / name).is_dir()
        _save(directory, 3, 3)


def test_nothing_good(directory, tmp_path):
    assert checkpoint.newest_good(tmp_path / "nowhere", print) is None
    for folder in directory.iterdir():
        DAMAGE["flipped"](folder)
    with pytest.raises(ConfigError, match=r"all its 3 checkpoints are damaged \(the newest: .*checksum"):
        checkpoint.newest_good(directory, lambda line: None)


@pytest.mark.parametrize(
    ("keep", "also", "left"), [(1, None, [3]), (2, None, [2, 3]), (1, 1, [1, 3]), (2, 3, [2, 3]), (9, 1, [1, 2, 3])]
)
def test_prune(directory, keep, also, left):
    checkpoint.prune(directory, keep, also)
    assert checkpoint.saved_steps(directory) == left


def test_what_is_no_checkpoint_is_left_alone(directory):
    """A user's own copies, files and links among them."""
    for name in ("step_00000020.bak", "step_x", "step_", "step_7", "step_٠٠٠٠٠٠٠٩"):
        shutil.copytree(directory / "step_00000003", directory / name)
    (directory / "step_00000021").write_text("")
    (directory / "step_00000022").symlink_to("step_00000003")
    (directory / ".incomplete_mine").write_text("")
    before = {path.name for path in directory.iterdir()}
    assert checkpoint.saved_steps(directory) == [1, 2, 3]
    assert checkpoint.newest_good(directory, pytest.fail) == directory / "step_00000003"
    (directory / ".incomplete_step_00000002").mkdir()  # as a process that was killed while it removed one leaves it
    checkpoint.remove_incomplete(directory)
    checkpoint.set_aside(directory, newer_than=2)
    checkpoint.prune(directory, 1, None)
    after = before - {"step_00000001", "step_00000003"} | {"damaged_step_00000003"}
    assert {path.name for path in directory.iterdir()} == after


def test_a_run_that_is_training_removes_what_is_being_read(directory, monkeypatch):
    """The newest is listed, replaced by the next one and gone when its files are read; that is no damage."""
    calls, damage = [], checkpoint.damage

    def slow(folder: pathlib.Path) -> str | None:
        calls.append(folder)
        if len(calls) < 3:
            _save(directory, 3 + len(calls), 1.0)
            checkpoint.prune(directory, 1, None)
        return damage(folder)

    monkeypatch.setattr(checkpoint, "damage", slow)
    assert checkpoint.newest_good(directory, pytest.fail) == directory / "step_00000005"
    assert calls[0] == directory / "step_00000003"


def test_a_save_that_fails_leaves_what_was_there(directory):
    """`.incomplete_…` is a file, so nothing can be written; the same holds for any other reason."""
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    (directory / ".incomplete_step_00000004").write_text("")
    with pytest.raises(RunError, match="step 4: the checkpoint cannot be written .*the last checkpoint is of step 3"):
        _save(directory, 4, 4)
    assert checkpoint.saved_steps(directory) == [1, 2, 3]
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_snapshot_keeps_its_values(tmp_path, replicas):
    """Whatever changes the variables, in place too: what is written later is what would have been written at once."""
    with problems.strategy(replicas).scope():
        weight = tf.Variable([1.0, 2.0], name="dense/kernel")
        count = tf.Variable(3, dtype=tf.int64, name="iterations")
    snapshot = checkpoint.snapshot({"model": {"kernel": weight}, "optimizers/shared": {"iterations": count}})
    checkpoint.save(tmp_path, 1, snapshot)
    for _ in range(2):
        weight.assign_add([10.0, 10.0])
        weight.assign(weight * 2)
        count.assign_sub(1)
    checkpoint.save(tmp_path, 2, snapshot)
    reader = tf.train.load_checkpoint(str(tmp_path / "step_00000002" / "variables"))
    np.testing.assert_array_equal(reader.get_tensor("model/kernel/.ATTRIBUTES/VARIABLE_VALUE"), [1.0, 2.0])
    assert reader.get_tensor("optimizers/shared/iterations/.ATTRIBUTES/VARIABLE_VALUE") == 3
    for path in (tmp_path / "step_00000001").iterdir():
        assert path.read_bytes() == (tmp_path / "step_00000002" / path.name).read_bytes()


def test_the_format_is_that_of_tensorflow(tmp_path):
    """A snapshot's files are, bit for bit, what tf.train.Checkpoint writes of the variables themselves."""
    variables = {"kernel": tf.Variable([[1.0, 2.0]], name="a/kernel"), "bias": tf.Variable(3, name="a/bias")}
    tf.train.Checkpoint(model=dict(variables)).write(str(tmp_path / "variables"))
    folder = checkpoint.save(tmp_path, 1, checkpoint.snapshot({"model": variables}))
    written = sorted(path.name for path in tmp_path.glob("variables.*"))
    assert sorted(path.name for path in folder.iterdir()) == sorted([*written, "checksums.json"])
    for name in written:
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.parametrize(
    ("part", "name", "variable", "words"),
    [
        ("model", "dense/kernel", [1.0], r"model dense/kernel is float32\[1\] here, float32\[1, 2\] in the checkpoint"),
        ("model", "other", [1.0], "model other is float32.1. here, missing in the checkpoint"),
        ("optimizers/shared", "iterations", 1.0, "iterations is float32.* here, int64.* in the checkpoint"),
    ],
)
def test_variables_that_do_not_fit_are_named(directory, part, name, variable, words):
    state = _state(0.0)
    state[part][name] = tf.Variable(variable)
    with pytest.raises(ConfigError, match=words):
        checkpoint.restore(directory / "step_00000001", state)
