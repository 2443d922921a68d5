"""Rows to be predicted are read as the run read its own data, from files that the run has never seen."""

import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
import tensorflow as tf

from input_pipelines import kept_data, saved_data
from input_pipelines.configuration import DatasetConfig
from input_pipelines.kept_data import KeptData
from input_pipelines.rows import opening, prepared
from input_pipelines.saved_data import SavedData
from input_pipelines.sources import csv_batches
from tests.input_pipelines import reading, user_files
from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.common.trust import NOBODY

NEW = {"csv": "validation.csv", "csv.gz": "validation.csv.gz", "npz": "validation.npz"}
NEW |= {"image_folder": "validation", "table_of_images": "validation.csv"}
ALWAYS = ("csv", "image_folder")


def _kept(tree: Mapping[str, Any], saved: SavedData) -> tuple[DatasetConfig, KeptData]:
    config = schema.record(DatasetConfig)({"window": reading.TINY_WINDOW, "may_overlap": True, **tree}, "dataset")
    return config, kept_data.read(config, saved_data.of_json(saved_data.to_json(saved)))


def _inputs(parts: Any) -> Any:
    found = [tf.nest.map_structure(np.asarray, part.examples["inputs"]) for part in parts]
    return tf.nest.map_structure(lambda *each: np.concatenate(each), *found)


def _assert_same(one: Any, other: Any) -> None:
    tf.nest.map_structure(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind in ALWAYS else [pytest.mark.ci_only]) for kind in user_files.KINDS]
)
def test_a_file_as_the_split_that_it_was(kind, tmp_path):
    """Inputs and targets of a file are those of the validation split that it was, bit for bit, and the run's data gone.

    Of TFDS, which knows no file, those of a split.
    """
    write, _ = user_files.KINDS[kind]
    tree = write(tmp_path)
    data = reading.build(tree)
    expected = data.splits["validation"].first(1000)
    config, kept = _kept(tree, data.saved)
    if tree["name"] == "tfds":
        with pytest.raises(ConfigError, match="are of TFDS: use --split"):
            opening.of_path(config, "dataset", "new", kept)
        opened = opening.of_split(config, "dataset", "validation", kept, NOBODY)
        _assert_same(_inputs(prepared.of_rows(opened)), expected["inputs"])
        part = opening.of_split(config, "dataset", "validation[5:9]", kept, NOBODY)
        _assert_same(_inputs(prepared.of_rows(part)), expected["inputs"][5:9])
        return
    for path in tmp_path.glob("train*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    new = str(tmp_path / NEW.get(kind, ""))
    opened = opening.of_path(config, "dataset", new, kept)
    _assert_same(_inputs(prepared.of_rows(opened)), expected["inputs"])
    with_targets = prepared.loaded(opening.of_path(config, "dataset", new, kept, targets=True)).examples.structure
    for part in ("inputs", "targets"):
        _assert_same(with_targets[part], expected[part])


def test_pictures_that_no_class_has(tmp_path):
    """A folder of pictures, or a single one, need not have folders of classes; their files are kept beside them."""
    tree = user_files.write_image_folder(tmp_path)
    data = reading.build(tree)
    config, kept = _kept(tree, data.saved)
    (tmp_path / "new" / "deep").mkdir(parents=True)
    files = sorted((tmp_path / "validation").rglob("*.png"))[:3]
    for file, name in zip(files, ("2.png", "deep/1.png", "0.png"), strict=True):
        shutil.copy(file, tmp_path / "new" / name)
    opened = opening.of_path(config, "dataset", str(tmp_path / "new"), kept)
    assert opening.usually_kept(opened) == ("file",)
    (part,) = prepared.of_rows(opened, ("file",))
    assert part.kept["file"].tolist() == [b"0.png", b"2.png", b"deep/1.png"]
    expected = data.splits["validation"].first(3)["inputs"]
    np.testing.assert_array_equal(part.examples["inputs"], expected[[2, 0, 1]])
    one = opening.of_path(config, "dataset", str(files[1]), kept)
    np.testing.assert_array_equal(_inputs(prepared.of_rows(one)), expected[1:2])
    with pytest.raises(ConfigError, match="holds no <class>/<picture>"):
        opening.of_path(config, "dataset", str(files[0]), kept, targets=True)


COLUMNS = {
    "whole": [1, 2, 3, 4],
    "real": [0.5, 1.5, 2.5, 4.0],
    "code": [1, 2, 10, 2],
    "word": ["a", "b", "a", "c"],
    "y": [1.0, 2.0, 3.0, 4.0],
}
TREE = {
    "splits": {"train": ["train*"], "validation": ["train*"]},
    "inputs": {
        "numbers": {"feature": ["whole", "real"], "prepare": "standardise"},
        "codes": {"feature": ["code", "word"], "prepare": "categories"},
    },
    "targets": {"y": {}},
}
WRITERS = {"csv": pd.DataFrame.to_csv, "parquet": pd.DataFrame.to_parquet}


@pytest.fixture(scope="module", params=["csv", pytest.param("parquet", marks=pytest.mark.ci_only)])
def table(request, tmp_path_factory) -> tuple[str, DatasetConfig, KeptData, pathlib.Path]:
    """A kind of table, the configuration that reads it, what a run keeps of one, and a folder for others."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "data").mkdir()
    WRITERS[request.param](pd.DataFrame(COLUMNS), folder / "data" / f"train.{request.param}", index=False)
    tree = {"name": request.param, "path": str(folder / "data"), **TREE}
    config, kept = _kept(tree, reading.build(tree).saved)
    shutil.rmtree(folder / "data")
    return request.param, config, kept, folder


def _read(table: tuple[str, DatasetConfig, KeptData, pathlib.Path], columns: Mapping[str, Any]) -> dict[str, Any]:
    kind, config, kept, folder = table
    path = folder / f"new.{kind}"
    WRITERS[kind](pd.DataFrame(columns), path, index=False)
    return _inputs(prepared.of_rows(opening.of_path(config, "dataset", str(path), kept)))


def test_columns_of_a_table(table):
    """They may come in any order and beside others, and hold what training did not show where that has a meaning."""
    own = {name: values for name, values in COLUMNS.items() if name != "y"}
    expected = _read(table, own)
    deviation = np.std([1, 2, 3, 4])
    np.testing.assert_allclose(expected["numbers"][:, 0], (np.array([1, 2, 3, 4]) - 2.5) / deviation, rtol=1e-6)
    assert expected["codes"][:, 0].tolist() == [2, 1, 3, 1]  # by how often; equal counts by their text: 1, 10
    _assert_same(_read(table, {"more": ["x"] * 4, **dict(reversed(own.items()))}), expected)
    fraction = _read(table, own | {"whole": [1.5, 2, 3, 4]})["numbers"]
    assert fraction[0, 0] == pytest.approx(-1 / deviation, rel=1e-6)
    unseen = _read(table, own | {"word": ["z", None, "a", "c"]})["codes"]
    assert unseen[:2, 1].tolist() == [0, 0]
    assert _read(table, own | {"code": [7, None, 10, 2]})["codes"][:, 0].tolist() == [0, 0, 3, 1]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"word": ...}, "lacks 'word', of which input 'codes' is made; it has code, real, whole"),
        (
            {"whole": [1, None, 3, 4]},
            r"row [13]: input 'numbers' holds NaN or infinity in column 'whole'|row [13]'.*'whole'",
        ),
        ({"real": [None] * 4}, "NaN or infinity in column 'real'"),
        ({"real": ["a", "b", "c", "d"]}, "column 'real'.*in training|column 'real'.*holds string"),
        ({"code": [1.5, 2.0, 10.0, 2.0]}, "column 'code'.*(holds 1.5|whole numbers as in training)"),
    ],
)
def test_columns_that_cannot_be_used(table, changed, words):
    columns = {name: values for name, values in COLUMNS.items() if name != "y"} | changed
    with pytest.raises(ConfigError, match=words):
        _read(table, {name: values for name, values in columns.items() if values is not ...})


def test_columns_given_in_python(table):
    """A frame or lists are read as a file is; text as the numbers that training had."""
    _, config, kept, _ = table
    own = {name: values for name, values in COLUMNS.items() if name != "y"}
    expected = _read(table, own)
    for given in (pd.DataFrame(own), own, own | {"code": ["01", "2", "10", "2"], "whole": [1.0, 2, 3, 4]}):
        opened = opening.of_columns(given, "dataset", kept, "data")
        _assert_same(_inputs(prepared.of_rows(opened)), expected)
    with pytest.raises(ConfigError, match=r"'code'.*holds 'x', in training numbers"):
        opening.of_columns(own | {"code": ["1", "x", "2", "2"]}, "dataset", kept, "data")
    with pytest.raises(ConfigError, match="'word'.*holds truth values, in training text"):  # 'True', 'true' or 'TRUE'?
        opening.of_columns(own | {"word": [True, False, True, True]}, "dataset", kept, "data")
    with pytest.raises(ConfigError, match="lacks 'word'"):
        opening.of_columns({name: own[name] for name in ("whole", "real", "code")}, "dataset", kept, "data")
    del config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no readable CSV file: Empty CSV file"),
        ("whole,real,code,word\n1,2,3,a\n1,2,3\n", "row 3: has 3 fields where the header has 4"),
        ("whole,real,code,word,whole\n1,2,3,a,1\n", "has two columns 'whole'"),
        ("whole,real,code,word\n1,2,3,a\n1,2,x,a\n", "row 3, column 'code'.*holds 'x'; in training"),
    ],
)
def test_csv_that_cannot_be_read(table, text, words):
    kind, config, kept, folder = table
    if kind != "csv":
        pytest.skip("is of CSV")
    (folder / "wrong.csv").write_text(text)
    with pytest.raises(ConfigError, match=words):
        _inputs(prepared.of_rows(opening.of_path(config, "dataset", str(folder / "wrong.csv"), kept)))


def test_a_long_row_among_short_ones(table, monkeypatch):
    """A row that does not fit in what is read at a time is read all the same, and no row twice."""
    kind, config, kept, folder = table
    if kind != "csv":
        pytest.skip("is of CSV")
    monkeypatch.setattr(csv_batches, "_BLOCK_BYTES", 4096)
    count, path = 5000, folder / "long.csv"
    words = ["a"] * count
    words[4000] = "b" * 10_000
    frame = pd.DataFrame({"whole": range(count), "real": 0.5, "code": 2, "word": words})
    frame.to_csv(path, index=False)
    opened = opening.of_path(config, "dataset", str(path), kept)
    parts = list(opened.rows.chunks(["whole", "word"], ()))
    assert np.concatenate([part.features["whole"] for part in parts]).tolist() == list(range(count))
    assert np.concatenate([part.features["word"] for part in parts])[4000] == words[4000].encode()


def test_large_row_groups_come_in_parts(tmp_path):
    """Of a row group of many rows some are read at a time, in order, and columns are kept as they are."""
    pyarrow.parquet.write_table(
        pyarrow.table({"x": pyarrow.array(range(10_000)), "day": pyarrow.array(range(10_000), pyarrow.date32())}),
        tmp_path / "train.parquet",
    )
    tree = {"name": "parquet", "path": str(tmp_path), "splits": {"train": ["train*"], "validation": ["train*"]}}
    tree |= {"inputs": {"x": {}}, "targets": {"y": {"feature": "x"}}}
    data = reading.build(tree)
    config, kept = _kept(tree, data.saved)
    opened = opening.of_path(config, "dataset", str(tmp_path / "train.parquet"), kept)
    parts = list(prepared.of_rows(opened, ("day",)))
    assert [len(part) for part in parts] == [4096, 4096, 10_000 - 2 * 4096]
    np.testing.assert_array_equal(np.concatenate([part.examples["inputs"] for part in parts]), np.arange(10_000))
    assert all(pyarrow.types.is_date32(part.kept["day"].type) for part in parts)


def test_runs_from_before_features_were_kept(tmp_path):
    """Their data are looked into; where those are gone, a line says what is missing."""
    tree = user_files.write_csv(tmp_path)
    saved = reading.build(tree).saved
    old = SavedData(saved.fingerprints, saved.statistics, saved.feeds)
    config, kept = _kept(tree, old)
    new = _kept(tree, saved)[1]
    path = str(tmp_path / "validation.csv")
    read = [_inputs(prepared.of_rows(opening.of_path(config, "dataset", path, each))) for each in (kept, new)]
    _assert_same(*read)
    (tmp_path / "train.csv").unlink()
    with pytest.raises(ConfigError, match="train.csv"):
        _kept(tree, old)


def test_several_sources_are_told_apart():
    dataset = {"sources": {"a": {"name": "digits"}, "b": {"name": "digits"}}}
    config = schema.record(DatasetConfig)(dataset, "dataset")
    assert opening.chosen(config, "b")[0] == "dataset.sources.b"
    for source, words in ((None, r"the run has several sources \(a, b\)"), ("c", "unknown source; .*allowed: a, b")):
        with pytest.raises(ConfigError, match=words):
            opening.chosen(config, source)
    with pytest.raises(ConfigError, match="come from a function, 'digits'"):
        opening.check_path(config.sources["a"])
