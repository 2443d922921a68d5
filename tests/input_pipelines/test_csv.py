"""CSV files: what a column becomes, which rows a split has, and files that cannot be read."""

import gzip
import pathlib
from typing import Any

import numpy as np
import pytest

from input_pipelines import data
from input_pipelines.configuration import DatasetConfig, SourceConfig
from input_pipelines.sources import csv
from input_pipelines.sources.source import ABSENT_INTEGER, Arrays
from trainer.common import schema
from trainer.common.errors import ConfigError


def _config(path: pathlib.Path, **changes: Any) -> SourceConfig:
    tree = {"name": "csv", "path": str(path), "targets": {"y": {}}} | changes
    return schema.record(SourceConfig)(tree, "dataset")


def _open(path: pathlib.Path, **changes: Any) -> dict[str, Arrays]:
    return csv.open_splits(_config(path, **changes), "dataset")


def _train(path: pathlib.Path, text: str, **changes: Any) -> dict[str, np.ndarray]:
    path.write_text(text)
    return dict(_open(path, **changes)["train"].arrays)


def _error(path: pathlib.Path, **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        _open(path, **changes)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.fixture
def file(tmp_path):
    return tmp_path / "rows.csv"


@pytest.fixture
def splits(tmp_path):
    """Writes a training and a validation file; the folder, and the splits to give."""

    def write(train: str, validation: str) -> dict[str, Any]:
        (tmp_path / "train.csv").write_text(train)
        (tmp_path / "test.csv").write_text(validation)
        return {"path": tmp_path, "splits": {"train": ["train.csv"], "validation": ["test.csv"]}}

    return write


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (["1", "-2", "30"], np.array([1, -2, 30], np.int64)),
        (["1", "2.5", "3e2"], np.array([1, 2.5, 300], np.float64)),
        (["1.5", "", "3"], np.array([1.5, np.nan, 3], np.float64)),
        (["1", "", "3"], np.array([1, ABSENT_INTEGER, 3], np.int64)),
        (["1", "nan", " 3"], np.array([1, ABSENT_INTEGER, 3], np.int64)),
        (["9007199254740993", "", "0"], np.array([9007199254740993, ABSENT_INTEGER, 0], np.int64)),
        (["nan", "0.5", "NaN"], np.array([np.nan, 0.5, np.nan], np.float64)),
        (["", "", ""], np.full(3, np.nan)),
        ([" red", "blue ", "  "], np.array([b"red", b"blue", b""], object)),
        (["1", "two", "3"], np.array([b"1", b"two", b"3"], object)),
        (["007", "7", "x"], np.array([b"007", b"7", b"x"], object)),
        (["true", "false", "true"], np.array([b"true", b"false", b"true"], object)),
        (["2024-01-31", "2024-02-01", "1999-12-31"], np.array([b"2024-01-31", b"2024-02-01", b"1999-12-31"], object)),
        (["12:30", "00:00", "07:05"], np.array([b"12:30", b"00:00", b"07:05"], object)),
        (["Zürich", "東京", "Zürich"], np.array(["Zürich".encode(), "東京".encode(), "Zürich".encode()], object)),
        (['"a, b"', '"two\nlines"', '"say ""hi"""'], np.array([b"a, b", b"two\nlines", b'say "hi"'], object)),
    ],
    ids=lambda value: "|".join(value) if isinstance(value, list) else None,
)
def test_what_a_column_becomes(file, fields, expected):
    values = _train(file, "id,x\n" + "".join(f"{index},{field}\n" for index, field in enumerate(fields)))["x"]
    assert values.dtype == expected.dtype
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize(
    ("train", "validation", "dtype"),
    [
        (["1", "2"], ["3", ""], np.int64),
        (["1", "2"], ["0.5", "4"], np.float64),
        (["1.5", ""], ["3", "4"], np.float64),
        (["", ""], ["3", "4"], np.float64),
        (["a1", "02"], ["007", "1.50"], object),
        (["soon", "later"], ["2024-01-31", ""], object),
    ],
    ids=str,
)
def test_a_column_has_one_type_in_all_splits(splits, train, validation, dtype):
    made = [f"x,y\n{first},0\n{second},1\n" for first, second in (train, validation)]
    opened = _open(**splits(*made))
    for name, fields in (("train", train), ("validation", validation)):
        values = opened[name].arrays["x"]
        assert values.dtype == dtype
        absent = ABSENT_INTEGER if dtype is np.int64 else np.nan
        wanted = [field.encode() if dtype is object else dtype(field or absent) for field in fields]
        np.testing.assert_array_equal(values, np.array(wanted, dtype))


def test_a_type_holds_however_late_it_shows(file):
    """The reader looks at a file part by part; a text a megabyte into it makes text of all that came before."""
    rows = 300_000
    fields = [f"{index:06}" for index in range(rows - 1)] + ["last"]
    values = _train(file, "x,y\n" + "".join(f"{field},1\n" for field in fields))["x"]
    assert [value.decode() for value in values] == fields


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_compressed_or_not(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    text = b"x,y\n1,a\n2,b\n"
    path.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
    arrays = _open(path)["train"].arrays
    assert {name: values.tolist() for name, values in arrays.items()} == {"x": [1, 2], "y": [b"a", b"b"]}


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_another_delimiter(file, delimiter):
    arrays = _train(file, "x,y\n1,a\n".replace(",", delimiter), options={"delimiter": delimiter})
    assert {name: values.tolist() for name, values in arrays.items()} == {"x": [1], "y": [b"a"]}


def test_a_byte_order_mark_and_foreign_line_ends_are_no_part_of_the_data(file):
    file.write_bytes("\ufeffx,y\r\n1,a\r\n2,b\r\n".encode())
    arrays = _open(file)["train"].arrays
    assert {name: values.tolist() for name, values in arrays.items()} == {"x": [1, 2], "y": [b"a", b"b"]}


def test_several_files_of_a_split_follow_one_another(tmp_path):
    for part, rows in (("b", "4,5\n"), ("a", "1,2\n3,\n")):
        (tmp_path / f"train-{part}.csv").write_text("x,y\n" + rows)
    (tmp_path / "more.csv").write_text("y,x\n6,5.5\n")
    (tmp_path / "test.csv").write_text("x,y\n7,8\n")
    names = {"train": ["train-*.csv", "more.csv"], "validation": ["test.csv"]}
    opened = _open(tmp_path, splits=names)
    assert len(opened["train"]) == 4
    np.testing.assert_array_equal(opened["train"].arrays["x"], [1, 3, 4, 5.5])
    np.testing.assert_array_equal(opened["train"].arrays["y"], [2, ABSENT_INTEGER, 5, 6])
    assert all(split.optional == {"y"} for split in opened.values())
    places = [opened["train"].where(index).removeprefix(f"{tmp_path}/") for index in range(4)]
    assert places == ["train-a.csv, row 2", "train-a.csv, row 3", "train-b.csv, row 2", "more.csv, row 2"]
    np.testing.assert_array_equal(opened["validation"].arrays["x"], [7])


def test_held_out_rows_are_drawn_once_and_keep_their_places(file):
    rows = 50
    file.write_text("x,y\n" + "".join(f"{index},{10 * index}\n" for index in range(rows)))
    tree = {"name": "csv", "path": str(file), "targets": {"y": {}}, "held_out": 0.2}
    config = schema.record(DatasetConfig)(tree, "dataset")
    built, again = data.build(config), data.build(config)
    inputs = {name: split.examples.targets["y"] / 10 for name, split in built.splits.items()}
    assert {name: len(values) for name, values in inputs.items()} == {"train": 40, "validation": 10}
    assert sorted(np.concatenate(list(inputs.values())).tolist()) == list(range(rows))
    for name, split in built.splits.items():
        np.testing.assert_array_equal(split.examples.targets["y"], again.splits[name].examples.targets["y"])
        assert [split.where(index) for index in (0, 5)] == [
            f"{file}, row {int(inputs[name][index]) + 2}" for index in (0, 5)
        ]


def test_the_fingerprint_is_that_of_the_values(file):
    fingerprints = []
    for text in ("x,y\n1,a\n2,b\n", "x,y\n1,a\n2,b \n", "x,y\n1,a\n2,c\n", "x,y\n1,a\n3,b\n", "x,z\n1,a\n2,b\n"):
        file.write_text(text)
        fingerprints.append(_open(file)["train"].fingerprint())
    assert fingerprints[0] == fingerprints[1]
    assert len(set(fingerprints)) == 4


@pytest.mark.parametrize(
    ("row", "found"), [("5", "row 4: has 1 fields"), ("5,6,7", "row 4: has 3 fields")], ids=["short", "long"]
)
def test_a_ragged_row_is_named(file, row, found):
    file.write_text(f"x,y\n1,2\n3,4\n{row}\n")
    line = _error(file)
    assert str(file) in line
    assert f"{found} where the header has 2" in line


def test_a_ragged_row_far_into_a_compressed_file_is_named(tmp_path):
    path = tmp_path / "rows.csv.gz"
    rows = [f"{index},{index}" for index in range(400_000)]
    rows[345_678] += ",1"
    path.write_bytes(gzip.compress("\n".join(["x,y", *rows, ""]).encode(), 1))
    assert f"row {345_678 + 2}: has 3 fields where the header has 2" in _error(path)


@pytest.mark.parametrize("rows", [100, 400_000])
def test_a_truncated_file_is_named(tmp_path, rows):
    path = tmp_path / "rows.csv.gz"
    whole = gzip.compress("".join(["x,y\n", *(f"{index},{index % 7}\n" for index in range(rows))]).encode(), 1)
    path.write_bytes(whole[: len(whole) // 2])
    line = _error(path)
    assert str(path) in line
    assert "is no readable CSV file" in line


@pytest.mark.parametrize("content", [b"", b"\x1f\x8bnot gzip", "x,y\nZürich,1\n".encode("latin-1")])
def test_what_is_no_csv_file_is_named(tmp_path, content):
    path = tmp_path / ("rows.csv.gz" if content.startswith(b"\x1f") else "rows.csv")
    path.write_bytes(content)
    line = _error(path)
    assert str(path) in line
    assert "is no readable CSV file" in line


@pytest.mark.parametrize(
    ("train", "validation", "expected"),
    [
        ("x,y\n", "x,y\n1,2\n", ["splits.train", "train.csv", "no row"]),
        ("x,y\n1,2\n", "x,y\n", ["splits.validation", "test.csv", "no row"]),
        ("x,y\n1,2\n", "x\n1\n", ["splits.validation", "test.csv", "without column 'y'"]),
        ("x,y\n1,2\n", "x,y,xx\n1,2,3\n", ["splits.validation", "test.csv", "'xx'"]),
        ("x,y,x\n1,2,3\n", "x,y\n1,2\n", ["splits.train", "train.csv", "two columns 'x'"]),
        ("x,y\n1,2\n", "x,y,y\n1,2,3\n", ["splits.validation", "test.csv", "two columns 'y'"]),
        (
            "x,y\n1,2\n",
            "x,y\n1,2\nno,2\n",
            ["splits.validation", "test.csv, row 3", "column 'x' holds 'no'", "numbers"],
        ),
        ("x,y\n1,2\n", "x,y\n1,2\n2024-01-31,2\n", ["splits.validation", "test.csv, row 3", "column 'x' holds"]),
    ],
    ids=["no training row", "no validation row", "missing", "unknown", "twice", "twice in validation", "text", "date"],
)
def test_tables_that_do_not_fit_are_named(splits, train, validation, expected):
    line = _error(**splits(train, validation))
    for part in expected:
        assert part in line


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"path": "absent.csv"}, "dataset.path"),
        ({"splits": {"train": ["tain.csv"]}}, "it holds: train.csv"),
        ({"options": {"delimeter": ";"}}, "delimiter"),
        ({"options": {"delimiter": ";;"}}, "dataset.options.delimiter"),
        ({"options": {"delimiter": '"'}}, "dataset.options.delimiter"),
        ({"options": {"delimiter": 3}}, "dataset.options.delimiter"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_used_are_named(tmp_path, changes, expected):
    (tmp_path / "train.csv").write_text("x,y\n1,2\n")
    path = tmp_path / changes.get("path", "")
    assert expected in _error(path, **{key: value for key, value in changes.items() if key != "path"})


@pytest.mark.parametrize(
    ("files", "train", "validation"),
    [
        (["train.csv", "test.csv"], [0], [1]),
        (["train-b.csv", "train-a.csv.gz", "test.csv", "validation.csv"], [1, 0], [3]),
        (["a.csv", "b.csv", "notes.txt"], [0, 1], None),
        (["train.csv", "other.csv"], [0], None),
    ],
)
def test_splits_of_a_folder_go_by_the_names_of_its_files(tmp_path, files, train, validation):
    for number, name in enumerate(files):
        text = f"x,y\n{number},1\n".encode()
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    opened = _open(tmp_path)
    found = {name: split.arrays["x"].tolist() for name, split in opened.items()}
    assert found == {"train": train} | ({} if validation is None else {"validation": validation})


def test_a_path_may_begin_with_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "rows.csv").write_text("x,y\n1,2\n")
    assert _open("~/rows.csv")["train"].arrays["y"].tolist() == [2]
