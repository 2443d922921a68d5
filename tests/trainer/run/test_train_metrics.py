"""Metrics on the batches of training: those of a step before its update, over a window that every report ends."""

import contextlib
import io
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console
from sklearn import metrics as sklearn_metrics

from tests import eager, problems
from tests.properties import built_once
from trainer.run import experiment, train

STEPS, BATCH = 3, 12


_WINDOW = {"batch_size": BATCH, "train_metrics": True, "dataset__options": {"missing": True}}
_METRICS = {"losses__number__metrics": ["mae", "r2_score"], "losses__label__weighted_metrics": ["accuracy"]}


@pytest.mark.parametrize(
    ("replicas", "changes"),
    [
        pytest.param(1, {}, marks=pytest.mark.ci_only),
        (1, {"micro_batches": 4}),
        pytest.param(1, {"reduction": "features", "combine__name": "mgda"}, marks=pytest.mark.ci_only),
        (1, {"reduction": "fused", "probe_every": 2}),
        pytest.param(3, {}, marks=pytest.mark.ci_only),
        pytest.param(2, {"micro_batches": 2}, marks=pytest.mark.ci_only),
        pytest.param(1, {"compile": "passes", "precision": "float32"}, marks=pytest.mark.ci_only),
    ],
    ids=str,
)
def test_equal_numbers_of_the_predictions_before_each_update(replicas, changes):
    built = experiment.build(
        problems.config(**{**problems.SIMPLE, **_WINDOW, **_METRICS, **changes}), problems.strategy(replicas)
    )
    with contextlib.nullcontext() if replicas > 1 or "compile" in changes else eager.functions():
        loop, iterator = built.step.build(), iter(built.batches(0))
        batches = built.train.training(batch_size=BATCH, seed=0, first_step=0, ends=[0, BATCH])
        for _ in range(2):  # a report, and another one
            seen, state, totals = [], built.step.initial_state(), built.step.initial_totals()
            for step, batch in zip(range(STEPS), batches, strict=False):
                outputs = {name: values.numpy() for name, values in built.model(batch["inputs"]).items()}
                seen.append((outputs, tf.nest.map_structure(lambda leaf: leaf.numpy(), dict(batch))))
                numbers = (tf.constant(value, tf.int64) for value in (step, 1))
                state, totals = loop(iterator, *numbers, tf.constant(False), state, totals)
            batches = batches.skip(STEPS)
            tolerance = 1e-5 if "precision" in changes else 1e-9
            assert built.train_metrics.report() == pytest.approx(_expected(seen), rel=tolerance)
    assert set(built.train_metrics.report().values()) == {None}  # of no step


def _expected(seen) -> dict[str, float]:
    def joined(pick):
        return np.concatenate([pick(outputs, batch) for outputs, batch in seen])

    label, weight = (
        joined(lambda _, batch: batch["targets"]["label"]),
        joined(lambda _, batch: batch["weights"]["label"]),
    )
    guess = joined(lambda outputs, _: outputs["label"].argmax(1))
    known = joined(lambda _, batch: batch["weights"]["number"]) > 0
    number = joined(lambda _, batch: batch["targets"]["number"])[known]
    predicted = joined(lambda outputs, _: outputs["number"][:, 0])[known]
    return {
        "label/accuracy": sklearn_metrics.accuracy_score(label[weight > 0], guess[weight > 0]),
        "label/weighted_accuracy": sklearn_metrics.accuracy_score(label, guess, sample_weight=weight),
        "number/mae": sklearn_metrics.mean_absolute_error(number, predicted),
        "number/r2_score": sklearn_metrics.r2_score(number, predicted),
    }


def _run(path, replicas=2, **changes):
    intervals = {"steps": 10, "report_every": 5, "eval_every": 10, "checkpoint_every": 3, "keep_checkpoints": 9}
    number = {"loss": "mse", "metrics": ["mae", "r2_score"]}
    changes |= intervals | {"losses": {"number": number}, "model__heads": {"number": [{"layer": "Dense", "units": 1}]}}
    train.train(
        problems.config(**_WINDOW, **changes), str(path), problems.strategy(replicas), Console(file=io.StringIO())
    )
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["split"] == "train"]


@pytest.mark.ci_only
def test_a_resumed_run_reports_the_same(tmp_path):
    """From the middle of a window: to the bit, and on another number of replicas up to rounding."""
    with built_once.building_once():
        rows = _run(tmp_path / "run")
        assert [row["step"] for row in rows] == [5, 10]
        assert all(row["number/mae"] > 0 for row in rows)
        for name, replicas in (("same", 2), ("other", 1)):
            shutil.copytree(tmp_path / "run", tmp_path / name)
            for step in (6, 9, 10):
                shutil.rmtree(tmp_path / name / "checkpoints" / f"step_{step:08d}")
            if replicas == 2:
                assert _run(tmp_path / name) == rows
    again = _run(tmp_path / "other", replicas=1)
    for row, expected in zip(again, rows, strict=True):
        for name in ("loss/number", "number/mae", "number/r2_score"):
            assert row[name] == pytest.approx(expected[name], rel=1e-9)
