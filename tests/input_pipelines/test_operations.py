"""Operations against NumPy: what each makes of values, what it learns, and from which examples."""

import numpy as np
import pytest
import tensorflow as tf

from input_pipelines.configuration import SourceConfig
from input_pipelines.preparation import operations, preparation
from input_pipelines.sources.source import CHUNK, Arrays
from tests.input_pipelines.operands import NUMBERS, PICTURES, RANDOM, WORDS, apply, learn, name
from trainer.common import schema

pytestmark = pytest.mark.usefixtures("float64")


def _bilinear_half(pictures: np.ndarray) -> np.ndarray:
    """Half the size by a triangle over four pixels, weights cut off and scaled up at the border."""

    def halve(values: np.ndarray, axis: int) -> np.ndarray:
        values = np.moveaxis(values.astype(np.float64), axis, 0)
        result = []
        for centre in np.arange(1, len(values), 2.0):
            weights = np.maximum(1 - np.abs(np.arange(len(values)) + 0.5 - centre) / 2, 0)
            result.append(np.tensordot(weights / weights.sum(), values, 1))
        return np.moveaxis(np.array(result), 0, axis)

    return halve(halve(pictures, 1), 2)


@pytest.mark.parametrize(
    ("spec", "values", "expected"),
    [
        ("scale", PICTURES, PICTURES / 255),
        ({"name": "scale", "by": -2, "offset": 0.5}, NUMBERS, -2 * NUMBERS + 0.5),
        ("log", np.array([0, 1, 99_999]), np.log([1, 2, 100_000])),
        ({"name": "clip", "low": 2, "high": 4.5}, NUMBERS, np.clip(NUMBERS, 2, 4.5)),
        ("fill", np.array([1, np.nan, -3]), np.array([1, 0, -3])),
        ({"name": "fill", "value": -1}, np.array([[np.nan, 2], [3, np.nan]]), np.array([[-1, 2], [3, -1]])),
        ({"name": "fill", "value": -1}, np.array([4, 5]), np.array([4, 5])),
        ({"name": "bins", "edges": [0, 1.5, 4]}, NUMBERS, np.digitize(NUMBERS, [0, 1.5, 4])),
        ({"name": "bins", "edges": [1, 2]}, np.array([0, 1, 2, 3]), np.array([0, 1, 2, 2])),
        ({"name": "threshold", "above": 3}, NUMBERS, NUMBERS > 3),
        ({"name": "threshold", "above": 3}, np.array([2, 3, 4]), np.array([0, 0, 1])),
        ({"name": "threshold", "above": 3}, np.array([2, np.nan, 4]), np.array([0, np.nan, 1])),
        ({"name": "bins", "edges": [1, 2]}, np.array([0, np.nan, 3]), np.array([0, -1, 2])),
        ({"name": "equals", "values": ["a", "c"]}, WORDS, np.isin(WORDS, [b"a", b"c"])),
        ({"name": "equals", "values": "a"}, WORDS, WORDS == b"a"),
        ({"name": "equals", "values": [3, 5]}, np.arange(7), np.isin(np.arange(7), [3, 5])),
        ({"name": "equals", "values": [7]}, np.array([b"7", b"07"], object), np.array([1, 0])),
        ({"name": "equals", "values": 0.5}, np.array([0.5, 1, np.nan]), np.array([1, 0, np.nan])),
        ({"name": "groups", "of": [0, 1, 1, 0]}, np.array([3, 1, 2, 0, 1]), np.array([0, 1, 1, 0, 1])),
        ({"name": "groups", "of": [2, 0]}, np.array([1, 2, -1, 0], np.int32), [0, -1, -1, 2]),
        ({"name": "one_hot", "classes": 4}, np.array([3, 0, 1]), np.eye(4)[[3, 0, 1]]),
        ({"name": "one_hot", "classes": 2}, np.array([1, 2, -1]), [[0, 1], [np.nan] * 2, [np.nan] * 2]),
        ({"name": "one_hot", "classes": 3}, np.array([[0, 2]]), np.eye(3)[[[0, 2]]]),
        ({"name": "classes", "names": ["c", "a", "b"]}, WORDS, np.array([2, 1, 0, 1, 2, 1, -1])),
        ({"name": "classes", "names": [30, 10]}, np.array([10, 30, 20]), np.array([1, 0, -1])),
        ({"name": "central_crop", "height": 4, "width": 3}, PICTURES, PICTURES[:, 2:6, 1:4]),
        ({"name": "central_crop", "height": 8, "width": 6}, PICTURES, PICTURES),
        ({"name": "resize", "height": 4, "width": 3}, PICTURES, _bilinear_half(PICTURES)),
        (
            {"name": "resize", "height": 16, "width": 12, "method": "nearest"},
            PICTURES,
            PICTURES.repeat(2, 1).repeat(2, 2),
        ),
        (
            {"name": "resize", "height": 4, "width": 3, "method": "area"},
            PICTURES,
            PICTURES.reshape(5, 4, 2, 3, 2, 3).mean((2, 4)),
        ),
        ({"name": "reshape", "shape": [2, 2]}, NUMBERS, NUMBERS.reshape(50, 2, 2)),
        ({"name": "reshape", "shape": [6, -1]}, PICTURES, PICTURES.reshape(5, 6, 24)),
        ({"name": "reshape", "shape": -1}, PICTURES, PICTURES.reshape(5, 144)),
    ],
    ids=name,
)
def test_values(spec, values, expected):
    # TensorFlow resizes in single precision.
    tolerance = 1e-5 if "resize" in str(spec) else 1e-12
    np.testing.assert_allclose(apply(spec, values), np.asarray(expected, np.float64), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("spec", "values", "expected"),
    [
        ("standardise", NUMBERS, (NUMBERS - NUMBERS.mean(0)) / NUMBERS.std(0)),
        ("standardise", NUMBERS[:, 0], (NUMBERS[:, 0] - NUMBERS[:, 0].mean()) / NUMBERS[:, 0].std()),
        ("standardise", 1e8 + NUMBERS, (NUMBERS - NUMBERS.mean(0)) / NUMBERS.std(0)),
        ("standardise", PICTURES, (PICTURES - PICTURES.mean((0, 1, 2))) / PICTURES.std((0, 1, 2))),
    ],
    ids=["columns", "one column", "a distant mean", "channels"],
)
@pytest.mark.parametrize("chunks", [1, 3, 5])
def test_mean_0_and_deviation_1(spec, values, expected, chunks):
    tolerance = 1e-7 if np.abs(values).max() > 1e6 else 1e-12
    np.testing.assert_allclose(apply(spec, values, chunks=chunks), expected, rtol=0, atol=tolerance)


def test_grey_is_how_bright_a_picture_is():
    expected = PICTURES @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(apply("grayscale", PICTURES)[..., 0], expected, atol=1)
    assert apply("grayscale", PICTURES).shape == (5, 8, 6, 1)


@pytest.mark.parametrize("chunks", [1, 4])
def test_what_does_not_vary_in_training_becomes_0(chunks):
    values = NUMBERS.copy()
    values[:, 1], values[:, 2] = 0.1, -1e6
    standardised = apply("standardise", values + np.array([0, 5, 5, 0]), training=values, chunks=chunks)
    np.testing.assert_array_equal(standardised[:, [1, 2]], 0)
    assert np.isfinite(standardised).all()
    assert standardised[:, [0, 3]].all()


@pytest.mark.parametrize("chunks", [1, 7])
def test_missing_numbers_count_for_nothing(chunks):
    values = np.where(RANDOM.uniform(size=NUMBERS.shape) < 0.3, np.nan, NUMBERS)
    values[:10] = np.nan
    expected = (values - np.nanmean(values, 0)) / np.nanstd(values, 0)
    np.testing.assert_allclose(apply("standardise", values, chunks=chunks), expected, atol=1e-12)
    edges = np.quantile(values[np.isfinite(values)], [0.25, 0.5, 0.75])
    binned = apply({"name": "bins", "count": 4}, NUMBERS, training=values, chunks=chunks)
    np.testing.assert_array_equal(binned, np.digitize(NUMBERS, edges))


@pytest.mark.parametrize("chunks", [1, 3])
def test_labels_that_do_not_count_are_not_learned_from(chunks):
    present = np.arange(50) % 3 > 0
    marked = np.where(present, NUMBERS[:, 0], -999.0)
    expected = (marked - marked[present].mean()) / marked[present].std()
    np.testing.assert_allclose(apply("standardise", marked, present=present, chunks=chunks), expected, rtol=1e-12)
    words = np.where(present, b"known", b"?").astype(object)
    assert set(apply("classes", words, present=present, chunks=chunks)) == {0, -1}


@pytest.mark.parametrize("count", [2, 5])
def test_bins_are_equally_frequent(count):
    values = RANDOM.lognormal(size=1000)
    binned = apply({"name": "bins", "count": count}, values, chunks=3)
    np.testing.assert_array_equal(np.bincount(binned), 1000 / count)
    assert all(values[binned == low].max() < values[binned == low + 1].min() for low in range(count - 1))


@pytest.mark.parametrize("spec", ["standardise", {"name": "bins", "count": 3}, "categories", "classes"], ids=name)
def test_nothing_to_learn_from_is_no_obstacle(spec):
    text = spec in ("categories", "classes")
    values = WORDS if text else NUMBERS
    made = apply(spec, values, present=np.zeros(values.shape, bool))
    assert made.shape == values.shape
    assert np.isfinite(made).all()


@pytest.mark.parametrize("chunks", [1, 2, 7])
@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("categories", [2, 1, 4, 1, 2, 1, 3]),
        ({"name": "categories", "minimum": 2}, [2, 1, 0, 1, 2, 1, 0]),
        ({"name": "categories", "minimum": 4}, [0, 0, 0, 0, 0, 0, 0]),
        ("classes", [2, 1, 3, 1, 2, 1, 0]),
    ],
    ids=name,
)
def test_words_by_frequency_or_in_order(spec, expected, chunks):
    np.testing.assert_array_equal(apply(spec, WORDS, chunks=chunks), expected)


def test_every_column_has_categories_of_its_own():
    columns = np.array([[b"x", b"x"], [b"y", b"x"], [b"y", b"z"], [b"w", b"x"]], object)
    np.testing.assert_array_equal(apply("categories", columns, chunks=2), [[3, 1], [1, 1], [1, 2], [2, 1]])
    unseen = np.array([[b"z", b"y"]], object)
    np.testing.assert_array_equal(apply("categories", unseen, training=columns), [[0, 0]])


@pytest.mark.parametrize(
    ("values", "categories", "classes"),
    [
        (np.array([40, 5, 5, -3, 40, 5]), [2, 1, 1, 3, 2, 1], [2, 1, 1, 0, 2, 1]),
        (np.array([200, 7, 7], np.uint8), [2, 1, 1], [1, 0, 0]),
        (np.array([True, False, True]), [1, 2, 1], [1, 0, 1]),
    ],
    ids=["integers", "bytes", "booleans"],
)
def test_whole_numbers_are_names_too(values, categories, classes):
    np.testing.assert_array_equal(apply("categories", values), categories)
    np.testing.assert_array_equal(apply("classes", values), classes)


def test_how_many_categories_there_are():
    counts = []
    for spec, values, columns in (
        ({"name": "categories"}, np.stack([WORDS, WORDS[::-1]], 1), 2),
        ({"name": "categories", "minimum": 2}, WORDS, 1),
        ({"name": "bins", "edges": [0.0, 1.0]}, NUMBERS, 3),
        ({"name": "groups", "of": [0, 4, 1]}, np.arange(3), 2),
    ):
        operation = operations.build([spec], "prepare")[0]
        counts.append(operation.categories(learn(operation, values, np.ones(values.shape, bool), 1), columns))
    assert counts == [(5, 5), (3,), (3, 3, 3), (5, 5)]


@pytest.mark.parametrize("rows", [10, 2 * CHUNK + 3])
def test_statistics_are_those_of_training(rows):
    """One operation after another, each on what the one before made, over as many chunks as there are."""
    random = np.random.RandomState(1)
    arrays = {
        "number": random.lognormal(1, 2, size=rows),
        "word": random.choice(np.array([b"one", b"two", b"three"], object), size=rows, p=[0.7, 0.2, 0.1]),
        "label": random.randint(0, 9, size=rows),
    }
    tree = {
        "name": "csv",
        "path": "x",
        "inputs": {
            "number": {"prepare": ["log", "standardise", {"name": "bins", "count": 4}]},
            "word": {"prepare": ["categories"]},
        },
        "targets": {"label": {"prepare": ["standardise"]}},
    }
    config = schema.record(SourceConfig)(tree, "dataset")
    prepare = preparation.build({"dataset": (config, Arrays(arrays, str))})["dataset"]
    others = {"number": np.array([0.0, 3.0, 1e9]), "word": np.array([b"two", b"four", b"one"], object)}
    made = prepare({name: tf.constant(value) for name, value in (others | {"label": np.array([0, 4, 8])}).items()})
    logs = np.log1p(arrays["number"])
    edges = np.quantile((logs - logs.mean()) / logs.std(), [0.25, 0.5, 0.75])
    wanted = np.digitize((np.log1p(others["number"]) - logs.mean()) / logs.std(), edges)
    np.testing.assert_array_equal(made["inputs"]["number"], wanted)
    names, counts = np.unique(arrays["word"].astype(bytes), return_counts=True)
    order = list(names[np.lexsort((names, -counts))])
    np.testing.assert_array_equal(made["inputs"]["word"], [order.index(b"two") + 1, 0, order.index(b"one") + 1])
    label = (np.array([0, 4, 8]) - arrays["label"].mean()) / arrays["label"].std()
    np.testing.assert_allclose(made["targets"]["label"], label, rtol=1e-12)
    resumed = preparation.build(
        {"dataset": (config, Arrays(others | {"label": np.zeros(3)}, str))}, {"dataset": prepare.statistics}
    )["dataset"]
    assert resumed.statistics == prepare.statistics


def double(values: tf.Tensor, times: float = 2.0) -> tf.Tensor:
    """An operation of a user's own."""
    return times * values


def test_an_operation_of_ones_own():
    own = "tests.input_pipelines.test_operations:double"
    np.testing.assert_array_equal(apply(own, NUMBERS), 2 * NUMBERS)
    np.testing.assert_array_equal(apply({"name": own, "times": 3.0}, NUMBERS), 3 * NUMBERS)
