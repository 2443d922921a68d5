"""Metrics with `units: "original"` equal scikit-learn's on the columns as they are."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics as sklearn_metrics

from input_pipelines.preparation import inverses
from tests import eager, problems
from tests.input_pipelines import prepared
from trainer.common.errors import ConfigError
from trainer.components import losses, metrics, predictions
from trainer.run import experiment

RANDOM = np.random.RandomState(0)
ROWS = 30
COLUMNS = {
    "price": 1e6 + RANDOM.normal(size=ROWS),
    "sales": np.exp(RANDOM.normal(3, 2, size=ROWS)),
    "word": np.array([b"ham", b"eggs", b"spam"], object)[np.arange(ROWS) % 3],
}
TARGETS = {
    "price": {"prepare": "standardise"},
    "sales": {"prepare": ["log", "standardise"]},
    "both": {"feature": ["price", "sales"], "prepare": ["standardise", {"name": "reshape", "shape": [1, 2]}]},
    "clipped": {"feature": "sales", "prepare": [{"name": "clip", "low": 0, "high": 9}, "standardise"]},
    "raw": {"feature": "price", "prepare": {"name": "fill"}},
    "share": {"feature": "sales", "prepare": {"name": "scale", "by": 1e-6}},
    "word": {"prepare": "classes"},
}


@pytest.fixture(scope="module")
def preparation():
    keras.config.set_floatx("float32")
    return prepared.of_columns(COLUMNS, TARGETS)[0]


def _original(name, **more):
    return {"name": name, "units": "original", **more}


def _built(preparation, target, loss, names, head, weights=None, key="metrics"):
    keras.config.set_floatx("float32")
    given = {"head": "h", "target": target, "loss": loss, key: names}
    config = problems.config(losses={"l": given}, model__heads={"h": []}).losses["l"]
    spec = preparation.spec["targets"][target]
    return metrics.build(
        losses.build("l", config),
        config,
        prediction=tf.TensorSpec((None, *head)),
        target=tf.TensorSpec((None, *spec.shape), spec.dtype),
        weights=weights,
        inverse=inverses.of(preparation)[target],
    )


def _target(preparation, name):
    return preparation.of_arrays(COLUMNS | {"x": np.zeros(ROWS)})["targets"][name]


def own(target, prediction):
    """The largest distance of each example, in the units of what is given."""
    distances = tf.abs(tf.reshape(target, [tf.shape(prediction)[0], -1]) - prediction)
    return tf.reduce_max(distances, axis=-1)


def test_values_equal_scikit_learn(preparation):
    """One number, whose offset of a million takes all digits of float32 but one; the metrics sum in float64."""
    names = [*map(_original, ("mae", "r2_score")), _original("RootMeanSquaredError", **{"as": "rmse"}), "mse"]
    names += [_original("tests.trainer.components.test_original_units:own"), {**_original("mae"), "as": "again"}]
    built = _built(preparation, "price", "mse", names, (1,))
    prediction = tf.constant(RANDOM.normal(size=(ROWS, 1)), tf.float32)
    guess = COLUMNS["price"].mean() + COLUMNS["price"].std() * prediction.numpy()[:, 0].astype(np.float64)
    for metric in built.values():
        for rows in (slice(0, 13), slice(13, None)):
            metric.update(_target(preparation, "price")[rows], prediction[rows], None)
    found = {name: metric.result() for name, metric in built.items()}
    # Keras takes it of sums of squares, of which a million squared leaves three digits in float64, and none in float32.
    assert found.pop("r2_score") == pytest.approx(sklearn_metrics.r2_score(COLUMNS["price"], guess), rel=1e-2)
    mae = sklearn_metrics.mean_absolute_error(COLUMNS["price"], guess)
    expected = {
        "mae": mae,
        "rmse": sklearn_metrics.root_mean_squared_error(COLUMNS["price"], guess),
        "mse": sklearn_metrics.mean_squared_error(_target(preparation, "price"), prediction[:, 0]),
        "own": mae,
        "again": mae,
    }
    assert found == pytest.approx(expected, rel=1e-6)
    assert expected["rmse"] ** 2 != pytest.approx(expected["mse"], rel=1e-2)


@pytest.mark.parametrize(
    ("loss", "numbers"), [("mse", 1), ("gaussian_nll", 2), ({"name": "quantile", "quantiles": [0.1, 0.6]}, 2)]
)
def test_a_missing_label_adds_nothing_whatever_is_predicted_for_it(preparation, loss, numbers):
    """exp of a large number is infinite, and infinity times the weight 0 no number."""
    weights = np.where(np.arange(ROWS) % 4 == 0, 0, RANDOM.uniform(0.5, 2, ROWS)).astype(np.float32)
    head = RANDOM.normal(size=(ROWS, numbers)).astype(np.float32)
    head[weights == 0] = 1e30
    head[::8] = np.inf
    target = tf.where(weights > 0, _target(preparation, "sales"), 0)
    given = tf.constant(weights)
    logs = np.log1p(COLUMNS["sales"])
    chosen = head[:, 1 if isinstance(loss, dict) else 0].astype(np.float64)
    there = weights > 0
    guess = np.expm1(logs.mean() + logs.std() * np.where(there, chosen, 0))
    for key, counted in (("metrics", None), ("weighted_metrics", weights[there])):
        built = _built(preparation, "sales", loss, [_original("mae"), _original("r2_score")], (numbers,), given, key)
        for metric in built.values():
            metric.update(target, tf.constant(head), given)
        error = sklearn_metrics.mean_absolute_error(COLUMNS["sales"][there], guess[there], sample_weight=counted)
        score = sklearn_metrics.r2_score(COLUMNS["sales"][there], guess[there], sample_weight=counted)
        assert built["mae"].result() == pytest.approx(error, rel=1e-6)
        assert built["r2_score"].result() == pytest.approx(score, rel=1e-6)


def test_columns_have_units_of_their_own_and_labels_may_be_missing_one_by_one(preparation):
    weights = (RANDOM.uniform(size=(ROWS, 1, 2)) < 0.7).astype(np.float32)
    head = tf.constant(RANDOM.normal(size=(ROWS, 1, 2)), tf.float32)
    built = _built(preparation, "both", "mse", [_original("mae")], (1, 2), tf.constant(weights))
    built["mae"].update(_target(preparation, "both"), head, tf.constant(weights))
    columns = np.stack([COLUMNS["price"], COLUMNS["sales"]], -1)
    guess = columns.mean(0) + columns.std(0) * head.numpy()[:, 0].astype(np.float64)
    there = weights[:, 0] > 0
    assert built["mae"].result() == pytest.approx(np.abs(columns - guess)[there].mean(), rel=1e-6)


@pytest.mark.parametrize(
    ("target", "loss", "entry", "head", "words"),
    [
        ("price", "mse", {"name": "mae", "units": "metres"}, (1,), "must be 'original'"),
        ("price", "mse", {"name": "mae", "units": ["original"]}, (1,), "must be 'original'"),
        ("clipped", "mse", _original("mae"), (1,), "'clip' has no inverse"),
        ("raw", "mse", _original("mae"), (1,), "nothing that prepares target 'raw' changes its units"),
        ("word", {"name": "sparse_categorical_crossentropy"}, _original("accuracy"), (3,), "gives scores for"),
        ("share", "hinge", _original("mae"), (1,), "gives scores for Hinge"),
        ("share", {"name": "binary_crossentropy", "from_logits": True}, _original("mae"), (1,), "gives scores"),
        ("share", "binary_crossentropy", _original("auc"), (1,), "takes probabilities"),
        ("both", "distillation", _original("mae"), (1, 2), "gives scores"),
    ],
)
def test_refusals_are_one_line(preparation, target, loss, entry, head, words):
    with pytest.raises(ConfigError) as error:
        _built(preparation, target, loss, [entry], head)
    assert error.value.field == "losses.l.metrics.0.units"
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("replicas", [1, pytest.param(3, marks=pytest.mark.ci_only)])
def test_evaluations_segments_and_training_report_them(tmp_path, replicas):
    """Of a run on a table: against NumPy on the file's column, with missing labels, whole and by segment."""
    sold = [np.nan if row % 5 == 3 else 2.0 ** (row % 11) for row in range(40)]
    rows = [f"{row / 10},{row % 2},{'' if np.isnan(sold[row]) else sold[row]}" for row in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["x,ward,sold", *rows, ""]))
    config = problems.config(
        dataset={
            "name": "csv",
            "path": str(tmp_path / "t.csv"),
            "held_out": 0.5,
            "inputs": {"x": {"feature": ["x", "ward"]}},
            "targets": {"sold": {"prepare": ["log", "standardise"]}},
        },
        model={"trunk": [], "heads": {"sold": [{"layer": "Dense", "units": 1}]}},
        losses={"sold": {"loss": "mse", "metrics": [_original("mae")]}},
        metrics={"again": {"head": "sold", "target": "sold", "metrics": [_original("mae")]}},
        segments={"by": "ward"},
        train_metrics=True,
        shared_optimizer="sgd",
    )
    built = experiment.build(config, problems.strategy(replicas))
    sold, train, validation = np.array(sold), built.data.splits["train"], built.data.splits["validation"]
    logs = np.log1p(sold[_rows(train)])

    def error(split, chosen):
        rows = _rows(split)
        guess = np.expm1(np.nanmean(logs) + np.nanstd(logs) * built.model(split.examples.inputs)["sold"].numpy()[:, 0])
        return np.nanmean(np.abs(sold[rows] - guess)[np.isin(rows % 2, chosen)])

    with eager.functions() if replicas == 1 else contextlib.nullcontext():
        results = built.evaluator.build()(0)
    for name in ("sold/mae", "again/mae"):
        assert results[name] == pytest.approx(error(validation, [0, 1]), rel=1e-9)
    of_wards = [results[f"segment/ward={ward}/sold/mae"] for ward in (0, 1)]
    assert of_wards == pytest.approx([error(validation, [ward]) for ward in (0, 1)], rel=1e-9)
    assert results["sold/mae/worst"] == max(of_wards)

    batch = tf.nest.map_structure(tf.constant, train.examples.structure)
    built.train_metrics.add(predictions.of(built.model(batch["inputs"])), batch, ())
    assert built.train_metrics.report()["sold/mae"] == pytest.approx(error(train, [0, 1]), rel=1e-9)


def _rows(split) -> np.ndarray:
    """The rows of the file that a split has."""
    return np.round(10 * split.examples.inputs[:, 0]).astype(int)
