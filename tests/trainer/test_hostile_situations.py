"""Runs whose code, terminal, disk or directory is not as it should be: one line, the right exit code, nothing lost."""

import errno
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import keras
import pytest
import tensorflow as tf

from input_pipelines import saved_data
from input_pipelines.examples import Examples
from tests import config_files, forked, problems
from tests.answers import assert_one_line
from trainer.common import schema
from trainer.common.errors import ConfigError, RunError
from trainer.models import trunk_and_heads
from trainer.output import checkpoint, history, recorder, terminal, workdir
from trainer.output.reports import TRAIN, Report
from trainer.run import checks

SMALL = problems.tree(precision="float32", steps=4, report_every=2, eval_every=4, **problems.SIMPLE)
ASCII = {
    "PYTHONIOENCODING": "ascii",
    "LANG": "C",
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
}


def hostile() -> dict[str, Examples]:
    """Data of a function that leaves little as it was."""
    os.chdir("/")
    warnings.simplefilter("error")
    sys.stdout.close()
    sys.stderr.close()
    sys.stdout = sys.stderr = None
    os.close(0)
    os.close(1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return problems.load()


@pytest.fixture
def place(tmp_path):
    """An empty directory to run in, with the small configuration beside it."""
    (tmp_path / "small.py").write_text(config_files.text(SMALL))
    tree = SMALL | {"dataset": {"name": "tests.trainer.test_hostile_situations:hostile"}}
    (tmp_path / "hostile.py").write_text(
        config_files.text(tree, "os.chdir('/'); os.close(1); __import__('warnings').simplefilter('error')")
    )
    (tmp_path / "cwd").mkdir()
    return tmp_path / "cwd"


def test_code_of_the_users_own_takes_neither_the_output_nor_the_place(place):
    trained = forked.run("trainer.main", "--config=../hostile.py", "--workdir=run", cwd=place, pictures=True)
    assert (trained.returncode, trained.stderr) == (0, "")
    lines = trained.stdout.splitlines()
    assert lines[0].startswith("run: 4 steps on 1 CPU")
    assert lines[-1] == "run: report.md, report.html, curves.png; tensorboard --logdir run"
    evaluated = forked.run("trainer.main", "--mode=eval", "--workdir=run", "--trust=tests", cwd=place)
    assert (evaluated.returncode, evaluated.stderr) == (0, "")
    assert "Validation of run/checkpoints/step_00000004" in evaluated.stdout
    assert [path.name for path in place.iterdir()] == ["run"]
    assert (place / "run" / "curves.png").exists()


def fill(name: str) -> None:
    """Makes the disk full for this process where a file of this name is synced."""
    sync = os.fsync

    def full(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(f".incomplete_{name}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    os.fsync = full


def test_a_full_disk_leaves_a_run_that_can_be_started_again(place):
    """As it begins, and at its end."""
    run, module = place / "run", "tests.trainer.test_hostile_situations"
    fills = f"import {module} as own; own.fill(os.environ['FULL'])"
    (place.parent / "full.py").write_text(config_files.text(SMALL, fills))
    for name in ("data.json", "curves.png"):
        result = forked.run("trainer.main", "--config=../full.py", "--workdir=run", cwd=place, pictures=True, FULL=name)
        assert_one_line(result, f"cannot write {run}/{name}: No space left on device", code=1)
        assert not list(run.glob(f"*{name}"))
    assert (run / "report.md").exists()
    again = forked.run("trainer.main", "--config=../small.py", "--workdir=run", cwd=place, pictures=True)
    assert (again.returncode, again.stderr) == (0, "")
    assert (run / "curves.png").exists()


def test_a_disk_that_is_full_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", os.fsync)  # puts it back
    fill("config.json")
    with pytest.raises(OSError, match="No space left on device"):
        workdir.create(str(tmp_path), problems.config())
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    assert workdir.claim(str(tmp_path), problems.config()) is None


def test_training_continues_when_nobody_reads_and_a_terminal_knows_only_ascii(place, root):
    """A process from its start: the first line comes, the rest is in the log; what is printed later takes no pipe."""
    train = f"{sys.executable} -m trainer.main --config=../small.py --workdir=run; echo $? >&2"
    environment = os.environ | ASCII | {"PYTHONPATH": str(root)}
    command = ["bash", "-c", f"({train}) | head -1"]
    result = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=300)
    assert result.stderr.splitlines() == ["0"]
    assert result.stdout.startswith("run: 4 steps on 1 CPU")
    assert "report.md, report.html, curves.png" in (place / "run" / "log.txt").read_text(encoding="utf-8")


def _interrupted(
    place: pathlib.Path, root: pathlib.Path, ready: Callable[[subprocess.Popen], bool], *arguments: str
) -> subprocess.CompletedProcess:
    """Interrupts a command once `ready(process)`; returns how it ended."""
    command = [sys.executable, "-m", "trainer.main", "--workdir=run", *arguments]
    environment = os.environ | {"PYTHONPATH": str(root)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=place, env=environment, **pipes)
    while process.poll() is None and not ready(process):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=300)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def test_an_interrupt_while_the_configuration_is_read(place, root):
    (place.parent / "slow.py").write_text(
        config_files.text(SMALL, "open('read', 'w').close(); __import__('time').sleep(60)")
    )
    result = _interrupted(place, root, lambda process: (place / "read").exists(), "--config=../slow.py")
    assert_one_line(result, "error: interrupted", code=130)


def test_an_interrupt_while_tensorflow_is_imported(place, root):
    def is_importing(process: subprocess.Popen) -> bool:
        return "tensorflow" in pathlib.Path(f"/proc/{process.pid}/maps").read_text(errors="replace")

    result = _interrupted(place, root, is_importing, "--config=../small.py")
    assert_one_line(result, "error: interrupted", code=130)
    assert not list(place.iterdir())


# ---------------------------------------------------------------------------------------------------------------------
# Directories that go while a run writes there.
# ---------------------------------------------------------------------------------------------------------------------

REPORT = Report(2, TRAIN, {"loss/label": 1.0, "loss/number": 2.0})
HEADS = {"label": "label", "number": "number"}
GONE = "was removed, renamed or replaced while the run was writing there; nothing more is written"


def _replace(path: pathlib.Path) -> None:
    shutil.move(path, path.with_name("renamed"))
    shutil.copytree(path.with_name("renamed"), path)


def _publish_before_and_after(run: workdir.Workdir, change: Callable[[pathlib.Path], object]) -> None:
    with open(os.devnull, "w") as nothing:
        console = terminal.Console(file=nothing)
        relied = {"config": schema.as_dict(problems.config()), "data": "", "damaged": None}
        files = recorder.Files(run, first=0, steps=4, heads=HEADS, keep=1, boundaries=(), console=console, **relied)
        with files:
            files.publish(REPORT)
            files.wait()
            change(run.path)
            files.publish(REPORT)
            files.save(2, {}, None, {})


@pytest.mark.parametrize(
    ("change", "words", "left"),
    [
        (shutil.rmtree, GONE, []),
        (lambda path: path.rename(path.with_name("renamed")), GONE, ["renamed"]),
        (_replace, GONE, ["renamed", "run"]),
        (lambda path: (path / "metrics.jsonl").unlink(), "metrics.jsonl: removed or replaced", ["run"]),
        (lambda path: shutil.rmtree(path / "tensorboard"), "train: removed or replaced", ["run"]),
    ],
    ids=["removed", "renamed", "replaced", "metrics removed", "events removed"],
)
def test_a_directory_that_goes_ends_the_run(tmp_path, change, words, left):
    run = workdir.create(str(tmp_path / "run"), problems.config())
    with pytest.raises(RunError, match=words):
        _publish_before_and_after(run, change)
    run.release()
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    if "renamed" in left:
        assert GONE in (tmp_path / "renamed" / "log.txt").read_text()
    if left == ["run"]:
        assert not (run.path / "checkpoints").exists()


# ---------------------------------------------------------------------------------------------------------------------
# Files of a run that hold something else.
# ---------------------------------------------------------------------------------------------------------------------

CONTENTS = {
    "null": b"null",
    "nested": b"[" * 100_000 + b"]" * 100_000,
    "nested dictionaries": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "a list": b"[1]",
    "a number": b"1e999",
    "not UTF-8": b'{"\xff": 1}',
    "empty": b"",
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_files_of_a_run_that_hold_something_else(tmp_path, content):
    """Every reader of a run's own files says it in one line, or leaves the line out."""
    run = workdir.create(str(tmp_path), problems.config())
    run.release()
    for path in (run.config, run.data, run.metrics):
        path.write_bytes(content)
    for read in (lambda: workdir.claim(str(tmp_path), problems.config()), lambda: saved_data.load_saved(run.data)):
        with pytest.raises(ConfigError, match=r"(config|data)\.json") as error:
            read()
        assert str(error.value).isprintable()
    assert list(history.Reports(run.metrics)) == []
    (tmp_path / "step_00000001").mkdir()
    (tmp_path / "step_00000001" / "checksums.json").write_bytes(content)
    assert checkpoint.damage(tmp_path / "step_00000001") in {
        "checksums.json cannot be read",
        "checksums.json lacks variables.index",
    }


# ---------------------------------------------------------------------------------------------------------------------
# Names and shapes that Keras or TensorFlow does not survive.
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a/b", "/"])
def test_an_input_that_keras_cannot_name(name):
    """Another model than the project's own may read it."""
    inputs = {name: tf.TensorSpec((4, 3), tf.float32)}
    with pytest.raises(ConfigError, match=f"model.name='trunk_and_heads': cannot have an input of the name '{name}'"):
        trunk_and_heads.build(problems.config().model, inputs)


def test_a_layer_that_gets_nothing():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, {"a": keras.layers.Dense(1, name="last")(inputs[:, 2:2])})
    reason = r"its variable last/kernel has the shape \(0, 1\)"
    with pytest.raises(ConfigError, match=f"model.name='mine:model': {reason}"):
        checks.variables(checkpoint.model_state(model), "mine:model")
    nothing = keras.Model(inputs, {"a": inputs[:, 2:2]})
    with pytest.raises(ConfigError, match=r"head 'a' gives \(0,\) per example: nothing"):
        checks.outputs(nothing, tf.TensorSpec((4, 4), tf.float32), "mine:model")
