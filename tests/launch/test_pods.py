"""launch/kubernetes's pods, as its manifests and its image say, in namespaces of this machine instead of a cluster."""

import json
import pathlib
import signal
import time

import pytest
import yaml

from tests.launch import pods
from tests.launch.small import SMALL

pytestmark = pytest.mark.ci_only
FLAGS = (*SMALL, "--config.steps_per_loop=5", "--config.report_every=5")


@pytest.fixture(scope="module")
def job_set(root) -> dict:
    if reason := pods.missing():
        pytest.skip(reason)
    return yaml.safe_load((root / "launch" / "kubernetes" / "jobset.yaml").read_text())


@pytest.fixture
def volume(tmp_path) -> pathlib.Path:
    """A folder that stands for the workdir's volume."""
    return tmp_path


def _steps(volume: pathlib.Path) -> list[int]:
    path = volume / "run" / "metrics.jsonl"
    if not path.exists():
        return []
    reports = [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [report["step"] for report in reports if report["split"] == "train"]


def test_preempted_and_restarted(job_set, root, volume):
    """The signal of an eviction, to the worker that does not write: all end with 42; started again, they finish."""
    with pods.start(job_set, root, volume, [*FLAGS, "--config.steps=1000000"]) as running:
        end = time.monotonic() + 240
        while not _steps(volume) and time.monotonic() < end:
            time.sleep(0.2)
            assert all(process.poll() is None for process in running.processes)
        running.signal(1, signal.SIGTERM)
        told = time.monotonic()
        results = running.wait(120)
        seconds = time.monotonic() - told
    assert [code for code, _ in results] == [42, 42], results
    assert (
        seconds
        < job_set["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    )
    saved = max(int(path.name.removeprefix("step_")) for path in (volume / "run" / "checkpoints").glob("step_*"))
    assert saved > 0

    with pods.start(job_set, root, volume, [*FLAGS, f"--config.steps={saved + 20}"]) as running:
        results = running.wait(300)
    assert [code for code, _ in results] == [0, 0], results
    assert f"from step {saved}" in results[0][1]
    assert _steps(volume)[-1] == saved + 20
    assert (volume / "run" / "report.md").exists()
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in volume.rglob("*")}
    assert owners == {(10001, 10001)}


def test_a_wrong_flag_is_not_worth_a_restart(job_set, root, volume):
    with pods.start(job_set, root, volume, ["--config.batch_size=-1"]) as running:
        results = running.wait(120)
    codes = [code for code, _ in results]
    # The first one that ends makes the job's controller stop the other, which may not have come so far.
    assert 2 in codes, results
    assert set(codes) <= {2, 128 + signal.SIGTERM}, results
    for code, output in results:
        if code == 2:
            assert output.count("\n") == 1
            assert output.startswith("error: batch_size")
