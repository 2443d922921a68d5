"""Real processes: the result does not depend on the number of workers, also where a run goes on with another one."""

import functools
import io
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterable

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from tests import problems
from trainer.run import train

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


def _train(root: pathlib.Path, directory: pathlib.Path, workers: int, names: Iterable[str], **changes: object) -> None:
    """Trains these runs on so many workers."""
    runs = json.dumps({name: RUNS[name] | changes for name in names})
    command = [sys.executable, "-m", "launch.workers", f"--workers={workers}", "--"]
    command += [sys.executable, "-m", "tests.trainer.worker", str(directory), runs]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr


def _on_one_device(name: str, directory: pathlib.Path) -> pathlib.Path:
    run = directory / name
    train.train(problems.config(**RUNS[name]), str(run), problems.strategy(1), Console(file=io.StringIO()))
    return run


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A run on one device of this process, by its name."""
    directory = tmp_path_factory.mktemp("reference")
    return functools.cache(lambda name: _on_one_device(name, directory))


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


def _assert_same(run: pathlib.Path, reference: pathlib.Path, since: int = 0) -> None:
    expected, found = _numbers(reference, since), _numbers(run, since)
    assert found.keys() == expected.keys()
    assert any(key[0] == "validation" for key in found)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-9, atol=1e-9, err_msg=f"{run.name}: {key}")


@pytest.mark.parametrize(
    ("workers", "names"),
    [(2, ["pcgrad"]), *(pytest.param(workers, list(RUNS), marks=pytest.mark.ci_only) for workers in (1, 2, 3))],
)
def test_losses_metrics_and_variables(tmp_path, root, reference, workers, names):
    _train(root, tmp_path, workers, names)
    for name in names:
        _assert_same(tmp_path / name, reference(name))
    assert {path.name for path in tmp_path.iterdir()} == set(names)  # the chief's, and nobody else's


@pytest.mark.ci_only
def test_a_run_goes_on_with_another_number_of_workers(tmp_path, root, reference):
    """Three workers, then two, then one device: the same end."""
    _train(root, tmp_path, 3, RUNS, steps=7)
    _train(root, tmp_path, 2, RUNS, steps=14)
    for name in RUNS:
        _assert_same(_on_one_device(name, tmp_path), reference(name), since=STEPS)
