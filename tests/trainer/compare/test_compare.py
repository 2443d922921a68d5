"""The command: ordinary runs in processes of their own, which are killed, stopped, and continued."""

import json
import os
import pathlib
import shlex
import shutil
import signal
import time

import pytest

from tests import config_files, forked
from tests.readmes import COMPARISONS
from tests.trainer.compare.conftest import METHODS, REFUSED, SEEDS, TREE
from trainer.compare import collected

_SECONDS = 120


def _reports(run: pathlib.Path) -> str:
    return (run / "metrics.jsonl").read_text()


def test_every_run_is_there_and_a_method_that_cannot_run_says_why(compared):
    assert compared.result.returncode == 1
    failed = f"{REFUSED} (seed 0), {REFUSED} (seed 1)"
    assert compared.result.stderr == f"error: these runs failed, and the report says why: {failed}\n"
    lines = compared.result.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines if ", seed " in line] == [
        f"{method}, seed {seed}" for method in METHODS for seed in SEEDS
    ]
    found = {cell.name: cell for cell in collected.read(compared.workdir).cells}
    assert list(found) == [*METHODS, REFUSED]
    for name in METHODS:
        assert not found[name].failures
        for seed in SEEDS:
            run = found[name].runs[seed]
            assert (run.method, run.seed, run.last_step, run.is_complete) == (name, seed, 40, True)
    assert not found[REFUSED].runs
    assert all(found[REFUSED].failures[seed].startswith("micro_batches=2: must be 1") for seed in SEEDS)


def test_a_run_is_the_one_that_the_trainer_makes(compared, root, tmp_path):
    """Also the second one of a process."""
    flags = (f"--config={compared.config}", "--combine=sum", "--config.seed=1", f"--workdir={tmp_path / 'run'}")
    assert forked.run("trainer.main", *flags, cwd=root).returncode == 0
    assert _reports(tmp_path / "run") == _reports(compared.workdir / "sum" / "seed_1")
    assert (tmp_path / "run" / "config.json").read_text() == (
        compared.workdir / "sum" / "seed_1" / "config.json"
    ).read_text()
    flags = ("--mode=eval", "--trust=tests", f"--workdir={compared.workdir / 'sum' / 'seed_1'}")
    evaluated = forked.run("trainer.main", *flags, cwd=root)
    assert (evaluated.returncode, evaluated.stderr) == (0, "")


def test_methods_are_timed_alone(compared):
    timing = collected.read_timing(compared.workdir)
    assert list(timing) == [*METHODS, REFUSED]
    for method in METHODS:
        assert 0 < timing[method].seconds_per_step < 10
        assert timing[method].memory > 2**27  # TensorFlow alone takes more
    assert timing[REFUSED].failure.startswith("micro_batches=2")


def test_killed_it_loses_the_run_in_hand_at_most(compared, root, tmp_path):
    workdir, flags = tmp_path / "all", [*compared.flags[:-1], f"--workdir={tmp_path / 'all'}", "--timed_steps=0"]
    in_hand = workdir / "sum" / "seed_1"
    with forked.started("trainer.compare", *flags, cwd=root) as program:
        wait_for(in_hand / "config.json")
        program.kill()
    wait_for_end(in_hand)
    first = workdir / "sum" / "seed_0"
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    assert forked.run("trainer.compare", *flags, cwd=root).returncode == 1
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == before
    for method in METHODS:
        for seed in SEEDS:
            run = pathlib.Path(method, f"seed_{seed}")
            assert _reports(workdir / run) == _reports(compared.workdir / run)


def wait_for(path: pathlib.Path) -> None:
    """Waits until a file is there."""
    deadline = time.monotonic() + _SECONDS
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_for_end(run: pathlib.Path) -> None:
    """Waits until the process that has written to a run's lock is gone."""
    number = int((run / "lock").read_text().split()[1])
    deadline = time.monotonic() + _SECONDS
    while pathlib.Path("/proc", str(number)).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kill(run, step, report, *, method: str, seed: int) -> None:
    """A hook that ends the process in the middle of one run."""
    if (run.config["combine"]["name"], run.config["seed"], step) == (method, seed, 20):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.ci_only
def test_losses_alone_a_crash_and_more_seeds(root, tmp_path):
    """A run whose process dies says so, and all others are trained."""
    hook = {"name": "tests.trainer.compare.test_compare:kill", "method": "sum", "seed": 0}
    config = tmp_path / "config.py"
    config.write_text(config_files.text(TREE | {"hooks": [hook]}))
    flags = (f"--config={config}", "--single_task", "--timed_steps=0", f"--workdir={tmp_path / 'all'}", "--combine=sum")
    result = forked.run("trainer.compare", *flags, "--seeds=2", cwd=root)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "sum (seed 0)" in result.stderr
    whole, label, number = collected.read(tmp_path / "all").cells
    assert list(whole.failures) == [0]
    assert whole.failures[0].startswith("SIGKILL ended its process, perhaps for want of memory; ")
    assert whole.runs[1].is_complete
    for cell, loss, watched in ((label, "label", "label/accuracy"), (number, "number", "loss/number")):
        assert (cell.single_task, list(cell.failures)) == (loss, [])
        for run in cell.runs.values():
            assert (run.is_complete, run.losses) == (True, (loss,))
            assert run.config["best"]["metric"] == watched
    results = json.loads((tmp_path / "all" / "results.json").read_text())
    assert results["baseline"]


@pytest.mark.ci_only
def test_the_commands_of_the_page(root, tmp_path):
    """With fewer steps and seeds than they have, and without timing."""
    shutil.copy(root / "configs" / "diabetes.csv", tmp_path)
    first, second = (shlex.split(command)[3:] for command in COMPARISONS)
    first = [each.replace("configs/", f"{root}/configs/") for each in first]
    few = ("--seeds=1", "--timed_steps=0", "--config.steps=20")
    assert forked.run("trainer.compare", *first, *few, cwd=tmp_path).returncode == 0
    for folder in ("weighted", "pcgrad", "single_task=progression", "single_task=high_pressure"):
        assert (tmp_path / "runs" / "compared" / folder / "seed_0" / "report.md").exists()
    assert forked.run("trainer.compare", *second, cwd=tmp_path).returncode == 0
    both = [json.loads((tmp_path / "runs" / each / "results.json").read_text()) for each in ("compared", "first_seeds")]
    assert both[0]["baseline"] == both[1]["baseline"] == "single task"
    values = [{cell["name"]: cell["estimates"] for cell in each["cells"]} for each in both]
    assert values[0] == values[1]
