"""Real processes: the result does not depend on the number of workers, also where a run resumes with another one."""

import functools
import io
import json
import os
import pathlib
import re
import shutil
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from tests import problems
from tests.launch.launched import train
from trainer.config import loading
from trainer.run import train as train_lib

STEPS = 20
INTERVALS = {"steps": STEPS, "report_every": 4, "eval_every": 10, "checkpoint_every": 7, "keep_checkpoints": 9}
CI = os.environ.get("CI") == "true"
# 11 examples do not divide by 2 or 3; numbers are so rare that some steps have none at all.
RUNS = {
    name: INTERVALS | {"combine__name": name, "dataset__options": {"missing": True}}
    for name in ("weighted", "pcgrad", "independent", "famo", "moco")
}
for _name in ("pcgrad", "famo", "moco"):  # the optimizers' own state is in the others
    RUNS[_name] |= problems.SIMPLE
# Reported by segment, and of training since the last report, in the middle of which another number of workers resumes.
RUNS["weighted"] |= {"segments": {"by": "label"}, "train_metrics": True}
# Examples are compared with those of other workers, and 29 of an evaluation are not shared evenly.
RUNS["pcgrad"]["losses__place"] = {
    "head": "vector",
    "target": "label",
    "loss": "tests.problems:triplet",
    "over": "global_batch",
}
# Rates fall after steps 10 and 15, by a value of step 5 that workers which resume from step 7 have not seen.
RUNS["independent"] |= {
    "eval_every": 5,
    "learning_rate_factors": {"trunk_*": 0.5},
    "reduce_on_plateau": {"metric": "loss/label", "factor": 0.5, "patience": 1, "min_delta": 100.0},
}
RUNS["batch statistics"] = INTERVALS | {
    "batch_size": 12,
    "model__trunk": [{"layer": "Dense", "units": 7}, {"layer": "BatchNormalization", "synchronized": True}],
}
# Every replica has its own: two of this process begin, two workers resume.
STATISTICS = INTERVALS | {"model__trunk": [{"layer": "Dense", "units": 7}, {"layer": "BatchNormalization"}]}
COMPILED = INTERVALS | problems.SIMPLE | {"compile": "auto"}
NAMES = list(RUNS) if CI else ["pcgrad"]
ALONE = ("pcgrad", "famo", "batch statistics")  # one of each kind, where a worker has no other to talk to
RESUMED = [name for name in NAMES if name != "pcgrad"]  # those that remember more than variables


def _begun_by(workers: int) -> list[str]:
    """Names of the runs that this number of workers trains from their first step on."""
    if workers == 1:
        return [name for name in NAMES if name in ALONE]
    return [name for name in NAMES if workers != 2 or name not in RESUMED]


def _on_one_device(name: str, directory: pathlib.Path) -> pathlib.Path:
    return _in_this_process(directory / name, RUNS[name], 1)


def _in_this_process(run: pathlib.Path, changes: dict[str, Any], replicas: int) -> pathlib.Path:
    train_lib.train(problems.config(**changes), str(run), problems.strategy(replicas), Console(file=io.StringIO()))
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
    names = {name for name in names if not name.startswith("train_metrics/")}  # of each replica
    return numbers | {name: reader.get_tensor(name) for name in names}


def _assert_same(run: pathlib.Path, reference: pathlib.Path, since: int = 0) -> None:
    expected, found = _numbers(reference, since), _numbers(run, since)
    assert found.keys() == expected.keys()
    assert any(key[0] == "validation" for key in found)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-9, atol=1e-9, err_msg=f"{run.name}: {key}")


def _until(step: int, run: pathlib.Path, place: pathlib.Path) -> None:
    """A copy of a run as a kill would leave it that had just saved this step."""
    shutil.copytree(run, place)
    for folder in (place / "checkpoints").iterdir():
        if int(folder.name.removeprefix("step_")) > step:
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def statistics(tmp_path_factory):
    """A run on two replicas of this process, each with statistics of its own."""
    return _in_this_process(tmp_path_factory.mktemp("reference") / "statistics", STATISTICS, 2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, root, statistics):
    """A function from a number of workers to the folder of runs that they trained in one launch.

    Two workers begin one run and resume that of `statistics`; in CI also what three began of all others.
    """

    @functools.cache
    def by(workers: int) -> pathlib.Path:
        directory = tmp_path_factory.mktemp(f"by_{workers}")
        runs = {name: RUNS[name] for name in _begun_by(workers)}
        if workers == 2:
            _until(7, statistics, directory / "statistics")
            runs["statistics"] = STATISTICS
        if workers == 2 and CI:
            for name in RESUMED:
                _until(7, by(3) / name, directory / f"{name}, later")
            runs |= {f"{name}, later": RUNS[name] for name in RESUMED} | {"compiled": COMPILED}
        train(root, directory, workers, runs)
        assert {path.name for path in directory.iterdir()} == set(runs)  # the chief's, and nobody else's
        return directory

    return by


@pytest.mark.parametrize("workers", [2, *(pytest.param(workers, marks=pytest.mark.ci_only) for workers in (1, 3))])
def test_losses_metrics_and_variables(trained, reference, workers):
    """Two workers begin one run; of all others the test below compares what they compute from step 8 on."""
    for name in _begun_by(workers):
        _assert_same(trained(workers) / name, reference(name))


def test_every_worker_has_its_own_statistics_again(trained, statistics):
    """And all of them are saved."""
    _assert_same(trained(2) / "statistics", statistics)
    assert [name for name in _numbers(statistics, STEPS) if "replicas/" in name]


@pytest.mark.ci_only
def test_a_run_goes_on_with_another_number_of_workers(tmp_path, trained, reference):
    """Three workers until step 7, then two until step 14, then one device: the same end."""
    for name in RESUMED:
        later = trained(2) / f"{name}, later"
        _assert_same(later, reference(name), since=8)
        _until(14, later, tmp_path / name)
        _assert_same(_on_one_device(name, tmp_path), reference(name), since=STEPS)


@pytest.mark.ci_only
def test_all_workers_take_the_way_to_compile_that_the_chief_finds(trained, tmp_path):
    """Others would wait for ever in a collective."""
    run = trained(2) / "compiled"
    assert "compile: loop cannot be taken: it is for one device, and there are 2\n" in (run / "log.txt").read_text()
    assert loading.load_saved(run / "config.json").compile in ("off", "passes")
    _assert_same(run, _in_this_process(tmp_path / "alone", INTERVALS | problems.SIMPLE, 1))


@pytest.mark.ci_only
def test_all_workers_begin_with_the_values_that_the_chief_reads(tmp_path, root):
    """As one device does; where they do not fit, all end with the same line."""
    _in_this_process(tmp_path / "before", INTERVALS | problems.SIMPLE, 1)
    changes = {"init_from": {"path": str(tmp_path / "before"), "only": ["trunk*"]}, "freeze": ["trunk*"], "ema": 0.9}
    changes = INTERVALS | problems.SIMPLE | changes
    wide = [{"layer": "Dense", "units": 8, "activation": "tanh", "use_bias": False}]
    (tmp_path / "by 2").mkdir()
    with pytest.raises(AssertionError) as error:  # of the second run's workers, which exit with 1
        train(root, tmp_path / "by 2", 2, {"frozen": changes, "wide": changes | {"model__trunk": wide}})
    line = (
        r"ConfigError: init_from\.path=\S+: its trunk_0_dense/kernel is float64\[6, 7\] there and float64\[6, 8\] here"
    )
    assert len(re.findall(line, str(error.value))) == 2
    assert [path.name for path in (tmp_path / "by 2").iterdir()] == ["frozen"]
    _assert_same(tmp_path / "by 2" / "frozen", _in_this_process(tmp_path / "alone", changes, 1))


def follow(run, step, report, stop=None, fail=None):
    """A hook: notes the worker that calls it."""
    rank = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    with (run.path / "calls.txt").open("a") as file:
        file.write(f"{rank} {step} {report.kind}\n")
    if step == stop:
        run.stop("enough")
    if step == fail:
        raise ValueError("no such figure")


@pytest.mark.ci_only
def test_hooks_are_called_on_the_chief_and_end_all_workers(tmp_path, root):
    hook = {"name": "tests.properties.test_several_workers:follow"}
    runs = {
        name: INTERVALS | problems.SIMPLE | {"steps_per_loop": 2, "hooks": [hook | {name: 4}]}
        for name in ("stop", "fail")
    }
    with pytest.raises(AssertionError) as error:  # of the second run's workers, which exit with 1
        train(root, tmp_path, 2, runs)
    assert len(re.findall(r"RunError: hook \S+ raised ValueError: no such figure", str(error.value))) == 2
    calls = (tmp_path / "stop" / "calls.txt").read_text().splitlines()
    assert calls == ["0 4 train", "0 4 evaluation", "0 4 end"]
    assert (tmp_path / "fail" / "calls.txt").read_text() == "0 4 train\n"
    assert (tmp_path / "fail" / "checkpoints" / "step_00000004").is_dir()
