"""Prepared targets come back in the units of their columns, as far as the operations on them have inverses."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from input_pipelines import data
from input_pipelines.configuration import DatasetConfig
from input_pipelines.examples import Examples
from input_pipelines.preparation import inverses
from tests.input_pipelines import prepared, reading
from trainer.common import schema

RANDOM = np.random.RandomState(0)
ROWS = 60
COLUMNS = {
    "year": 2000 + RANDOM.randint(0, 20, ROWS),
    "offset": 1e6 + RANDOM.normal(size=ROWS),
    "sales": np.exp(RANDOM.normal(5, 3, ROWS)),
    "constant": np.full(ROWS, 7.5),
    "vector": RANDOM.normal([1, -100, 1e4], [1, 5, 300], size=(ROWS, 3)),
    "pixels": RANDOM.randint(0, 256, (ROWS, 4, 3, 2)).astype(np.uint8),
    "digit": RANDOM.choice([3, 7, 11], ROWS),
    "word": np.array([b"ham", b"eggs", b"spam"], object)[np.arange(ROWS) % 3],
}
STANDARDISED = "standardise"


def _inverse(features, prepare):
    preparation, source = prepared.of_columns(COLUMNS, {"t": {"feature": features, "prepare": prepare}})
    values = preparation(next(source.chunks(preparation.features)))["targets"]["t"]
    return inverses.of(preparation)["t"], values


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(
    ("features", "prepare"),
    [
        (["year"], [STANDARDISED]),
        (["offset"], [STANDARDISED]),
        (["sales"], ["log", STANDARDISED]),
        (["sales"], [{"name": "scale", "by": -0.01, "offset": 3}]),
        (["offset"], [{"name": "fill", "value": "mean"}, STANDARDISED, {"name": "scale", "by": 2}]),
        (["year", "offset", "sales"], [STANDARDISED]),  # each by its own mean and deviation
        (["vector", "year"], [STANDARDISED, {"name": "reshape", "shape": [2, -1]}]),
        (["pixels"], ["scale", STANDARDISED]),
        (["pixels"], [{"name": "reshape", "shape": -1}, "scale"]),
        (["constant"], [STANDARDISED]),
    ],
)
def test_round_trips(features, prepare, precision):
    keras.config.set_floatx(precision)
    inverse, values = _inverse(features, prepare)
    assert values.dtype == precision
    columns = [COLUMNS[name] for name in features]
    wide = [each[:, np.newaxis] if each.ndim == 1 else each for each in columns]
    expected = (columns[0] if len(columns) == 1 else np.concatenate(wide, axis=-1)).astype(np.float64)
    undone = inverse(values)
    assert inverse.hindrance is None
    assert inverse.changes
    assert inverse.shape == undone.shape[1:] == expected.shape[1:]
    # Half a unit in the last place of the prepared number, not of the column's: 1e6 ± 1 keeps its digits.
    rounding = 1e-6 if precision == "float32" else 1e-12
    spread = np.maximum(expected.std(0), np.abs(expected) if "log" in prepare else 0)
    assert np.all(np.abs(undone.numpy() - expected) <= rounding * np.maximum(10 * spread, 1e-3 * np.abs(expected)))


@pytest.mark.parametrize(
    ("feature", "prepare", "stopped_by", "undone"),
    [
        ("sales", [{"name": "clip", "low": 0, "high": 50}, STANDARDISED], "clip", np.clip(COLUMNS["sales"], 0, 50)),
        ("sales", [{"name": "bins", "count": 3}], "bins", None),
        ("sales", [{"name": "threshold", "above": 50}], "threshold", None),
        ("digit", [{"name": "equals", "values": [7]}], "equals", None),
        ("digit", ["classes"], "classes", None),
        ("word", ["classes", {"name": "one_hot", "classes": 3}], "one_hot", None),
        ("word", ["classes", {"name": "groups", "of": [0, 1, 1]}], "groups", None),
        ("sales", ["tests.input_pipelines.test_inverses:own", "log"], "own", COLUMNS["sales"] ** 0.5),
        ("sales", [{"name": "scale", "by": 0}], "scale", None),
        ("year", [], None, None),
    ],
)
def test_the_way_back_ends_at_an_operation_without_inverse(feature, prepare, stopped_by, undone):
    keras.config.set_floatx("float64")
    inverse, values = _inverse(feature, prepare)
    assert inverse.stopped_by == stopped_by
    assert inverse.changes == (undone is not None)
    np.testing.assert_allclose(inverse(values), values if undone is None else undone, rtol=1e-12)
    assert (inverse.hindrance is None) == (stopped_by is None)
    assert stopped_by is None or repr(stopped_by) in inverse.hindrance


def own(values):
    return tf.sqrt(values)


@pytest.mark.parametrize(
    ("feature", "prepare", "labels"),
    [
        ("digit", ["classes"], (3, 7, 11)),
        ("digit", [{"name": "classes", "names": [11, 3, 7]}], (11, 3, 7)),
        ("word", ["classes", {"name": "one_hot", "classes": 3}], ("eggs", "ham", "spam")),
        ("word", ["classes", {"name": "groups", "of": [0, 1, 1]}], None),
        ("digit", [], None),
    ],
)
def test_classes_are_the_labels_of_the_source(feature, prepare, labels):
    assert _inverse(feature, prepare)[0].labels == labels


def test_what_did_not_vary_comes_back_as_its_mean():
    inverse, _ = _inverse("constant", [STANDARDISED])
    np.testing.assert_array_equal(inverse(tf.constant([0.0, 3.0, -1e9])), [7.5] * 3)


def load() -> dict[str, Examples]:
    split = Examples({"x": np.zeros((4, 1))}, {"t": np.arange(4.0)}, {})
    return {"train": split, "validation": split}


def test_data_hold_the_way_back_of_every_target(tmp_path):
    """Of a table, a function, and several sources, which must prepare a target alike."""
    path = tmp_path / "t.csv"
    path.write_text("x,t,age\n" + "".join(f"{row},{row * row},{row * row}\n" for row in range(8)))
    table = {"name": "csv", "path": str(path), "held_out": 0.5, "inputs": {"x": {}}}
    standardised = {**table, "targets": {"t": {"prepare": STANDARDISED}}}
    of_table = reading.build(standardised)
    given = of_table.splits["validation"].labels(["t"])
    values = np.concatenate([labels["t"][0] for labels in given])
    rows = reading.in_order(of_table.splits["validation"])["inputs"].reshape(-1)
    np.testing.assert_allclose(of_table.inverses["t"](tf.constant(values)), rows**2, atol=1e-12)

    of_function = reading.build({"name": "tests.input_pipelines.test_inverses:load"})
    assert not of_function.inverses["t"].changes
    assert of_function.inverses["t"].hindrance is None

    def mixed(**other):
        sources = {"a": {**standardised, "quota": 1}, "b": {**table, "quota": 1, "targets": {"t": other}}}
        return data.build(schema.record(DatasetConfig)({"sources": sources}, "dataset")).inverses["t"]

    alike = mixed(feature="age", prepare=STANDARDISED)  # learned from both together
    assert alike.hindrance is None
    np.testing.assert_allclose(alike(tf.constant([0.0])), np.mean(alike.undone[0].learned["mean"]))
    assert "sources" in mixed(prepare="log").hindrance
    assert not mixed(prepare="log").changes
