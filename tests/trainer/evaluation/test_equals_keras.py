"""Losses and metrics of an evaluation equal those of Keras' `evaluate`, with masks and weights."""

import itertools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

from input_pipelines.examples import Examples
from tests import problems
from trainer.config import loading
from trainer.run import experiment

HERE = "tests.trainer.evaluation.test_equals_keras"
EXAMPLES, STEPS, CLASSES = 6, 4, 3


class Case(NamedTuple):
    """A head, a target, a loss and metrics; Keras' own objects for both, and what its metrics are given."""

    units: int
    activation: str | None
    target: str
    loss: str | dict[str, Any]
    metrics: list[str]
    keras_loss: Callable[[], keras.losses.Loss]
    keras_metrics: Callable[[], list[keras.metrics.Metric]]
    given: Callable[[Any], Any] = lambda prediction: prediction * 1.0  # an operation ends the mask


_m, _l = keras.metrics, keras.losses
CASES = {
    "index": Case(
        *(CLASSES, "softmax", "index", "sparse_categorical_crossentropy", ["accuracy", "crossentropy"]),
        lambda: _l.SparseCategoricalCrossentropy(),
        lambda: [_m.SparseCategoricalAccuracy("accuracy"), _m.SparseCategoricalCrossentropy("crossentropy")],
    ),
    "one_hot": Case(
        *(CLASSES, "softmax", "one_hot", "categorical_crossentropy", ["accuracy", "kl_divergence"]),
        lambda: _l.CategoricalCrossentropy(),
        lambda: [_m.CategoricalAccuracy("accuracy"), _m.KLDivergence("kl_divergence")],
    ),
    "logits": Case(
        *(CLASSES, None, "index", {"name": "sparse_categorical_crossentropy", "from_logits": True}),
        ["accuracy", "crossentropy"],
        lambda: _l.SparseCategoricalCrossentropy(from_logits=True),
        lambda: [_m.SparseCategoricalAccuracy("accuracy"), _m.SparseCategoricalCrossentropy("crossentropy")],
        keras.ops.softmax,
    ),
    "labels": Case(
        *(CLASSES, "sigmoid", "labels", "binary_crossentropy", ["accuracy", "precision", "auc"]),
        lambda: _l.BinaryCrossentropy(),
        lambda: [_m.BinaryAccuracy("accuracy"), _m.Precision(name="precision"), _m.AUC(name="auc")],
    ),
    "label_logits": Case(
        *(CLASSES, None, "labels", {"name": "binary_focal_crossentropy", "from_logits": True}),
        ["accuracy", "recall", "auc", "true_positives", "binary_io_u"],
        lambda: _l.BinaryFocalCrossentropy(from_logits=True),
        lambda: [
            *(_m.BinaryAccuracy("accuracy"), _m.Recall(name="recall"), _m.AUC(name="auc")),
            *(_m.TruePositives(name="true_positives"), _m.BinaryIoU(name="binary_io_u", dtype="float64")),
        ],
        keras.ops.sigmoid,
    ),
    "squares": Case(
        *(2, None, "numbers", "mse", ["mae", "root_mean_squared_error"]),
        lambda: _l.MeanSquaredError(),
        lambda: [_m.MeanAbsoluteError("mae"), _m.RootMeanSquaredError("root_mean_squared_error")],
    ),
    "huber": Case(
        *(2, None, "numbers", {"name": "huber", "delta": 0.3}, ["mse", "cosine_similarity"]),
        lambda: _l.Huber(0.3),
        lambda: [_m.MeanSquaredError("mse"), _m.CosineSimilarity("cosine_similarity")],
    ),
}
# CI has the time for all of them; by hand every loss with a mask and weights of steps, and without a mask once.
CI = os.environ.get("CI") == "true"
COMBINATIONS = [
    (f"{case}-{'masked' if masked else 'whole'}-{weights}", case, masked, weights)
    for case, masked, weights in itertools.product(CASES, (True, False), ("none", "of_sequences", "of_steps"))
    if CI or (masked and weights == "of_steps") or (case == "index" and (not masked or weights == "of_sequences"))
]


def _arrays() -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Tokens, of which 0 is masked; targets; weights of every kind, some of them 0."""
    random = np.random.RandomState(0)
    index = random.randint(CLASSES, size=(EXAMPLES, STEPS))
    lengths = random.randint(1, STEPS + 1, (EXAMPLES, 1))
    of_sequences = random.uniform(0.5, 2, size=(EXAMPLES, 1)) * (np.arange(EXAMPLES) > 0)[:, np.newaxis]
    kept = random.uniform(size=(EXAMPLES, STEPS)) < 0.7
    return (
        random.randint(1, 9, size=(EXAMPLES, STEPS)) * (np.arange(STEPS) < lengths),
        {
            "index": index,
            "one_hot": np.eye(CLASSES)[index],
            "labels": np.float64(random.uniform(size=(EXAMPLES, STEPS, CLASSES)) < 0.5),
            "numbers": random.normal(size=(EXAMPLES, STEPS, 2)),
        },
        {
            "none": np.ones((EXAMPLES, STEPS)),
            "of_sequences": of_sequences * np.ones(STEPS),
            "of_steps": random.uniform(0.5, 2, size=(EXAMPLES, STEPS)) * kept,
        },
    )


def load() -> dict[str, Examples]:
    """Every target once with each kind of weights."""
    tokens, targets, weights = _arrays()
    given = {"of_sequences": weights["of_sequences"][:, 0], "of_steps": weights["of_steps"]}
    split = Examples(
        tokens,
        {f"{target}_{kind}": values for target, values in targets.items() for kind in weights},
        {f"{target}_{kind}": array for target in targets for kind, array in given.items()},
    )
    return {"train": split, "validation": split}


def model() -> keras.Model:
    """A model with an output for every combination."""
    inputs = keras.Input((STEPS,), dtype="int64", name="inputs")
    vectors = {masked: keras.layers.Embedding(9, 5, mask_zero=masked)(inputs) for masked in (True, False)}
    heads = {
        (case, masked): keras.layers.Dense(spec.units, activation=spec.activation)(vectors[masked])
        for case, spec in CASES.items()
        for masked in vectors
    }
    return keras.Model(inputs, {name: heads[case, masked] for name, case, masked, _ in COMBINATIONS})


@pytest.mark.usefixtures("eagerly")
def test_losses_and_metrics_with_masks_and_weights():
    """Up to 42 combinations in one batch; weighted metrics and, over labelled steps alone, unweighted ones."""
    losses = {
        name: {
            "target": f"{CASES[case].target}_{weights}",
            "loss": CASES[case].loss,
            "normalizer": "examples",
            "metrics": CASES[case].metrics,
            "weighted_metrics": CASES[case].metrics,
        }
        for name, case, _, weights in COMBINATIONS
    }
    tree = {"precision": "float64", "batch_size": EXAMPLES, "losses": losses}
    tree |= {"dataset": {"name": f"{HERE}:load"}, "model": {"name": f"{HERE}:model"}}
    built = experiment.build(loading.resolve(tree), problems.strategy(1))
    ours = built.evaluator.build()()

    tokens, targets, weights = _arrays()
    of_labels = {name: weights[kind] * ((tokens > 0) | (not masked)) for name, _, masked, kind in COMBINATIONS}
    copy = keras.models.clone_model(built.model)  # outside the strategy
    copy.set_weights(built.model.get_weights())
    copy.compile(loss={name: CASES[case].keras_loss() for name, case, *_ in COMBINATIONS})
    theirs = copy.evaluate(
        tokens,
        {name: targets[CASES[case].target] for name, case, *_ in COMBINATIONS},
        batch_size=EXAMPLES,
        verbose=0,
        sample_weight={name: weights[kind] for name, *_, kind in COMBINATIONS},
        return_dict=True,
    )
    predictions = copy(tokens)
    for name, case, *_ in COMBINATIONS:
        assert ours[f"loss/{name}"] == pytest.approx(theirs[f"{name}_loss"], rel=0, abs=1e-9), name
        assert ours[f"labels/{name}"] == np.count_nonzero(of_labels[name])
        given = CASES[case].given(predictions[name])
        for prefix, sample_weight in (("weighted_", of_labels[name]), ("", np.float64(of_labels[name] > 0))):
            for metric in CASES[case].keras_metrics():
                of_each = isinstance(metric, keras.metrics.IoU)  # counts a flat list of labels
                weight = np.repeat(sample_weight[..., np.newaxis], CLASSES, -1) if of_each else sample_weight
                metric.update_state(targets[CASES[case].target], given, weight)
                expected = float(metric.result())
                assert ours[f"{name}/{prefix}{metric.name}"] == pytest.approx(expected, rel=0, abs=1e-9), name
