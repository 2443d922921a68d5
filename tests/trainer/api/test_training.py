"""Runs from Python: one after another in a process, interrupted, refused; and the process is as it was."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import keras
import ml_collections
import numpy as np
import pytest
import tensorflow as tf

import trainer
from tests import problems
from tests.trainer.api.runs import assert_equal, variables
from trainer.distributed import signals


@pytest.mark.ci_only
def test_runs_one_after_another(tmp_path):
    """One is trained, resumed and loaded, another is trained, and both are what they were, also for a fresh process."""
    tree = problems.tree(steps=4, **problems.SIMPLE)
    first = trainer.train(ml_collections.ConfigDict(tree), tmp_path / "first", progress=False)
    assert first.history[-1]["step"] == 4
    first = trainer.train(tree, tmp_path / "first", steps=6, progress=False)
    whole = trainer.train(tree, tmp_path / "whole", steps=6, progress=False)  # and another number of its layers' names
    assert variables(first.path).keys() == variables(whole.path).keys()
    for name, value in variables(whole.path).items():
        np.testing.assert_array_equal(variables(first.path)[name], value, err_msg=name)
    trust = {"trust": ["tests"]}
    values = trainer.load_run(first.path, **trust).model.get_weights()
    wider = [{"layer": "Dense", "units": 9, "activation": "tanh"}]
    second = trainer.train({**tree, "model": {**tree["model"], "trunk": wider}}, tmp_path / "second", progress=False)
    again = trainer.load_run(first.path, **trust)
    assert all((one == other).all() for one, other in zip(values, again.model.get_weights(), strict=True))
    assert again.evaluate()["loss/vector"] == pytest.approx(whole.history[-1]["loss/vector"], rel=1e-12)
    code = f"import trainer\nfor w in trainer.load_run({str(second.path)!r}, trust=['tests']).model.get_weights():"
    code += "\n    print(w.tobytes().hex())"
    root = pathlib.Path(__file__).resolve().parents[3]
    environment = os.environ | {"PYTHONPATH": str(root)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [value.tobytes().hex() for value in second.model.get_weights()]


def test_the_best_checkpoint_and_the_averages(tmp_path):
    tree = problems.tree(
        steps=6, eval_every=2, ema=0.5, best={"metric": "loss/number", "mode": "min"}, **problems.SIMPLE
    )
    run = trainer.train(tree, tmp_path / "run", progress=False)
    evaluated = [row for row in run.history if row["split"] == "validation"]
    best = min(evaluated, key=lambda row: row["loss/number"])
    assert best is not evaluated[-1]
    loaded = trainer.load_run(run.path, best=True, trust=["tests"])
    assert loaded.evaluate() == best
    examples = problems.load()["validation"]

    def loss(**options) -> float:
        model = trainer.load_run(run.path, trust=["tests"], **options).model
        return float(np.mean((model(examples.inputs)["number"][:, 0] - examples.targets["number"]) ** 2))

    assert loss(best=True) == pytest.approx(best["loss/number"], rel=1e-9)
    assert loss() == pytest.approx(evaluated[-1]["loss/number"], rel=1e-9)
    model = trainer.load_run(run.path, trust=["tests"]).model
    model.compile("sgd", {"label": "sparse_categorical_crossentropy", "number": "mse", "vector": "mse"})
    model.fit(examples.inputs, examples.targets, verbose=0)
    assert loss(averaged=False) != pytest.approx(evaluated[-1]["loss/number"], rel=1e-3)
    with pytest.raises(trainer.ConfigError, match="no such|split beside train"):
        run.evaluate("test")


def _state() -> tuple:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    numbers = random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2]
    kernels = tf.config.experimental.tensor_float_32_execution_enabled()
    policy = keras.config.dtype_policy().name
    return keras.config.floatx(), policy, kernels, numbers, handlers, sys.stdout, sys.stderr, os.getcwd()


def test_the_process_is_as_it_was(tmp_path, monkeypatch):
    """After a run in another precision, and after one that is refused."""
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(3)
    first = float(tf.random.uniform(())), float(keras.random.uniform(()))
    keras.utils.set_random_seed(3)
    tree, before = problems.tree(steps=2, tensor_float_32=False, **problems.SIMPLE), _state()
    run = trainer.train(tree, progress=False)
    assert _state() == before
    assert run.path.parent == tmp_path / "runs"
    with pytest.raises(trainer.ConfigError, match="units"):
        trainer.train(tree, progress=False, **{"model.trunk": [{"layer": "Dense", "units": "many"}]})
    assert _state() == before
    assert (float(tf.random.uniform(())), float(keras.random.uniform(()))) == first
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [run.path.name]


@pytest.mark.ci_only
def test_an_interrupt_saves_and_returns(tmp_path):
    """The run so far is returned, and continues to what it would have been."""
    tree = problems.tree(steps=60, report_every=1, steps_per_loop=1, eval_every=60, **problems.SIMPLE)

    def interrupt() -> None:
        while not (tmp_path / "run" / "metrics.jsonl").exists() or not (tmp_path / "run" / "metrics.jsonl").read_text():
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    run = trainer.train(tree, tmp_path / "run", progress=False)
    thread.join()
    reached = run.history[-1]["step"]
    assert 0 < reached < 60
    assert trainer.train(tree, tmp_path / "run", progress=False).history[-1]["step"] == 60
    whole = trainer.train(tree, tmp_path / "whole", progress=False)
    assert_equal(run.path, whole.path)


def test_a_second_interrupt_does_not_end_the_process():
    """It is raised; the process is not the run's alone."""

    def interrupt_twice() -> None:
        with signals.staying(), signals.listening() as request:
            os.kill(os.getpid(), signal.SIGINT)
            while request.signal is None:
                time.sleep(0.005)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        interrupt_twice()


@pytest.mark.ci_only
def test_devices(tmp_path):
    """Runs on different devices one after another; a number that TensorFlow can no longer lay out is one line."""
    tree = problems.tree(steps=2, batch_size=12, **problems.SIMPLE)
    runs = [
        trainer.train(tree, tmp_path / "two", virtual_devices=2, progress=False),
        trainer.train(tree, tmp_path / "three", virtual_devices=3, progress=False),
        trainer.train(tree, tmp_path / "object", strategy=tf.distribute.OneDeviceStrategy("/cpu:0"), progress=False),
    ]
    values = [run.history[-1]["loss/vector"] for run in runs]
    assert values == [pytest.approx(values[0], rel=1e-9)] * 3
    wider = {**tree["model"], "trunk": [{"layer": "Dense", "units": 9}]}
    trainer.train({**tree, "model": wider}, tmp_path / "wider", virtual_devices=2, progress=False)
    with pytest.raises(trainer.ConfigError, match="virtual_devices=9: this process has laid out 4 logical CPU devices"):
        trainer.train(tree, tmp_path / "nine", virtual_devices=9)
    assert not (tmp_path / "nine").exists()


@pytest.mark.parametrize(
    ("config", "options", "words"),
    [
        (3, {}, "config='int': must be the path of a Python file, a ConfigDict or a dictionary"),
        ("nowhere.py", {}, "--config='nowhere.py': must be an existing Python file"),
        ({}, {}, "losses: is missing and must be given"),
        (None, {"combine": "pcgrd"}, "combine='pcgrd': unknown combination; did you mean 'pcgrad'"),
        (None, {"strategy": "mirored"}, "strategy='mirored': unknown strategy; did you mean 'mirrored'"),
        (None, {"steps": object()}, "steps='object': must be a plain value or a function"),
        (None, {"batch_sise": 3}, "batch_sise=3: unknown key; did you mean 'batch_size'"),
        (None, {"batch_size.x": 3}, "batch_size.x=3: batch_size is a value, it has no 'x'"),
        (None, {"dataset": {"train": 3}}, "dataset.train='int': must be Examples, "),
        (None, {"dataset": {"train": (np.ones(3), np.ones(3))}}, "dataset.train.targets='ndarray': must be a dict"),
    ],
)
def test_mistakes_are_exceptions_of_one_line(tmp_path, config, options, words):
    tree = problems.tree() if config is None else config
    with pytest.raises(trainer.ConfigError) as caught:
        trainer.train(tree, tmp_path / "run", **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
