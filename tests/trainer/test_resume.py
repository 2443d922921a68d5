"""Runs that are interrupted, in this process and as real ones that are killed, go on exactly."""

import io
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import tensorflow as tf
from rich.console import Console

from tests import problems
from tests.trainer.output import test_history
from trainer.combine.registry import METHODS
from trainer.common.errors import ConfigError, RunError, StoppedError
from trainer.config import loading
from trainer.output import checkpoint
from trainer.run import train as train_lib

CADENCES = {"steps": 12, "report_every": 4, "eval_every": 6, "checkpoint_every": 5, "keep_checkpoints": 9}


def _train(path: pathlib.Path, replicas: int = 1, **changes) -> None:
    console = Console(file=io.StringIO())
    train_lib.train(problems.config(**CADENCES | changes), str(path), problems.strategy(replicas), console)


def results(path: pathlib.Path, step: int) -> dict[str, bytes | str]:
    """What must not depend on an interruption: every report, and every bit of the variables saved at a step."""
    return {"reports": (path / "metrics.jsonl").read_text(), **_variables(path, step)}


def _variables(path: pathlib.Path, step: int) -> dict[str, bytes]:
    reader = tf.train.load_checkpoint(str(path / "checkpoints" / f"step_{step:08d}" / "variables"))
    # The graph of objects names optimizers for how many the process has made.
    names = set(reader.get_variable_to_shape_map()) - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    return {name: reader.get_tensor(name).tobytes() for name in sorted(names)}


_WEIGHT = {"name": "polynomial_decay", "initial_learning_rate": 1.0, "decay_steps": 9, "end_learning_rate": 0.1}
_RANDOM = [{"layer": "Dense", "units": 7}, {"layer": "BatchNormalization"}, {"layer": "Dropout", "rate": 0.3}]
STATEFUL = {
    "averages, alternating losses, weights on a schedule, the best": {
        "ema": 0.9,
        "losses__number__every": 3,
        "losses__label__every": 2,
        "losses__label__offset": 1,
        "losses__vector__weight": _WEIGHT,
        "best": {"metric": "loss/label"},
        "early_stopping": {"metric": "label/accuracy", "patience": 1, "min_delta": 9.0},
    },
    "dropout and batch statistics": {"model__trunk": _RANDOM},
    "optimizers with many kinds of state": {
        "combine__apply": "per_loss",
        **{
            f"losses__{loss}__optimizer": {"name": name, "learning_rate": 0.01}
            for loss, name in zip(problems.LOSSES, ("nadam", "adafactor", "lion", "ftrl"), strict=True)
        },
    },
    **{name: {"combine__name": name, "precision": "float32"} for name in METHODS},
    "weights that last, from the features": {
        "combine__name": "pcgrad",
        "combine__update_every": 3,
        "gradients": "features",
        "precision": "float32",
    },
    "smoothed weights, per loss": {
        "combine__name": "pcgrad",
        "combine__smoothing": 0.8,
        "combine__apply": "per_loss",
        "precision": "float32",
    },
    "a loss scale, fused": {"precision": "mixed_float16", "reduction": "fused"},
    "pcgrad per loss": {"combine__name": "pcgrad", "combine__apply": "per_loss"},
}


# CI has the time for all of them; by hand a stateful method and random ones.
BY_HAND = ("famo", "pcgrad", "dropout and batch statistics")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(changes, id=name, marks=[] if name in BY_HAND else [pytest.mark.ci_only])
        for name, changes in STATEFUL.items()
    ],
)
def test_everything_with_state_comes_back(tmp_path, changes):
    _assert_goes_on_exactly(tmp_path, 2, **changes | {"dataset__options": {"missing": True}})


def _assert_goes_on_exactly(path: pathlib.Path, replicas: int, **changes) -> None:
    """Back to step 5, in the middle of a report and with an evaluation to come, as a kill there would leave it."""
    _train(path / "run", replicas, **changes)
    last = checkpoint.saved_steps(path / "run" / "checkpoints")[-1]
    expected = results(path / "run", last)
    events = sorted(test_history.events(path / "run"))
    for step in checkpoint.saved_steps(path / "run" / "checkpoints"):
        if step > 5:
            shutil.rmtree(path / "run" / "checkpoints" / f"step_{step:08d}")
    (path / "run" / "checkpoints" / ".incomplete_step_00000010").mkdir()
    _train(path / "run", replicas, **changes)
    assert results(path / "run", last) == expected
    assert sorted(test_history.events(path / "run")) == events
    assert not list((path / "run" / "checkpoints").glob(".incomplete*"))


def test_a_damaged_checkpoint_costs_only_its_steps(tmp_path):
    _train(tmp_path / "run")
    expected = results(tmp_path / "run", 12)
    (data,) = (tmp_path / "run" / "checkpoints" / "step_00000012").glob("*.data-*")
    data.write_bytes(data.read_bytes()[:-1])
    _train(tmp_path / "run")
    assert results(tmp_path / "run", 12) == expected
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "step_00000012 is damaged" in log
    assert "from step 10 of 12 steps" in log


def test_more_steps(tmp_path):
    """A run that is made longer ends as one that was long from the start; a schedule over the run forbids it."""
    _train(tmp_path / "long", steps=20)
    _train(tmp_path / "run", steps=10)
    _train(tmp_path / "run", steps=20)
    assert _variables(tmp_path / "run", 20) == _variables(tmp_path / "long", 20)
    with pytest.raises(ConfigError, match="steps=15: the run in .* has taken 20 steps already"):
        _train(tmp_path / "run", steps=15)
    cosine = {"name": "adam", "learning_rate": {"name": "cosine_decay", "initial_learning_rate": 0.01}}
    _train(tmp_path / "cosine", shared_optimizer=cosine)
    with pytest.raises(ConfigError, match=r"steps is 12 there and 13 here \(a schedule depends on it\)"):
        _train(tmp_path / "cosine", shared_optimizer=cosine, steps=13)


def test_a_finished_run_whose_reports_are_gone(tmp_path):
    _train(tmp_path / "run")
    last = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1]
    (tmp_path / "run" / "metrics.jsonl").unlink()
    _train(tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_text().splitlines() == [last]


def test_cadences_may_change(tmp_path):
    _train(tmp_path / "run", steps=6)
    _train(tmp_path / "run", steps=12, report_every=1, eval_every=3, checkpoint_every=3, steps_per_loop=2)
    assert loading.load_saved(tmp_path / "run" / "config.json").report_every == 1
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["split"] == "train"] == [4, 6, 7, 8, 9, 10, 11, 12]


@pytest.mark.ci_only
def test_ways_to_compute_the_same_may_change(tmp_path):
    """A run per loss goes on fused, recomputed and in several collectives, with the same masks and statistics."""
    trunk = {"model__trunk": _RANDOM}
    _train(tmp_path / "plain", 2, **trunk)
    _train(tmp_path / "run", 2, **trunk, steps=5)
    _train(tmp_path / "run", 2, **trunk, reduction="fused", probe_every=4, model__recompute=True, bytes_per_pack=64)
    plain, run = (
        tf.train.load_checkpoint(str(tmp_path / name / "checkpoints" / "step_00000012" / "variables"))
        for name in ("plain", "run")
    )
    assert plain.get_variable_to_shape_map().keys() == run.get_variable_to_shape_map().keys()
    for key in plain.get_variable_to_shape_map():
        if key.startswith(("model/", "optimizers/")):
            assert run.get_tensor(key) == pytest.approx(plain.get_tensor(key), rel=0, abs=1e-9), key


def test_another_number_of_replicas(tmp_path):
    _train(tmp_path / "one")
    _train(tmp_path / "run", 3, steps=5)
    _train(tmp_path / "run", 2)
    last = {}
    for name in ("one", "run"):
        reader = tf.train.load_checkpoint(str(tmp_path / name / "checkpoints" / "step_00000012" / "variables"))
        last[name] = {key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map() if "model/" in key}
    for key, value in last["one"].items():
        assert last["run"][key] == pytest.approx(value, rel=0, abs=1e-9)


def test_the_best_checkpoint_stays(tmp_path):
    """With one checkpoint to keep, the best one stays beside the last."""
    best = {"metric": "loss/label", "mode": "max"}  # the first, untrained one
    changes = {"steps": 12, "eval_every": 2, "checkpoint_every": 12, "keep_checkpoints": 1}
    _train(tmp_path / "run", **changes, best=best)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["loss/label"] for row in rows if row["split"] == "validation"}
    expected = max(losses, key=losses.get)
    assert expected < 12
    assert checkpoint.saved_steps(tmp_path / "run" / "checkpoints") == sorted({expected, 12})


def test_early_stopping_ends_the_run_for_good(tmp_path):
    early = {"metric": "loss/label", "patience": 2, "min_delta": 100.0}
    for _ in range(2):
        _train(tmp_path / "run", steps=40, eval_every=3, early_stopping=early)
        rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        assert (rows[-1]["step"], rows[-1]["split"]) == (9, "validation")
        assert checkpoint.saved_steps(tmp_path / "run" / "checkpoints")[-1] == 9
        assert "Validation after 9 steps" in (tmp_path / "run" / "report.md").read_text()


@pytest.mark.parametrize(
    ("metric", "mode", "words"),
    [
        ("loss/lable", "auto", "best.metric='loss/lable'.*did you mean 'loss/label'"),
        ("label/accuracy", "up", "best.mode='up'.*auto, max, min"),
    ],
)
def test_a_metric_that_is_not_there(tmp_path, metric, mode, words):
    with pytest.raises(ConfigError, match=words):
        _train(tmp_path / "run", best={"metric": metric, "mode": mode})
    assert not (tmp_path / "run").exists()


def test_variables_that_are_not_finite_are_not_saved(tmp_path):
    """The step that spoils them comes right before a checkpoint and no evaluation."""
    weight = {"name": "piecewise_constant_decay", "boundaries": [4], "values": [1e-5, 3e38]}
    with pytest.raises(RunError, match="step 6: variable trunk_0_dense/.* became non-finite"):
        _train(
            tmp_path / "run",
            **{f"losses__{name}__weight": weight for name in problems.LOSSES},
            shared_optimizer={"name": "sgd", "learning_rate": 1e3},
            precision="float32",
            checkpoint_every=3,
            keep_checkpoints=1,
            eval_every=12,
        )
    assert checkpoint.saved_steps(tmp_path / "run" / "checkpoints") == [3]


# ---------------------------------------------------------------------------------------------------------------------
# Writing while training goes on.
# ---------------------------------------------------------------------------------------------------------------------


class _Screen(io.StringIO):
    """Calls functions when it shows their words for the first time."""

    def __init__(self, functions: dict[str, Callable[[], object]]):
        super().__init__()
        self._functions = functions

    def write(self, text: str) -> int:
        for words in [words for words in self._functions if words in text]:
            self._functions.pop(words)()
        return super().write(text)


def _slow_saves(monkeypatch: pytest.MonkeyPatch, wait: Callable[[], object]) -> list[str]:
    """Makes every save wait first; returns a list that gets the names of what was written."""
    written, save = [], checkpoint.save

    def slow(directory: pathlib.Path, step: int, saved: checkpoint.Snapshot) -> None:
        wait()
        written.append(save(directory, step, saved).name)

    monkeypatch.setattr(checkpoint, "save", slow)
    return written


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    """The checkpoint of step 6 is not written before step 10 is shown, and holds the values of step 6 all the same."""
    config = problems.config(**CADENCES | {"report_every": 2, "eval_every": 12, "checkpoint_every": 6})
    train_lib.train(config, str(tmp_path / "whole"), problems.strategy(1), Console(file=io.StringIO()))
    shown = threading.Event()
    written = _slow_saves(monkeypatch, lambda: shown.wait(60) or pytest.fail("step 10 waits for the checkpoint"))
    screen = Console(file=_Screen({"step 10/12  train": shown.set}))
    train_lib.train(config, str(tmp_path / "run"), problems.strategy(1), screen)
    assert written == ["step_00000006", "step_00000012"]
    for step in (6, 12):
        assert results(tmp_path / "run", step) == results(tmp_path / "whole", step)


def test_a_signal_waits_for_the_checkpoint(tmp_path, monkeypatch):
    """That a step is saved is said only when it is."""
    written = _slow_saves(monkeypatch, lambda: time.sleep(0.3))
    said = []
    stop = {" 4/12  train": lambda: os.kill(os.getpid(), signal.SIGTERM), "is saved": lambda: said.extend(written)}
    config = problems.config(**CADENCES | {"checkpoint_every": 12, "eval_every": 12})
    with pytest.raises(StoppedError) as stopped:
        train_lib.train(config, str(tmp_path / "run"), problems.strategy(1), Console(file=_Screen(stop), width=200))
    assert stopped.value.code == 42
    (last,) = said
    assert last == f"step_{checkpoint.saved_steps(tmp_path / 'run' / 'checkpoints')[-1]:08d}"


def test_a_log_on_a_full_disk(tmp_path):
    """An error on the writing thread ends the run as any other; nothing that comes after it is written."""
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    _train(tmp_path / "run", steps=5)
    expected = results(tmp_path / "run", 5)
    (tmp_path / "run" / "log.txt").unlink()
    (tmp_path / "run" / "log.txt").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"^cannot write: No space left on device$"):
        _train(tmp_path / "run")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("writer")]
    assert results(tmp_path / "run", 5) == expected
    assert checkpoint.saved_steps(tmp_path / "run" / "checkpoints") == [5]


# ---------------------------------------------------------------------------------------------------------------------
# Real processes.
# ---------------------------------------------------------------------------------------------------------------------

_STEPS = 600
_CONFIG = """
import ml_collections
from tests import problems


def get_config():
    return ml_collections.ConfigDict(problems.tree(
        precision="float32", steps={steps}, report_every=40, eval_every=100, checkpoint_every=11, steps_per_loop=5,
    ))
"""


@pytest.fixture
def start(tmp_path, root):
    """Starts the trainer on a small problem in a process of its own."""
    (tmp_path / "config.py").write_text(_CONFIG.format(steps=_STEPS))
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"}
    running = []

    def start(workdir: str, *flags: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "trainer.main", "--config=config.py", f"--workdir={workdir}", *flags]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def _finish(process: subprocess.Popen) -> str:
    output, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, "")
    return output


def _wait_for_training(process: subprocess.Popen) -> None:
    assert " steps on " in process.stdout.readline(), process.communicate()[1]


@pytest.mark.ci_only
@pytest.mark.parametrize("combine", ["famo", "pcgrad", "independent"])
def test_killed_at_five_random_moments(tmp_path, start, combine):
    """SIGKILL between, in and after steps, reports, evaluations and saves: the same bits as never interrupted."""
    _finish(start("whole", f"--combine={combine}"))
    moments = random.Random(combine)
    for _ in range(5):
        process = start("killed", f"--combine={combine}")
        _wait_for_training(process)
        time.sleep(moments.uniform(0, 1.2))
        process.kill()
        process.wait()
    _finish(start("killed", f"--combine={combine}"))
    assert results(tmp_path / "killed", _STEPS) == results(tmp_path / "whole", _STEPS)
    assert sorted(test_history.events(tmp_path / "killed")) == sorted(test_history.events(tmp_path / "whole"))
    assert (tmp_path / "killed" / "log.txt").read_text().count(" steps on ") >= 6


def test_signals_save_and_the_lock_holds(tmp_path, start, root):
    """SIGTERM, SIGUSR1 and SIGINT save and end with their codes; meanwhile the workdir is taken."""
    for number, code in ((signal.SIGTERM, 42), (signal.SIGUSR1, 42), (signal.SIGINT, 130)):
        process = start("run", "--config.steps=100000")
        _wait_for_training(process)
        if number == signal.SIGTERM:
            other = start("run", "--config.steps=100000")
            _, errors = other.communicate(timeout=60)
            assert other.returncode == 2
            assert f"--workdir='run': another run is using it (process {process.pid} on " in errors
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (code, "")
        assert f"stopped by {number.name}" in output
        step = checkpoint.saved_steps(tmp_path / "run" / "checkpoints")[-1]
        assert f"step {step} is saved" in output
    process = start("run", "--config.steps=100000")
    assert f"from step {step} of" in process.stdout.readline()


def test_a_second_interrupt_ends_at_once(tmp_path, start):
    """Even within an in-graph loop that would take minutes, in which Python's own handlers cannot run."""
    long = [f"--config.{key}=10000000" for key in ("steps", "steps_per_loop", "report_every", "eval_every")]
    process = start("run", *long, "--config.checkpoint_every=10000000")
    _wait_for_training(process)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.wait(timeout=5)
    assert process.returncode == 130
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.fixture
def small_disk(tmp_path) -> Iterator[pathlib.Path]:
    """A script that runs its arguments on a disk of their own (`$DISK`), and where the disk's files are afterwards."""
    probe = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("needs Linux namespaces (unshare --map-root-user --mount) for a file system of its own")
    return tmp_path


def _on_disk(path: pathlib.Path, root: pathlib.Path, script: str) -> list[str]:
    """Runs a script with a file system of its own mounted at `disk`; returns its lines."""
    (path / "disk").mkdir()
    (path / "config.py").write_text(_CONFIG.format(steps=_STEPS))
    environment = os.environ | {"PYTHONPATH": str(root)}
    train = f"{sys.executable} -m trainer.main --config=config.py --workdir=disk/run --config.keep_checkpoints=99"
    script = f'set -u; train="{train}"\n{script}'
    command = ["unshare", "--map-root-user", "--mount", "bash", "-c", script]
    result = subprocess.run(command, cwd=path, env=environment, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in result.stderr
    return result.stdout.splitlines() + result.stderr.splitlines()


@pytest.mark.ci_only
def test_a_disk_that_fills_during_a_save(small_disk, start, root):
    """One line and exit code 1; with room again the run goes on from its last checkpoint to the same end."""
    _finish(start("whole"))
    lines = _on_disk(
        small_disk,
        root,
        """
        mount -t tmpfs -o size=400k tmpfs disk
        $train >/dev/null; echo code $?
        mount -o remount,size=100m disk
        $train >/dev/null; echo code $?
        cp -r disk/run after
        """,
    )
    assert lines[:2] == ["code 1", "code 0"]
    (error,) = lines[2:]
    assert error.startswith("error: ")
    assert "No space left on device" in error
    assert results(small_disk / "after", _STEPS) == results(small_disk / "whole", _STEPS)


@pytest.mark.ci_only
def test_a_disk_that_becomes_read_only(small_disk, root):
    """One line and exit code 1 while the run goes, 2 when it cannot even start; nothing good is lost."""
    lines = _on_disk(
        small_disk,
        root,
        """
        mount -t tmpfs tmpfs disk
        $train --config.steps=1000000 >/dev/null & pid=$!
        until [ -d disk/run/checkpoints/step_00000011 ]; do sleep 0.05; done
        mount --bind disk/run/checkpoints disk/run/checkpoints
        mount -o remount,ro,bind disk/run/checkpoints
        wait $pid; echo code $?
        mount --bind disk/run disk/run; mount -o remount,ro,bind disk/run
        $train --config.steps=1000000 >/dev/null; echo code $?
        umount disk/run disk/run/checkpoints
        last=$(ls disk/run/checkpoints | sed s/step_0*// | sort -n | tail -n 1)
        $train --config.steps=$((last + 20)) >/dev/null; echo code $?
        cp -r disk/run after; echo $((last + 20))
        """,
    )
    *codes, last = lines[:4]
    assert codes == ["code 1", "code 2", "code 0"]
    for error in lines[4:]:
        assert error.startswith("error: ")
        assert "Read-only file system" in error
    assert len(lines) == 6
    assert checkpoint.newest_good(small_disk / "after" / "checkpoints", pytest.fail).name == f"step_{int(last):08d}"
