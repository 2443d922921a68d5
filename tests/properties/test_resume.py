"""Runs that are interrupted, in this process, resume exactly."""

import contextlib
import json

import keras
import pytest
import tensorflow as tf

from tests import problems
from tests.properties import built_once, interrupted
from tests.properties.interrupted import results
from trainer.combine.registry import METHODS
from trainer.common.errors import ConfigError, RunError
from trainer.config import loading
from trainer.output import checkpoint, plots, tensorboard, workdir


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """The curves look the same whatever interrupts a run, and drawing them takes longer than its steps."""
    monkeypatch.setattr(plots, "save_curves", lambda *_: None)


@pytest.fixture
def built_once_for_all():
    """A run that resumes finds the variables as an earlier one left them, not as they were made."""
    with built_once.building_once():
        yield


_WEIGHT = {"name": "polynomial_decay", "initial_learning_rate": 1.0, "decay_steps": 9, "end_learning_rate": 0.1}
_COSINE = {"name": "cosine_decay", "initial_learning_rate": 0.1}  # over the run, for a loss that alternates
_RANDOM = [{"layer": "Dense", "units": 7}, {"layer": "BatchNormalization"}, {"layer": "Dropout", "rate": 0.3}]
# Every kind of state beside a method's own.
KINDS = {
    "averages, alternating losses, weights on a schedule, the best, a loss scale, fused": {
        "precision": "mixed_float16",
        "reduction": "fused",
        "ema": 0.9,
        "losses__number__every": 3,
        "losses__number__optimizer": {"name": "adam", "learning_rate": _COSINE},
        "losses__label__every": 2,
        "losses__label__offset": 1,
        "losses__vector__weight": _WEIGHT,
        "best": {"metric": "loss/label"},
        "early_stopping": {"metric": "label/accuracy", "patience": 1, "min_delta": 9.0},
    },
    "dropout and batch statistics": {"model__trunk": _RANDOM},
    "optimizers with many kinds of state, smoothed weights, per loss": {
        "combine__name": "pcgrad",
        "combine__smoothing": 0.8,
        "combine__apply": "per_loss",
        "precision": "float32",
        **{
            f"losses__{loss}__optimizer": {"name": name, "learning_rate": 0.01}
            for loss, name in zip(problems.LOSSES, ("nadam", "adafactor", "lion", "ftrl"), strict=True)
        },
    },
    "weights that last, from the features": {
        "combine__name": "pcgrad",
        "combine__update_every": 3,
        "reduction": "features",
        "precision": "float32",
    },
}
# One with weights, one with averages of gradients, and one without state of its own; of the others test_replicas.py
# shows that steps depend on nothing but the variables.
ON_TWO = ("famo", "moco", "pcgrad")
WITH_STATE = [name for name, method in METHODS.items() if method.initial or method.keeps or method.random]
# CI has the time for all of them; by hand a stateful method and what is random.
BY_HAND = ("famo", "dropout and batch statistics")
CASES = {
    **{name: (2, changes) for name, changes in KINDS.items()},
    **{
        name: (2 if name in ON_TWO else 1, {"combine__name": name, "precision": "float32"} | problems.SIMPLE)
        for name in dict.fromkeys([*ON_TWO, *WITH_STATE])
    },
}


@pytest.mark.parametrize(
    ("replicas", "changes"),
    [
        pytest.param(*case, id=name, marks=[] if name in BY_HAND else [pytest.mark.ci_only])
        for name, case in CASES.items()
    ],
)
@pytest.mark.usefixtures("built_once_for_all")
def test_everything_with_state_comes_back(tmp_path, replicas, changes):
    interrupted.assert_goes_on_exactly(tmp_path, replicas, **changes | {"dataset__options": {"missing": True}})


def test_layers_that_keras_names_come_back(tmp_path):
    """Though the process has built such layers before: weights, optimizers, averages of weights and of gradients."""
    own = {"name": "tests.properties.test_resume:unnamed_layers"}
    adafactor = {"name": "adafactor", "learning_rate": 0.01}
    interrupted.assert_goes_on_exactly(
        tmp_path, 1, model=own, combine__name="moco", ema=0.9, shared_optimizer=adafactor, precision="float32"
    )
    names = {name.partition("/.")[0] for name in interrupted.variables(tmp_path / "run", 12)}
    first, second = "encoder.Sdense.Skernel", "encoder.Sdense_1.Skernel"
    assert {f"model/{first}", f"average/{second}", f"gradient_averages/label.S{first}"} <= names
    assert {f"optimizers/shared/{first}.S{slot}" for slot in "rcv"} <= names
    assert {"optimizers/number/dense_1.Skernel.Smomentums", "optimizers/number/iterations"} <= names


def unnamed_layers() -> keras.Model:
    inputs, inside = keras.Input((6,)), keras.Input((6,))
    encoder = keras.Model(inside, keras.layers.Dense(4)(keras.layers.Dense(5)(inside)), name="encoder")
    heads = {head: keras.layers.Dense(size) for head, size in (("label", 4), ("number", 1), ("vector", 3))}
    return keras.Model(inputs, {head: layer(encoder(inputs)) for head, layer in heads.items()})


@pytest.mark.usefixtures("built_once_for_all")
def test_a_damaged_checkpoint_costs_only_its_steps(tmp_path):
    interrupted.train(tmp_path / "run", **problems.SIMPLE)
    expected = results(tmp_path / "run", 12)
    (data,) = (tmp_path / "run" / "checkpoints" / "step_00000012").glob("*.data-*")
    data.write_bytes(data.read_bytes()[:-1])
    interrupted.train(tmp_path / "run", **problems.SIMPLE)
    assert results(tmp_path / "run", 12) == expected
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "step_00000012 is damaged" in log
    assert "from step 10 of 12 steps" in log


@pytest.mark.usefixtures("built_once_for_all")
def test_more_steps(tmp_path):
    """A run that is made longer ends as one that was long from the start; a schedule over the run forbids it."""
    adam = problems.SIMPLE | {"shared_optimizer": "adam"}
    interrupted.train(tmp_path / "long", steps=20, **adam)
    interrupted.train(tmp_path / "run", steps=10, **adam)
    interrupted.train(tmp_path / "run", steps=20, **adam)
    assert interrupted.variables(tmp_path / "run", 20) == interrupted.variables(tmp_path / "long", 20)
    with pytest.raises(ConfigError, match="steps=15: the run in .* has taken 20 steps already"):
        interrupted.train(tmp_path / "run", steps=15, **adam)
    cosine = {"name": "adam", "learning_rate": {"name": "cosine_decay", "initial_learning_rate": 0.01}}
    workdir.create(
        str(tmp_path / "cosine"), problems.config(**interrupted.INTERVALS, shared_optimizer=cosine)
    ).release()
    with pytest.raises(ConfigError, match=r"steps is 12 there and 13 here \(a schedule depends on it\)"):
        interrupted.train(tmp_path / "cosine", shared_optimizer=cosine, steps=13)


@pytest.mark.usefixtures("built_once_for_all")
def test_a_finished_run_whose_reports_are_gone(tmp_path):
    interrupted.train(tmp_path / "run", **problems.SIMPLE)
    last = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1]
    (tmp_path / "run" / "metrics.jsonl").unlink()
    for _ in range(2):
        interrupted.train(tmp_path / "run", **problems.SIMPLE)
        assert (tmp_path / "run" / "metrics.jsonl").read_text().splitlines() == [last]
    log = (tmp_path / "run" / "log.txt").read_text()
    assert log.count("metrics.jsonl: reports up to step 12 are not what the run wrote") == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"reduction": "fused", "probe_every": 3},
        pytest.param({"combine__name": "pcgrad", "combine__update_every": 3}, marks=pytest.mark.ci_only),
    ],
)
@pytest.mark.usefixtures("built_once_for_all")
def test_what_was_measured_comes_back(tmp_path, changes):
    """Between the step that measures gradients and the report of it: the report is the same."""
    changes |= {"report_every": 5, "eval_every": 12, "checkpoint_every": 4, **problems.SIMPLE}
    interrupted.train(tmp_path / "run", **changes)
    expected = results(tmp_path / "run", 12)
    assert "grad_norm/label" in expected["reports"]
    interrupted.forget_after(tmp_path / "run", 4)
    interrupted.train(tmp_path / "run", **changes)
    assert results(tmp_path / "run", 12) == expected


def test_intervals_may_change(tmp_path):
    changes = {"report_every": 1, "eval_every": 3, "checkpoint_every": 3, "steps_per_loop": 2}
    interrupted.train(tmp_path / "run", steps=6, **problems.SIMPLE)
    interrupted.train(tmp_path / "run", steps=12, **changes, **problems.SIMPLE)
    assert loading.load_saved(tmp_path / "run" / "config.json").report_every == 1
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["split"] == "train"] == [4, 6, 7, 8, 9, 10, 11, 12]


@pytest.mark.ci_only
def test_ways_to_compute_the_same_may_change(tmp_path):
    """A run per loss resumes fused, recomputed and in several collectives, with the same masks and statistics."""
    trunk = {"model__trunk": _RANDOM}
    interrupted.train(tmp_path / "plain", 2, **trunk)
    interrupted.train(tmp_path / "run", 2, **trunk, steps=5)
    another = {"reduction": "fused", "probe_every": 4, "model__recompute": True, "bytes_per_pack": 64}
    interrupted.train(tmp_path / "run", 2, **trunk, **another)
    plain, run = (
        tf.train.load_checkpoint(str(tmp_path / name / "checkpoints" / "step_00000012" / "variables"))
        for name in ("plain", "run")
    )
    assert plain.get_variable_to_shape_map().keys() == run.get_variable_to_shape_map().keys()
    for key in plain.get_variable_to_shape_map():
        if key.startswith(("model/", "optimizers/")):
            assert run.get_tensor(key) == pytest.approx(plain.get_tensor(key), rel=0, abs=1e-9), key


@pytest.mark.parametrize("later", [1, pytest.param(2, marks=pytest.mark.ci_only)])
def test_another_number_of_replicas(tmp_path, later):
    adam = problems.SIMPLE | {"shared_optimizer": "adam"}
    interrupted.train(tmp_path / "run", 3, **adam, steps=5)
    with built_once.building_once() if later == 1 else contextlib.nullcontext():
        interrupted.train(tmp_path / "one", **adam)
        interrupted.train(tmp_path / "run", later, **adam)
    last = {}
    for name in ("one", "run"):
        reader = tf.train.load_checkpoint(str(tmp_path / name / "checkpoints" / "step_00000012" / "variables"))
        last[name] = {key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map() if "model/" in key}
    for key, value in last["one"].items():
        assert last["run"][key] == pytest.approx(value, rel=0, abs=1e-9)


def test_the_best_checkpoint_stays(tmp_path):
    """With one checkpoint to keep, the best one stays beside the last; also by another expression on resuming."""
    best = {"metric": "{loss/label} + 1e-6 * {number/mae}", "mode": "max"}  # the first, untrained one
    changes = problems.SIMPLE | {"eval_every": 2, "checkpoint_every": 12, "keep_checkpoints": 1}
    total = {"metric": "total_loss", "patience": 99}
    interrupted.train(tmp_path / "run", steps=12, **changes, best=best, early_stopping=total)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    values = {}
    for row in (row for row in rows if row["split"] == "validation"):
        values[row["step"]] = row["loss/label"] + 1e-6 * row["number/mae"]
        weighed = {"label": 1, "number": 0.5, "vector": 2, "vector_l1": 1}
        assert row[f"monitor/{best['metric']}"] == values[row["step"]]
        assert row["monitor/total_loss"] == pytest.approx(sum(w * row[f"loss/{n}"] for n, w in weighed.items()), 1e-12)
    expected = max(values, key=values.get)
    assert expected < 12
    assert checkpoint.saved_steps(tmp_path / "run" / "checkpoints") == sorted({expected, 12})
    results = f"|  | `{best['metric']}` | {values[12]:.4g} |"
    assert results in (tmp_path / "run" / "report.md").read_text()
    assert tensorboard.tag(f"monitor/{best['metric']}") in {
        tag for _, _, tag, _ in interrupted.values_of_events(tmp_path / "run")
    }

    equal = {"metric": "0 * {total_loss}", "mode": "min"}  # of equals the first one
    undefined = {"metric": "{loss/label} / (2 - 2)", "mode": "min", "patience": 99}
    interrupted.train(tmp_path / "run", steps=16, **changes, best=equal, early_stopping=undefined)
    assert checkpoint.saved_steps(tmp_path / "run" / "checkpoints") == [2, 16]
    assert (tmp_path / "run" / "log.txt").read_text().count("warning: {loss/label} / (2 - 2) divides by 0 at") == 1


@pytest.mark.usefixtures("built_once_for_all")
def test_early_stopping_ends_the_run_for_good(tmp_path):
    early = {"metric": "loss/label", "patience": 2, "min_delta": 100.0}
    for _ in range(2):
        interrupted.train(tmp_path / "run", steps=40, eval_every=3, early_stopping=early, **problems.SIMPLE)
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
        interrupted.train(tmp_path / "run", best={"metric": metric, "mode": mode})
    assert not (tmp_path / "run").exists()


def test_variables_that_are_not_finite_are_not_saved(tmp_path):
    """The step that spoils them comes right before a checkpoint and no evaluation."""
    weight = {"name": "piecewise_constant_decay", "boundaries": [4], "values": [1e-5, 3e38]}
    with pytest.raises(RunError, match="step 6: variable trunk_0_dense/.* became non-finite"):
        interrupted.train(
            tmp_path / "run",
            **{f"losses__{name}__weight": weight for name in problems.LOSSES},
            shared_optimizer={"name": "sgd", "learning_rate": 1e3},
            precision="float32",
            checkpoint_every=3,
            keep_checkpoints=1,
            eval_every=12,
        )
    assert checkpoint.saved_steps(tmp_path / "run" / "checkpoints") == [3]
