"""Evaluations of several splits and by segment equal scikit-learn's numbers, on any number of replicas."""

import contextlib

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from input_pipelines import data
from input_pipelines.configuration import DatasetConfig
from input_pipelines.examples import Examples
from input_pipelines.feed.in_memory import InMemory
from tests import eager, problems
from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.evaluation import segments
from trainer.run import experiment

LABELLED = 0.8
SIZES = {"train": 40, "validation": 61, "test": 47}
WARDS = (-1, 2, 5)


def load(wards: int = len(WARDS), dtype: str = "int64") -> dict[str, Examples]:
    """Three splits: a positive or negative with missing labels, a number with weights, the ward with missing values."""
    return {split: _split(count, seed, wards, dtype) for seed, (split, count) in enumerate(SIZES.items())}


def _split(count: int, seed: int, wards: int, dtype: str) -> Examples:
    random = np.random.RandomState(seed)
    inputs = random.normal(size=(count, 6))
    ward = np.array(WARDS)[random.randint(len(WARDS), size=count)] if wards == len(WARDS) else np.arange(count) % wards
    if seed == 2:  # a ward that the test split does not have
        ward = np.where(ward == WARDS[0], WARDS[1], ward)
    positive = (inputs[:, 0] + random.normal(size=count) > 0).astype(np.int64)
    targets = {"positive": positive, "number": inputs @ random.normal(size=6), "ward": ward.astype(dtype)}
    weights = {name: (random.uniform(size=count) < LABELLED).astype(float) for name in ("positive", "ward")}
    weights["positive"][ward == 5] = 0 if seed == 1 else 1  # a ward without a label
    return Examples(inputs, targets, weights | {"number": random.uniform(0.5, 2, size=count)})


def _config(**changes):
    positive = {
        "loss": {"name": "binary_crossentropy", "from_logits": True},
        "metrics": ["accuracy", {"name": "AUC", "num_thresholds": 20_001, "as": "auc"}, "f1_score"],
    }
    number = {"loss": "mse", "normalizer": "examples", "metrics": ["mae", {"name": "r2_score"}]}
    tree = {
        "dataset__name": "tests.trainer.evaluation.test_segments:load",
        "dataset__options": {},
        "model__heads": {"positive": [{"layer": "Dense", "units": 1}], "number": [{"layer": "Dense", "units": 1}]},
        "losses": {"positive": positive, "number": number},
        "segments": {"by": "ward"},
    }
    return problems.config(**{**tree, **changes})


@pytest.mark.parametrize("replicas", [1, pytest.param(3, marks=pytest.mark.ci_only)])
def test_equals_scikit_learn(replicas):
    """Two splits, as wholes and ward by ward; one ward has no label of one loss, another is in one split alone."""
    built = experiment.build(_config(), problems.strategy(replicas))
    with eager.functions() if replicas == 1 else contextlib.nullcontext():
        evaluate = built.evaluator.build()
        for split in ("validation", "test"):
            results = evaluate(0, split)
            expected = _expected(built.model, load()[split])
            assert results.keys() == expected.keys()
            for name, value in expected.items():
                # Keras adds 1e-7 to what an F1 score is divided by, and keeps the thresholds of an area as float32.
                tolerance = 1e-6 if "f1_score" in name or "auc" in name else 1e-12
                assert results[name] == (None if value is None else pytest.approx(value, rel=tolerance)), name


def _expected(model, split: Examples) -> dict[str, float | None]:
    outputs = {name: values.numpy()[:, 0] for name, values in model(split.inputs).items()}
    wards = np.where(split.weights["ward"] > 0, split.targets["ward"], 99)
    expected = _numbers(outputs, split, np.ones(len(split), bool))
    of_wards = {ward: _numbers(outputs, split, wards == ward) for ward in sorted({*wards} - {99})}
    for ward, numbers in of_wards.items():
        expected |= {f"segment/ward={ward}/{name}": number for name, number in numbers.items()}
    for name in numbers:
        worst = max if name.startswith("loss/") or name == "number/mae" else min
        if not name.startswith("labels/"):
            known = [own[name] for own in of_wards.values() if own[name] is not None]
            expected[f"{name}/worst"] = worst(known)
    return expected


def _numbers(outputs, split: Examples, chosen) -> dict[str, float | None]:
    labelled = chosen & (split.weights["positive"] > 0)
    truth, logits = split.targets["positive"][labelled], outputs["positive"][labelled]
    number, guess = split.targets["number"][chosen], outputs["number"][chosen]
    error, none = number - guess, not labelled.any()
    return {
        "loss/positive": None if none else sklearn_metrics.log_loss(truth, 1 / (1 + np.exp(-logits))),
        "loss/number": np.sum(split.weights["number"][chosen] * error**2) / chosen.sum(),
        "positive/accuracy": None if none else sklearn_metrics.accuracy_score(truth, logits > 0),
        "positive/auc": None if none else sklearn_metrics.roc_auc_score(truth, logits),
        "positive/f1_score": None if none else sklearn_metrics.f1_score(truth, logits > 0),
        "number/mae": sklearn_metrics.mean_absolute_error(number, guess),
        "number/r2_score": sklearn_metrics.r2_score(number, guess),
        "labels/positive": labelled.sum(),
        "labels/number": chosen.sum(),
    }


def test_values_of_inputs_and_of_streamed_targets_are_found():
    flags = {
        "inputs": {"x": np.zeros((4, 2)), "flag": np.array([True, False, True, True])},
        "targets": {"y": np.ones(4)},
    }
    assert segments.find("flag", {"test": InMemory(Examples(**flags))}) == ("inputs", {"test": (0, 1)})


def test_a_column_that_is_an_input_can_make_segments(tmp_path):
    """It stays an input, and nothing is said of it; where it is absent an example has no segment."""
    wards = ["" if row % 5 == 0 else str(row % 3) for row in range(40)]
    table = "\n".join(f"{row % 7},{row % 3},{ward},{row % 2}" for row, ward in enumerate(wards))
    (tmp_path / "t.csv").write_text(f"x,room,ward,y\n{table}\n")
    tree = {"name": "csv", "path": str(tmp_path / "t.csv"), "held_out": 0.5, "targets": {"y": {}}, "fill": 0}
    config = schema.record(DatasetConfig)(tree, "dataset")
    plain, by_ward = data.build(config), data.build(config, segments="ward")
    for name, split in plain.splits.items():
        np.testing.assert_array_equal(by_ward.splits[name].examples.inputs, split.examples.inputs)
    assert by_ward.notes == plain.notes
    assert segments.find("ward", by_ward.splits) == ("targets", dict.fromkeys(("train", "validation"), (0, 1, 2)))
    assert set(by_ward.splits["train"].examples.weights["ward"]) == {0, 1}


@pytest.mark.parametrize(
    ("by", "options", "words"),
    [
        ("wart", {}, "unknown target, input or feature; did you mean 'ward'"),
        ("ward", {"dtype": "float64"}, "must be a whole number.*'categories' make some"),
        (
            "ward",
            {"wards": 150},
            "has 1[0-9]+ different values in the splits that are evaluated; there may be 1 to 100",
        ),
    ],
)
def test_what_makes_no_segments_is_named(by, options, words):
    wide = {**SIZES, "validation": 150}
    splits = {
        split: InMemory(_split(wide[split], seed, options.get("wards", 3), options.get("dtype", "int64")))
        for seed, split in enumerate(SIZES)
    }
    with pytest.raises(ConfigError, match=words) as found:
        segments.find(by, splits)
    assert found.value.field == "segments.by"
