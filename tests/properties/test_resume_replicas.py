"""State of layers on several replicas: saves, evaluations and signals leave it, and a resumed run has it again."""

import contextlib
import json
import pathlib
import shutil
import signal
from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from tests.properties import built_once, interrupted
from trainer.common.errors import StoppedError
from trainer.distributed import signals
from trainer.distributed.workers import Workers
from trainer.output import plots, workdir
from trainer.run import experiment, resume

TRUNK = [
    {"layer": "Dense", "units": 5},
    {"layer": "BatchNormalization", "momentum": 0.9},
    {"layer": "tests.trainer.distributed.layers:Counting"},
]
# 11 examples are not shared evenly.
CHANGES = problems.SIMPLE | {"model__trunk": TRUNK, "steps": 12, "report_every": 4, "keep_checkpoints": 9}
STATE = {
    "trunk_1_batch_normalization/moving_mean",
    "trunk_1_batch_normalization/moving_variance",
    "trunk_2_counting/seen",
}


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """The curves look the same whatever interrupts a run, and drawing them takes longer than its steps."""
    monkeypatch.setattr(plots, "save_curves", lambda *_: None)


class _StopAfter:
    """Asks to stop when it is looked at for the `count`-th time, which is after as many calls of the in-graph loop."""

    def __init__(self, count: int):
        self._left = count

    @property
    def signal(self) -> signal.Signals | None:
        self._left -= 1
        return None if self._left else signal.SIGTERM


def _train_until(step: int, path: pathlib.Path, replicas: int, monkeypatch: pytest.MonkeyPatch, **changes) -> None:
    @contextlib.contextmanager
    def listening() -> Iterator[_StopAfter]:
        yield _StopAfter(step)

    with monkeypatch.context() as patch:
        patch.setattr(signals, "listening", listening)
        with pytest.raises(StoppedError) as stopped:
            interrupted.train(path, replicas, **CHANGES, **changes)
    assert stopped.value.code == 42


def _saved(path: pathlib.Path, step: int, part: str) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(path / "checkpoints" / f"step_{step:08d}" / "variables"))
    keys = [key for key in reader.get_variable_to_shape_map() if key.startswith(f"{part}/")]
    return {key.split("/")[1].replace(".S", "/"): reader.get_tensor(key) for key in keys}


def _resumed(path: pathlib.Path, replicas: int) -> dict[str, np.ndarray]:
    """The state of layers on every replica with which this number of replicas resumes a run."""
    config, strategy = problems.config(**CHANGES), problems.strategy(replicas)
    built = experiment.build(config, strategy)
    run = workdir.claim(str(path), config)
    try:
        found = resume.find(run, config)
        resume.start(run, found, found.step, built, Workers(strategy), path)
    finally:
        run.release()
    return {name: values.numpy() for name, values in built.layer_state.of_replicas().items()}


def _rows(path: pathlib.Path) -> tuple[list[dict], dict]:
    """The training reports and the last validation."""
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["split"] == "train"], rows[-1]


@pytest.mark.parametrize("replicas", [2, pytest.param(3, marks=pytest.mark.ci_only)])
def test_saves_evaluations_and_signals_change_nothing(tmp_path, monkeypatch, replicas):
    """A run that saves and evaluates at other steps, and is stopped at an odd one, ends with the same bits."""
    interrupted.train(tmp_path / "whole", replicas, **CHANGES, eval_every=12, checkpoint_every=12)
    with built_once.building_once():
        _assert_the_same(tmp_path, monkeypatch, replicas)


def _assert_the_same(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, replicas: int) -> None:
    changes = {"eval_every": 2, "checkpoint_every": 3, "steps_per_loop": 1}
    _train_until(5, tmp_path / "run", replicas, monkeypatch, **changes)
    own, model = (_saved(tmp_path / "run", 5, part) for part in ("replicas", "model"))
    assert own.keys() == STATE
    for name, values in own.items():
        assert len({row.tobytes() for row in values}) == len(values) == replicas, name
        np.testing.assert_allclose(model[name], values.mean(axis=0), rtol=1e-14, err_msg=name)
    assert model["trunk_2_counting/calls"] == 5
    for others in (1, replicas, 4):
        shutil.copytree(tmp_path / "run", tmp_path / f"on_{others}")
        for name, values in _resumed(tmp_path / f"on_{others}", others).items():
            expected = own[name] if others == replicas and name in own else np.stack([model[name]] * others)
            np.testing.assert_array_equal(values, expected, err_msg=name)
    interrupted.train(tmp_path / "run", replicas, **CHANGES, **changes)
    assert interrupted.variables(tmp_path / "run", 12) == interrupted.variables(tmp_path / "whole", 12)
    assert _rows(tmp_path / "run") == _rows(tmp_path / "whole")
    assert _saved(tmp_path / "whole", 12, "replicas").keys() == STATE
