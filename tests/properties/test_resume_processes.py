"""Real processes that are killed, signalled or run out of disk, and resume exactly."""

import contextlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests import forked
from tests.properties.interrupted import CONFIG, STEPS, results
from tests.properties.soak import TRAINING, Soak
from trainer.output import checkpoint

CI = os.environ.get("CI") == "true"


@pytest.fixture
def start(tmp_path):
    """Starts the trainer on a small problem in a process of its own."""
    (tmp_path / "config.py").write_text(CONFIG)
    with contextlib.ExitStack() as stack:

        def start(workdir: str, *flags: str) -> forked.Program:
            command = ["trainer.main", "--config=config.py", f"--workdir={workdir}", *flags]
            return stack.enter_context(forked.started(*command, cwd=tmp_path))

        yield start


def _wait_for_training(process: forked.Program) -> None:
    """Waits until the process is about to take its first step."""
    assert process.prints(TRAINING), process.wait().stderr


def _train_whole(path: pathlib.Path, *flags: str) -> None:
    """The run `whole` of the same program, without an interruption."""
    result = forked.run("trainer.main", "--config=config.py", "--workdir=whole", *flags, cwd=path)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "kills"),
    [
        ("early stopping, the best", 2 if CI else 1),
        pytest.param("statistics of two replicas, dropout", 3, marks=pytest.mark.ci_only),
        pytest.param("smoothed coefficients, an optimizer of another kind for each loss", 3, marks=pytest.mark.ci_only),
    ],
)
def test_killed_at_random_moments(tmp_path, name, kills):
    """SIGKILL between, in and after steps, reports, evaluations and saves: the same bits as never interrupted."""
    assert not Soak(tmp_path, name, random.Random(0)).strike(kills)[1]


def test_signals_save_and_the_lock_holds(tmp_path, start):
    """Each saves and ends with its code, and the next run resumes there; meanwhile the workdir is taken."""
    step = None
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 42), (signal.SIGUSR1, 42))[: 3 if CI else 2]:
        process = start("run", "--config.steps=100000")
        _wait_for_training(process)
        if number == signal.SIGTERM:
            other = start("run", "--config.steps=100000").wait(60)
            assert other.returncode == 2
            assert f"--workdir='run': another run is using it (process {process.pid} on " in other.stderr
        process.send_signal(number)
        ended = process.wait(60)
        assert (ended.returncode, ended.stderr) == (code, "")
        (first,) = (line for line in ended.stdout.splitlines() if TRAINING in line)
        assert f"from step {step} of" in first if step else "from step" not in first
        assert f"stopped by {number.name}" in ended.stdout
        step = checkpoint.saved_steps(tmp_path / "run" / "checkpoints")[-1]
        assert f"step {step} is saved" in ended.stdout


def test_a_second_interrupt_ends_at_once(tmp_path, start):
    """Even within an in-graph loop that would take minutes, in which Python's own handlers cannot run."""
    long = [f"--config.{key}=10000000" for key in ("steps", "steps_per_loop", "report_every", "eval_every")]
    process = start("run", *long, "--config.checkpoint_every=10000000")
    _wait_for_training(process)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.running
    process.send_signal(signal.SIGINT)
    assert process.wait(5).returncode == 130
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.fixture
def small_disk(tmp_path) -> pathlib.Path:
    """A folder in which something can be mounted, with a configuration."""
    probe = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("needs Linux namespaces (unshare --map-root-user --mount) for a file system of its own")
    (tmp_path / "config.py").write_text(CONFIG)
    return tmp_path


def _on_disk(path: pathlib.Path, root: pathlib.Path, script: str) -> list[str]:
    """Runs a script with a file system of its own mounted at `disk`; returns its lines."""
    (path / "disk").mkdir()
    environment = os.environ | {"PYTHONPATH": str(root)}
    train = f"{sys.executable} -m trainer.main --config=config.py --workdir=disk/run --config.keep_checkpoints=99"
    script = f'set -u; train="{train}"\n{script}'
    command = ["unshare", "--map-root-user", "--mount", "bash", "-c", script]
    result = subprocess.run(command, cwd=path, env=environment, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in result.stderr
    return result.stdout.splitlines() + result.stderr.splitlines()


@pytest.mark.ci_only
def test_a_disk_that_fills_during_a_save(small_disk, root):
    """One line and exit code 1; with room again the run resumes from its last checkpoint to the same end."""
    _train_whole(small_disk)
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
    assert results(small_disk / "after", STEPS) == results(small_disk / "whole", STEPS)


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
