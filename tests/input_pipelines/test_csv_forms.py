"""CSV files as they are found: codes for missing numbers, encodings, quotes, headers; and tables with many columns."""

import pathlib
import time
from typing import Any

import numpy as np
import pytest

from input_pipelines.configuration import SourceConfig
from input_pipelines.sources import csv
from input_pipelines.sources.source import ABSENT_INTEGER, Arrays
from tests.input_pipelines import reading
from trainer.common import schema
from trainer.common.errors import ConfigError, with_notes


def _open(path: pathlib.Path, content: str | bytes, **options: Any) -> Arrays:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    tree = {"name": "csv", "path": str(path), "targets": {"y": {}}, "options": options}
    return csv.open_splits(schema.record(SourceConfig)(tree, "dataset"), "dataset")["train"]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "rows.csv"


@pytest.mark.parametrize("code", ["NA", "N/A", "n/a", "NULL", "None", "?", "-", "\\N", " ? ", "."])
def test_a_code_among_numbers_is_a_missing_number_and_said(file, code):
    split = _open(file, f"x,y,name\n1.5,3,{code}\n{code},4,b\n2.5,{code},a\n")
    np.testing.assert_array_equal(split.arrays["x"], [1.5, np.nan, 2.5])
    np.testing.assert_array_equal(split.arrays["y"], [3, 4, ABSENT_INTEGER])
    assert split.arrays["name"].tolist() == [code.strip().encode(), b"b", b"a"]
    assert split.optional == {"y"}
    (note,) = split.notes
    assert note.startswith(f"{file}, row 3, column 'x' and 1 more columns of numbers: {code.strip()!r} is read as")
    assert "dataset.options.null_values" in note


@pytest.mark.parametrize(
    ("fields", "null_values", "expected"),
    [
        (["-999", " -999", "1"], [-999], [ABSENT_INTEGER, ABSENT_INTEGER, 1]),
        (["-999.00", "2", "1"], ["-999"], [np.nan, 2, 1]),
        (["none of it", "2", "?"], ["none of it", "?"], [ABSENT_INTEGER, 2, ABSENT_INTEGER]),
        (["blue", "x", "blue"], "x", [b"blue", b"", b"blue"]),
        (["?", "2", "1"], [], [b"?", b"2", b"1"]),
    ],
    ids=str,
)
def test_null_values_are_those_that_are_given(file, fields, null_values, expected):
    split = _open(file, "x,y\n" + "".join(f"{field},0.5\n" for field in fields), null_values=null_values)
    np.testing.assert_array_equal(split.arrays["x"], np.array(expected, split.arrays["x"].dtype))


@pytest.mark.parametrize("before", [3, 5000])
def test_a_text_that_keeps_a_column_from_being_numbers_is_said(file, before):
    split = _open(file, "x,y\n" + "".join(f"{index},1\n" for index in range(before)) + "lost,2\n")
    assert split.arrays["x"].dtype == object
    (note,) = split.notes
    assert f"row {before + 2}, column 'x': 'lost' makes text" in note
    assert "dataset.options.null_values=['lost']" in note


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        ("größe,y\nä,1\n".encode("latin-1"), {"encoding": "latin-1"}, {"größe": ["ä".encode()], "y": [1]}),
        ("größe,y\nä,1\n".encode("utf-16"), {"encoding": "utf-16"}, {"größe": ["ä".encode()], "y": [1]}),
        ("x;y\n1,5;2\n-;3\n;4\n", {"delimiter": ";", "decimal": ","}, {"x": [1.5, None, None], "y": [2, 3, 4]}),
        ("n,y\n'a,b',1\n\"c\",2\n", {"quote": "'"}, {"n": [b"a,b", b'"c"'], "y": [1, 2]}),
        ('n,y\n"6 inch,1\nb,2\n', {"quote": ""}, {"n": [b'"6 inch', b"b"], "y": [1, 2]}),
        ("n,y\na\\,b,1\n", {"escape": "\\"}, {"n": [b"a,b"], "y": [1]}),
        ("x,y\n1,2\n", {"names": ["a", "b"]}, {"a": [1], "b": [2]}),
        ("1,2\n3,4\n", {"header": False, "names": ["a", "b"]}, {"a": [1, 3], "b": [2, 4]}),
        ("1,2\n3,4\n", {"header": False}, {"column_0": [1, 3], "column_1": [2, 4]}),
        ("made in 1990\nby me\nx,y\n1,2\n", {"skip_rows": 2}, {"x": [1], "y": [2]}),
        ("x,y,,\n1,2,,\n", {}, {"x": [1], "y": [2]}),
        ("x,y\n1,2,\n3,4,\n", {}, {"x": [1, 3], "y": [2, 4]}),
        ("x,n,y\n1," + 2**24 * "a" + ",2\n", {}, {"x": [1], "n": [2**24 * b"a"], "y": [2]}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_other_forms(file, content, options, expected):
    split = _open(file, content, **options)
    assert list(split.arrays) == list(expected)
    for name, values in expected.items():
        if None in values:
            np.testing.assert_array_equal(split.arrays[name], np.array(values, np.float64))
        else:
            assert split.arrays[name].tolist() == values
    rows = content.count(b"\n") if isinstance(content, bytes) and "16" not in str(options) else None
    if isinstance(content, str) or rows:
        assert split.where(len(split) - 1).endswith(f"row {content.count(chr(10)) if rows is None else rows}")


@pytest.mark.parametrize(
    ("content", "options", "parts"),
    [
        ("größe,y\n1,2\n".encode("latin-1"), {}, ["row 1, column 'größe' is not in utf-8", "options.encoding"]),
        ("n,y\na,2\nä,2\n".encode("latin-1"), {}, ["row 3, column 'n' is not in utf-8", "options.encoding"]),
        ("n,y\nä,2\n".encode("utf-16"), {}, ["options.encoding='utf-16'"]),
        ("x;y\n1;2\n", {}, ["options.delimiter=','", "';'"]),
        ("x,y\n1,2,\n3,4\n", {}, ["row 2: has 3 fields where the header has 2"]),
        ("a\nx,y\n1,2\n3\n", {"skip_rows": 1}, ["row 4: has 1 fields where the header has 2"]),
        ('x,n,y\n1,"a,2\n3,b,4\n', {}, ["row 2: has 2 fields", "over 2 lines", "options.quote=''"]),
        ("x,y\n1,2\n", {"encoding": "latin-99"}, ["options.encoding='latin-99'"]),
        ("x,y\n1,2\n", {"encoding": "hex"}, ["options.encoding='hex'"]),
        ("x,y\n1,2\n", {"quote": "''"}, ["options.quote"]),
        ("x,y\n1,2\n", {"decimal": ";"}, ["options.decimal"]),
        ("x,y\n1,2\n", {"null_values": [None]}, ["options.null_values.0"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_read_is_named(file, content, options, parts):
    with pytest.raises(ConfigError) as caught:
        _open(file, content, **options)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ('n,x,y\n"6 inch,1,2\nb,3,4\nc,5,6\nd"e,7,8\n', "row 2, column 'n' holds 4 lines that look like rows"),
        ('y,n\n1,"a\n2,b\n3,c\n', "row 2, column 'n' holds 3 lines that look like rows"),
        ("1,2\n3,4\n", "the header holds numbers alone"),
    ],
    ids=["to the next mark", "to the end", "no header"],
)
def test_rows_that_may_be_lost_are_said(file, content, note):
    (line,) = _open(file, content).notes
    assert note in line
    assert not _open(file, 'n,y\n"two, a\nlines",1\nb,2\n').notes


def _table(path: pathlib.Path, **changes: Any) -> dict[str, Any]:
    return {"name": "csv", "path": str(path), "held_out": 0.25, "targets": {"y": {}}} | changes


def test_free_inputs_are_filled(file):
    """Missing numbers of real and of whole columns, by the mean of the training split or by a number."""
    random = np.random.RandomState(0)
    real, whole, y = random.normal(size=40).round(3), random.randint(0, 9, size=40), random.normal(size=40).round(3)
    missing = random.uniform(size=(2, 40)) < 0.2
    cells = [np.where(gone, "?", column.astype(str)) for column, gone in zip((real, whole), missing, strict=True)]
    rows = [f"{a},{b},{c}\n" for a, b, c in zip(*cells, y, strict=True)]
    file.write_text("real,whole,y\n" + "".join(rows))
    with pytest.raises(ConfigError, match=r"row \d+.*in column '(real|whole)'.*'fill'") as caught:
        reading.build(_table(file))
    assert "'?' is read as a missing number; dataset.options.null_values" in with_notes(caught.value)
    values = np.where(missing, np.nan, [real, whole]).T
    for fill in ("mean", 2):
        built = reading.build(_table(file, fill=fill))
        assert len(built.notes) == 1
        order = {split: [np.flatnonzero(y == label)[0] for label in reading.in_order(built.splits[split])["targets.y"]]
                 for split in ("train", "validation")}  # fmt: skip
        train = values[order["train"]]
        filling = np.nanmean(train, axis=0) if fill == "mean" else fill
        filled = np.where(np.isnan(train), filling, train)
        for split, rows in order.items():
            expected = (np.where(np.isnan(values[rows]), filling, values[rows]) - filled.mean(0)) / filled.std(0)
            np.testing.assert_allclose(reading.in_order(built.splits[split])["inputs"], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"fill": "median"}, "dataset.fill='median': must be a finite number, or 'mean'"),
        ({"fill": 0, "inputs": {"x": {}}}, "dataset.fill=0.0: is for inputs that are not named"),
        ({"inputs": {"x": {"prepare": {"name": "fill", "value": "most"}}}}, "prepare.0.value='most'"),
    ],
    ids=str,
)
def test_fillings_that_there_are_not_are_named(file, changes, expected):
    file.write_text("x,y\n1,2\n3,4\n5,6\n7,8\n")
    with pytest.raises(ConfigError, match=expected):
        reading.build(_table(file, **changes))


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        ([], [2, 0, 0, 1]),
        (["classes"], [2, 0, 0, 1]),
        ([{"name": "groups", "of": [1, 0, 0]}], [0, 0, 1, 0]),
        ([{"name": "equals", "values": [2, 0]}], [1, 0, 1, 0]),
        ([{"name": "one_hot", "classes": 3}], [[0, 0, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0]]),
        ([{"name": "standardise"}], [1.224744871391589, 0, -1.224744871391589, 0]),
    ],
    ids=str,
)
def test_whole_classes_with_empty_cells_are_classes_with_missing_labels(tmp_path, prepare, expected):
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv").write_text("x,kind\n1,2\n2,\n3,0\n4,1\n")
    targets = {"kind": {"prepare": prepare}}
    given = reading.in_order(reading.build(_table(tmp_path, held_out=None, targets=targets)).splits["train"])
    np.testing.assert_allclose(given["targets.kind"], expected, rtol=1e-12)
    np.testing.assert_array_equal(given["weights.kind"], [1, 0, 1, 1])


def test_whole_numbers_with_empty_cells_can_be_categories_or_weights(tmp_path):
    (tmp_path / "train.csv").write_text("x,w,y\n7,1,1\n,2,2\n7,3,3\n")
    (tmp_path / "test.csv").write_text("x,w,y\n9,1,1\n,2,2\n7,3,3\n")
    inputs = {"x": {"prepare": ["categories"]}}
    built = reading.build(_table(tmp_path, held_out=None, inputs=inputs))
    assert reading.in_order(built.splits["train"])["inputs"].tolist() == [1, 2, 1]
    assert reading.in_order(built.splits["validation"])["inputs"].tolist() == [0, 2, 1]
    (tmp_path / "test.csv").write_text("x,w,y\n9,1,1\n,,2\n7,3,3\n")
    with pytest.raises(ConfigError, match="dataset.validation.weights.y"):
        reading.build(_table(tmp_path, held_out=None, inputs=inputs, targets={"y": {"weight": "w"}}))


def test_a_label_that_is_no_number_is_named_with_its_column(file):
    file.write_text("a,b,y\n" + "".join(f"{index},{index},{index}\n" for index in range(8)))
    tree = _table(file, inputs={"x": {"feature": ["a", "b"], "prepare": ["log"]}}, options={"null_values": [5]})
    with pytest.raises(ConfigError, match=r"dataset\.\w+\.inputs=.*row 7'.*in column 'a'"):
        reading.build(tree)


def test_thousands_of_columns_take_seconds(file):
    """Numbers and text; columns were once nodes and tables of a graph, and a minute or more."""
    rows, count = 100, 3000
    random = np.random.RandomState(0)
    values = random.normal(size=(rows, count)).round(3).astype(str)
    values[:, 0] = np.arange(rows)
    values[:, 1::3] = random.choice(list("abc"), size=values[:, 1::3].shape)
    file.write_text("\n".join([",".join(f"c{index}" for index in range(count)), *(",".join(row) for row in values)]))
    start = time.process_time()
    built = reading.build(_table(file, targets={"y": {"feature": "c0"}}))
    given = reading.in_order(built.splits["validation"])
    assert time.process_time() - start < 8
    of_row = {float(row[0]): row for row in values}
    for label, names in zip(given["targets.y"], given["inputs.categories"], strict=True):
        learned = built.saved.statistics["dataset"]["dataset.inputs.categories"][0]["names"]
        assert [of_column[index - 1] for of_column, index in zip(learned, names, strict=True)] == list(
            of_row[label][1::3]
        )
