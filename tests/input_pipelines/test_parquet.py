"""Parquet files: what a column becomes, in memory and streamed, and files that cannot be read."""

import datetime
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from input_pipelines import data
from input_pipelines.configuration import SourceConfig
from input_pipelines.sources import parquet
from tests.input_pipelines import reading
from trainer.common import schema
from trainer.common.errors import ConfigError

ABSENT = np.iinfo(np.int64).min
LISTS = pyarrow.list_(pyarrow.int16())


def _write(path: pathlib.Path, columns: Mapping[str, Any], rows: int = 2) -> None:
    """A file of row groups of some rows each."""
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=rows)


def _open(path: pathlib.Path, **changes: Any) -> dict[str, parquet.Parquet]:
    tree = {"name": "parquet", "path": str(path), "targets": {"y": {}}} | changes
    return parquet.open_splits(schema.record(SourceConfig)(tree, "dataset"), "dataset")


def _column(path: pathlib.Path, values: pyarrow.Array, **changes: Any) -> np.ndarray:
    _write(path / "a.parquet", {"y": pyarrow.array(range(len(values))), "x": values})
    return _open(path / "a.parquet", **changes)["train"].in_memory().arrays["x"]


def _error(build: Any, *arguments: Any, **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        build(*arguments, **changes)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pyarrow.array([1, 2, 3], pyarrow.uint8()), np.array([1, 2, 3], np.int64)),
        (pyarrow.array([1, None, 3], pyarrow.int32()), np.array([1, np.nan, 3])),
        (pyarrow.array([0.5, None, 2], pyarrow.float32()), np.array([0.5, np.nan, 2], np.float32)),
        (pyarrow.array([1, 2, None]).cast(pyarrow.decimal128(22, 1)), np.array([1, 2, np.nan])),
        (pyarrow.nulls(3), np.full(3, np.nan)),
        (pyarrow.array([True, False, True]), np.array([True, False, True])),
        (pyarrow.array(["é", None, ""]), np.array(["é".encode(), b"", b""], object)),
        (pyarrow.array([b"\0\xff", None, b"a\0"]), np.array([b"\0\xff", b"", b"a\0"], object)),
        (pyarrow.array(["b", None, "a"]).dictionary_encode(), np.array([b"b", b"", b"a"], object)),
        (
            pyarrow.array([datetime.date(2024, 1, day) for day in (1, 2, 3)]),
            [b"2024-01-01", b"2024-01-02", b"2024-01-03"],
        ),
        (pyarrow.array([[1, 2], [3, 4], [5, 6]], LISTS), np.array([[1, 2], [3, 4], [5, 6]], np.int16)),
        (pyarrow.array([[1, None], None, [5, 6]], LISTS), np.array([[1, np.nan], [np.nan, np.nan], [5, 6]])),
        (pyarrow.array([[1.0], None, [5]], pyarrow.list_(pyarrow.float32(), 1)), np.array([[1], [np.nan], [5]], "f4")),
        (pyarrow.array([[[1, 2]], [[3, 4]], [[5, 6]]]), np.array([[[1, 2]], [[3, 4]], [[5, 6]]])),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pyarrow.Array) else "",
)
def test_what_a_column_becomes(tmp_path, values, expected):
    given = _column(tmp_path, values)
    expected = np.array(expected, object) if isinstance(expected, list) else expected
    assert given.dtype == expected.dtype
    np.testing.assert_array_equal(given, expected)


@pytest.mark.parametrize("values", [pyarrow.array([1, None, 0], pyarrow.int8()), pyarrow.array([True, None, False])])
def test_whole_labels_with_gaps_stay_whole(tmp_path, values):
    given = _column(tmp_path, values, targets={"x": {}})
    np.testing.assert_array_equal(given, np.array([1, ABSENT, 0]))


@pytest.fixture
def folder(tmp_path):
    """Training rows in two files whose row groups differ in size, and a file to validate on."""
    for name, (start, stop), rows in (("train-0", (0, 31), 5), ("train-1", (31, 53), 3), ("test", (53, 60), 4)):
        _write(tmp_path / f"{name}.parquet", _columns(np.arange(start, stop)), rows)
    return tmp_path


def _columns(index: np.ndarray) -> dict[str, Any]:
    return {
        "index": index,
        "x.1": pyarrow.array([None if each % 5 == 0 else each / 4 for each in index.tolist()]),
        "text": pyarrow.array([f"t{each % 3}" for each in index.tolist()]).dictionary_encode(),
        "vector": pyarrow.array([[each, each % 7] for each in index.tolist()], pyarrow.list_(pyarrow.int16())),
        "about": pyarrow.array([{"label": None if each % 4 == 0 else each % 3} for each in index.tolist()]),
        "names": pyarrow.array([["a"]] * len(index)),
    }


TREE = {
    "name": "parquet",
    "inputs": {"number": {"feature": "x.1", "prepare": [{"name": "fill", "value": -1}]}, "vector": {}},
    "targets": {"index": {}, "label": {"feature": "about/label"}, "text": {"prepare": ["classes"]}},
}


@pytest.mark.parametrize("feed", reading.STREAMING_BY_HAND)
def test_every_row_once_an_epoch(folder, feed):
    built = reading.build(TREE | {"path": str(folder), "feed": feed})
    for split, index in (("train", np.arange(53)), ("validation", np.arange(53, 60))):
        expected = {
            "targets.index": index,
            "inputs.number": np.where(index % 5 == 0, -1, index / 4),
            "inputs.vector": np.stack([index, index % 7], axis=1),
            "targets.label": np.where(index % 4 == 0, 0, index % 3),
            "weights.label": (index % 4 != 0).astype(float),
            "targets.text": index % 3,
        }
        reading.assert_gives(built.splits[split], expected, by="targets.index")
    assert any("names (list<element: string>)" in note for note in built.notes)


def test_a_step_needs_no_step_before_it(folder):
    split = reading.build(TREE | {"path": str(folder), "feed": "streaming"}).splits["train"]
    size, ends = reading.BATCH_SIZE, [0, reading.BATCH_SIZE]
    whole = split.training(batch_size=size, seed=1, first_step=0, ends=ends).take(20)
    later = split.training(batch_size=size, seed=1, first_step=13, ends=ends).take(7)
    expected = [batch["targets"]["index"].tolist() for batch in whole.as_numpy_iterator()]
    assert [batch["targets"]["index"].tolist() for batch in later.as_numpy_iterator()] == expected[13:]


@pytest.mark.parametrize("feed", reading.STREAMING_BY_HAND)
def test_rows_that_are_held_out(folder, feed):
    tree = TREE | {"path": str(folder), "feed": feed, "splits": {"train": "*.parquet"}, "held_out": 0.25}
    built = reading.build(tree)
    parts = [reading.in_order(built.splits[split])["targets.index"] for split in ("train", "validation")]
    assert sorted(np.concatenate(parts).tolist()) == list(range(60))
    assert len(parts[1]) == 15
    for split, rows in zip(("train", "validation"), parts, strict=True):
        reading.assert_gives(built.splits[split], {"targets.index": rows}, by="targets.index")


def test_files_of_one_split_may_differ_in_their_types(tmp_path):
    _write(tmp_path / "a.parquet", {"y": [1, 2], "x": [1, 2], "b": [True, False], "t": pyarrow.nulls(2)})
    _write(tmp_path / "b.parquet", {"t": ["u"], "b": [1], "x": [0.5], "y": [3]})
    pyarrow.parquet.write_table(pyarrow.table({"t": ["u"], "b": [1], "x": [0.5], "y": [3]})[:0], tmp_path / "c.parquet")
    split = _open(tmp_path, splits={"train": ["a.parquet", "c.parquet", "b.parquet"]})["train"]
    arrays = split.in_memory().arrays
    assert {name: values.tolist() for name, values in arrays.items()} == {
        "y": [1, 2, 3],
        "x": [1.0, 2.0, 0.5],
        "b": [1, 0, 1],
        "t": [b"", b"", b"u"],
    }
    assert split.where(2) == f"{tmp_path / 'b.parquet'}, row 0"


def test_folders_within(tmp_path):
    """As Spark writes a table, and as others part one by a column."""
    for part in range(2):
        (tmp_path / f"year={part}").mkdir()
        _write(tmp_path / f"year={part}" / "a.parquet", {"y": [part], "x": [1]})
    assert len(_open(tmp_path, splits={"train": ["year=*/*.parquet"]})["train"]) == 2
    assert "it holds: year=0, year=1" in _error(_open, tmp_path)


@pytest.mark.parametrize(
    ("validation", "changes", "words"),
    [
        ({"y": [1]}, {}, "without column 'x'"),
        ({"y": [1], "x": [1], "z": [1]}, {}, "'z' (not in the first training file)"),
        ({"y": [1], "x": ["a"]}, {}, "column 'x' holds string; in the first training file it holds int64"),
        ({"y": [1], "x": [[1]]}, {}, "column 'x' holds list<element: int64>"),
        ({"y": [1], "x": [1]}, {"options": {"rows": 2}}, "dataset.options"),
        ({"y": [1], "x": [1]}, {"splits": {"train": "c*"}}, "is no file in"),
    ],
)
def test_splits_that_do_not_fit(tmp_path, validation, changes, words):
    _write(tmp_path / "train.parquet", {"y": [1, 2], "x": [1, 2]})
    _write(tmp_path / "test.parquet", validation)
    assert words in _error(_open, tmp_path, **changes)


def test_what_is_no_parquet_file(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_text("x,y\n1,2\n")
    assert f"{path}': is no readable Parquet file" in _error(_open, path)
    _write(path, {"y": [1], "x": [["a", "b"]]})
    line = _error(_open, path, inputs={"x": {}})
    assert "column 'x' holds list<element: string>; read are numbers and text" in line


@pytest.mark.parametrize("feed", reading.FEEDS)
def test_lists_of_other_lengths_are_named(tmp_path, feed):
    """In memory where they are read, streamed while training."""
    lists = [[1, 2]] * 12 + [[1, 2, 3]] + [[1, 2]] * 3
    _write(tmp_path / "train.parquet", {"y": list(range(16)), "x": lists})
    _write(tmp_path / "test.parquet", {"y": [1, 2], "x": [[1, 2], [3, 4]]})
    tree = {"name": "parquet", "path": str(tmp_path), "inputs": {"x": {}}, "targets": {"y": {}}, "feed": feed}

    def train() -> data.Data:
        built = reading.build(tree)
        raise ConfigError("step", 0, built.splits["train"].reason(0, 4, 0))

    words = "train.parquet, row 12, column 'x': has 3 values where the first has 2; lists of one length are vectors"
    assert words in _error(train)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"feed": "streaming"}, True),
        ({"memory_limit": 100}, True),
        ({"feed": "memory"}, False),
        ({}, False),
        ({"feed": "streaming", "window": 5}, False),
    ],
)
def test_large_row_groups_are_said_where_they_are_streamed(folder, changes, said):
    notes = _open(folder, **{"window": 4, "targets": TREE["targets"], **changes})["train"].notes
    assert any("a row group has 5 rows, more than window=4" in note for note in notes) == said
