"""Real processes: the result does not depend on the number of workers, also where a run goes on with another one."""

import io
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from tests import problems
from trainer import loop

STEPS = 20
CADENCES = {"steps": STEPS, "report_every": 4, "eval_every": 10, "checkpoint_every": 7, "keep_checkpoints": 9}
# 11 examples do not divide by 2 or 3; numbers are so rare that some steps have none at all.
RUNS = {
    name: CADENCES | {"combine__name": name, "dataset__options": {"missing": True}}
    for name in ("weighted", "pcgrad", "independent", "famo", "moco")
}
RUNS["batch statistics"] = CADENCES | {
    "batch_size": 12,
    "model__trunk": [{"layer": "Dense", "units": 7}, {"layer": "BatchNormalization", "synchronized": True}],
}


def _train(root: pathlib.Path, directory: pathlib.Path, workers: int, **changes: object) -> None:
    """Trains every run on so many workers."""
    runs = json.dumps({name: run | changes for name, run in RUNS.items()})
    command = [sys.executable, "-m", "launch.workers", f"--workers={workers}", "--"]
    command += [sys.executable, "-m", "tests.trainer.worker", str(directory), runs]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Every run on one device of this process."""
    directory = tmp_path_factory.mktemp("reference")
    for name, changes in RUNS.items():
        loop.train(problems.config(**changes), str(directory / name), problems.strategy(1), Console(file=io.StringIO()))
    return directory


def _numbers(run: pathlib.Path, since: int) -> dict[str, np.ndarray]:
    """Every number that the run has reported from a step on, and every variable of its last checkpoint."""
    numbers = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        at = (row.pop("split"), row["step"])
        if row["step"] >= since:
            numbers |= {(*at, name): np.nan if value is None else value for name, value in row.items()}
    reader = tf.train.load_checkpoint(str(run / "checkpoints" / f"step_{STEPS:08d}" / "variables"))
    names = set(reader.get_variable_to_shape_map()) - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    return numbers | {name: reader.get_tensor(name) for name in names}


def _assert_same(directory: pathlib.Path, reference: pathlib.Path, since: int = 0) -> None:
    assert {path.name for path in directory.iterdir()} == set(RUNS)
    for name in RUNS:
        expected, found = _numbers(reference / name, since), _numbers(directory / name, since)
        assert found.keys() == expected.keys()
        assert any(key[0] == "validation" for key in found)
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-9, atol=1e-9, err_msg=f"{name}: {key}")


@pytest.mark.ci_only
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_losses_metrics_and_variables(tmp_path, root, reference, workers):
    _train(root, tmp_path, workers)
    _assert_same(tmp_path, reference)


def test_a_run_goes_on_with_another_number_of_workers(tmp_path, root, reference):
    """Three workers, then two, then one device: the same end."""
    _train(root, tmp_path, 3, steps=7)
    _train(root, tmp_path, 2, steps=14)
    for name, changes in RUNS.items():
        loop.train(problems.config(**changes), str(tmp_path / name), problems.strategy(1), Console(file=io.StringIO()))
    _assert_same(tmp_path, reference, since=STEPS)
