"""Evaluation: every example exactly once, equal to what Keras computes."""

import numpy as np
import pytest

from tests import problems
from trainer.run import experiment

# CI has the time for all of them.
CASES = [(replicas, batch_size, True) for replicas in (1, 2, 3, 4) for batch_size in (8, 11, 29)]
# Some losses have no weights above either; here those with metrics have none.
CASES += [(1, 11, False), (2, 29, False), (3, 8, False), (4, 11, False)]
BY_HAND = [(1, 29, True), (3, 8, True), (2, 29, False)]


@pytest.mark.parametrize(
    ("replicas", "batch_size", "missing"),
    [pytest.param(*case, marks=[] if case in BY_HAND else [pytest.mark.ci_only]) for case in CASES],
)
def test_every_example_once(replicas, batch_size, missing):
    """29 examples; losses and metrics equal those of one pass over the whole split in NumPy."""
    built = experiment.build(
        problems.config(
            batch_size=batch_size,
            dataset__options={"missing": missing},
            losses__label__weighted_metrics=["accuracy"],
        ),
        problems.strategy(replicas),
    )
    results = built.evaluator.build()()
    split = problems.load(missing=missing)["validation"]
    outputs = {name: value.numpy() for name, value in built.model(split.inputs).items()}
    weights = {name: split.weights.get(name, np.ones(29)) for name in ("label", "number")}

    logits = outputs["label"] - outputs["label"].max(1, keepdims=True)
    negative_log = np.log(np.exp(logits).sum(1)) - logits[np.arange(29), split.targets["label"]]
    correct = outputs["label"].argmax(1) == split.targets["label"]
    error = outputs["number"][:, 0] - split.targets["number"]
    expected = {
        "loss/label": np.average(negative_log, weights=weights["label"]),
        "loss/number": np.average(error**2, weights=weights["number"]),
        "loss/vector": np.mean((outputs["vector"] - split.targets["vector"]) ** 2),
        "loss/vector_l1": np.mean(np.abs(outputs["vector"] - split.targets["vector"])),
        "label/accuracy": np.average(correct, weights=weights["label"] > 0),
        "label/weighted_accuracy": np.average(correct, weights=weights["label"]),
        "number/mae": np.average(np.abs(error), weights=weights["number"] > 0),
        "labels/label": np.count_nonzero(weights["label"]),
        "labels/number": np.count_nonzero(weights["number"]),
        "labels/vector": 29,
        "labels/vector_l1": 29,
    }
    assert results == pytest.approx(expected, abs=1e-9)


def test_evaluating_again_starts_afresh():
    evaluate = experiment.build(problems.config(), problems.strategy(2)).evaluator.build()
    assert evaluate() == evaluate()


def test_equals_keras_evaluate():
    built = experiment.build(problems.config(precision="float32"), problems.strategy(1))
    results = built.evaluator.build()()
    split = problems.load()["validation"]
    with built.strategy.scope():
        built.model.compile(
            loss={"number": "mse", "vector": "mae"},
            metrics={"label": "sparse_categorical_accuracy", "number": "mae"},
        )
    targets = {name: split.targets[name] for name in ("label", "number", "vector")}
    theirs = built.model.evaluate(split.inputs, targets, batch_size=29, verbose=0, return_dict=True)
    assert results["loss/number"] == pytest.approx(theirs["number_loss"], rel=1e-5)
    assert results["loss/vector_l1"] == pytest.approx(theirs["vector_loss"], rel=1e-5)
    assert results["label/accuracy"] == pytest.approx(theirs["label_sparse_categorical_accuracy"], rel=1e-5)
    assert results["number/mae"] == pytest.approx(theirs["number_mae"], rel=1e-5)
