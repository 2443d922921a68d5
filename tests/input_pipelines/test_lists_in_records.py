"""Lists of varying length in TFRecords: classes as a vector of zeros and ones, or filled up to one length."""

import numpy as np
import pytest
import tensorflow as tf

from tests.input_pipelines import reading
from tests.input_pipelines.plain_records import simple

_NONE = tf.train.Feature(int64_list=tf.train.Int64List())
_LISTS = [[2], [0, 1], _NONE, [3, 3, 0], None, [0, 1, 2, 3]]
_HOT = [[0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]]
_EMPTY = np.array([False, False, True, False, True, False])
_NAMES = {"int64": [10, -3, 7, 2], "string": ["cat", "dog", "ü", "d"]}


def _records(lists: list) -> list[dict]:
    """A record for each list, without it where it is None."""
    return [
        {"x": float(index), "index": index} | ({} if values is None else {"y": values})
        for index, values in enumerate(lists)
    ]


def _given(tmp_path, described: dict, lists: list, feed: str, target: dict | None = None) -> dict[str, np.ndarray]:
    features = {"x": "float32", "index": "int64", "y": described}
    built = simple(tmp_path, features, _records(lists), feed=feed, targets={"index": {}, "y": target or {}})
    given = reading.in_order(built.splits["train"])
    reading.assert_gives(built.splits["train"], given, by="targets.index")
    return given


@pytest.mark.parametrize(
    ("feed", "optional", "classes"),
    [
        ("memory", False, None),
        pytest.param("memory", True, "int64", marks=pytest.mark.ci_only),
        ("memory", False, "string"),
        ("streaming", True, "string"),
        pytest.param("streaming", False, None, marks=pytest.mark.ci_only),
    ],
)
def test_lists_of_classes_as_zeros_and_ones(tmp_path, feed, optional, classes):
    """An empty list is no class, or no label where it is optional."""
    names = list(range(4)) if classes is None else _NAMES[classes]
    lists = [[names[index] for index in each] if isinstance(each, list) else each for each in _LISTS]
    if classes == "string":
        lists[2] = tf.train.Feature(bytes_list=tf.train.BytesList())
    described = {"dtype": classes or "int64", "classes": 4 if classes is None else names, "optional": optional}
    given = _given(tmp_path, described, lists, feed)
    np.testing.assert_array_equal(given["targets.y"], _HOT)
    weights = given.get("weights.y", np.ones((6, 4)))
    np.testing.assert_array_equal(weights, np.repeat(~(_EMPTY & optional), 4).reshape(6, 4))


@pytest.mark.parametrize("feed", reading.STREAMING_BY_HAND)
def test_lists_that_are_filled_up(tmp_path, feed):
    described = {"dtype": "int64", "shape": [4], "pad": -1}
    given = _given(tmp_path, described, _LISTS, feed, {"missing": -1})
    shown = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0] * 4, [1, 1, 1, 0], [0] * 4, [1] * 4])
    filled = [[2, 0, 0, 0], [0, 1, 0, 0], [0] * 4, [3, 3, 0, 0], [0] * 4, [0, 1, 2, 3]]
    np.testing.assert_array_equal(given["targets.y"], filled)
    np.testing.assert_array_equal(given["weights.y"], shown)


@pytest.mark.parametrize("optional", [False, True])
def test_rows_of_numbers_that_are_filled_up(tmp_path, optional):
    """Whole rows alone; where the list is optional, an empty one is missing instead."""
    described = {"dtype": "float64", "shape": [2, 2], "pad": 0.5, "optional": optional}
    given = _given(tmp_path, described, [[1.0, 2.0], [1.0, 2.0, 3.0, 4.0], None], "memory")
    filled = [[[1, 2], [0.5, 0.5]], [[1, 2], [3, 4]], np.full((2, 2), 0 if optional else 0.5)]
    np.testing.assert_array_equal(given["targets.y"], filled)
    if optional:
        np.testing.assert_array_equal(given["weights.y"], np.repeat([1, 1, 0], 4).reshape(3, 2, 2))


def test_words_that_are_filled_up(tmp_path):
    """As an input: what fills up is a category like any other."""
    features = {"x": {"dtype": "string", "shape": [3], "pad": "-"}, "index": "int64"}
    records = [{"x": ["a", "b", "a"], "index": 0}, {"x": ["b"], "index": 1}, {"index": 2}]
    prepare = [{"name": "classes", "names": ["-", "a", "b"]}]
    built = simple(tmp_path, features, records, inputs={"x": {"prepare": prepare}})
    given = reading.in_order(built.splits["train"])["inputs"]
    np.testing.assert_array_equal(given, [[1, 2, 1], [2, 0, 0], [0, 0, 0]])
