"""Mistakes in files of records and in their descriptions are named."""

import numpy as np
import pytest
import tensorflow as tf

from input_pipelines.sources import record_files
from tests.input_pipelines import reading, user_files
from tests.input_pipelines.plain_records import PLAIN, simple
from trainer.common.errors import ConfigError

XY = {"x": {"dtype": "float32", "shape": [2]}, "index": "int64"}


def _rows(count: int = 20) -> list[dict]:
    return [{"x": [index / 2, 1.0], "index": index} for index in range(count)]


@pytest.mark.parametrize("feed", reading.FEEDS)
def test_a_file_that_is_cut_off(tmp_path, feed):
    simple(tmp_path, XY, _rows())
    path = tmp_path / "validation.tfrecord"
    path.write_bytes(path.read_bytes()[:-3])
    tree = {"name": "tfrecord", "path": str(tmp_path), "options": {"features": XY}, **PLAIN, "feed": feed}
    splits = {split: f"{split}.tfrecord" for split in user_files.COUNTS}
    with pytest.raises(ConfigError, match=r"splits\.validation=.*validation\.tfrecord.*cut off within record 19"):
        reading.build(tree, splits=splits)


def test_a_flipped_bit_is_named(tmp_path):
    simple(tmp_path, XY, _rows())
    path = tmp_path / "train.tfrecord"
    offsets = record_files.record_offsets(str(path), "field")
    data = bytearray(path.read_bytes())
    data[offsets[13] + 20] ^= 1
    path.write_bytes(data)
    tree = {"name": "tfrecord", "path": str(tmp_path), "options": {"features": XY}, **PLAIN}
    splits = {split: f"{split}.tfrecord" for split in user_files.COUNTS}
    with pytest.raises(ConfigError, match=r"train\.tfrecord, record 13: corrupted record"):
        reading.build(tree, splits=splits, feed="memory")
    streamed = reading.build(tree, splits=splits, feed="streaming").splits["train"]
    with pytest.raises(tf.errors.DataLossError):
        reading.epochs(streamed, 1)
    assert "train.tfrecord, record 13: corrupted record" in streamed.reason(0, 7, seed=3)


_TEXT = {"x": [1.0, 2.0], "index": 3}


@pytest.mark.parametrize(
    ("features", "record", "words"),
    [
        ({**XY, "z": "int64"}, _TEXT, "z .*required but could not be found"),
        ({"x": {"dtype": "float32", "shape": [3]}, "index": "int64"}, _TEXT, "x"),
        ({"x": {"dtype": "int64", "shape": [2]}, "index": "int64"}, _TEXT, "x"),
        (
            {"x": {"dtype": "uint8", "shape": [4], "encoding": "raw"}, "index": "int64"},
            {"x": b"12345678", "index": 3},
            r"'x' must have 4 bytes and has.*8",
        ),
        (
            {"x": {"dtype": "uint8", "shape": [2, 2, 3], "encoding": "image"}, "index": "int64"},
            {"x": b"nonsense", "index": 3},
            "is no picture",
        ),
        (XY, b"nonsense", "parse"),
    ],
)
@pytest.mark.parametrize("feed", reading.FEEDS)
def test_a_record_that_is_not_as_described(tmp_path, features, record, words, feed):
    inputs = {"x": {"feature": ["x", "z"]} if "z" in features else {}}
    with pytest.raises(ConfigError, match=rf"train\.tfrecord, record 0.*{words}") as found:
        simple(tmp_path, features, [record] * 3, inputs=inputs, feed=feed)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (None, r"options\.features: is missing.*'index' \(1 int64\), 'x' \(2 float32\)"),
        ({}, r"options\.features=.*dictionary"),
        ({"x": "float16"}, r"features\.x\.dtype='float16'"),
        ({"x": {"dtype": "uint8"}}, "encoding: is missing for uint8"),
        ({"x": {"dtype": "string", "encoding": "raw"}}, "is for numbers"),
        ({"x": {"dtype": "uint8", "shape": [3], "encoding": "image"}}, "height, width"),
        ({"x": {"dtype": "float32", "shape": [-1]}}, "must be known"),
        ({"x": {"dtype": "int32", "optional": True}}, "float32, int64, string, float64"),
        ({"x": {"dtype": "bool", "optional": True}}, "float32, int64, string, float64"),
        ({"y": "float32", "index": "int64"}, r"inputs\.x\.feature='x'.*allowed: index, y"),
    ],
)
def test_wrong_descriptions(tmp_path, features, words):
    user_files.write_records(tmp_path / "a.tfrecord", _rows(3))
    options = {} if features is None else {"features": features}
    splits = dict.fromkeys(user_files.COUNTS, "a.tfrecord")
    with pytest.raises(ConfigError, match=words):
        reading.build({"name": "tfrecord", "path": str(tmp_path), "options": options, "splits": splits, **PLAIN})


@pytest.mark.parametrize(
    ("path", "splits", "words"),
    [
        ("nowhere", {"train": "a"}, r"dataset\.path=.*does not exist"),
        (".", {"train": "b-*"}, r"splits\.train='b-\*'.*is no file.*a\.tfrecord"),
        (".", {"train": "a.tfrecord"}, "needs a 'validation' split"),
        (".", {"train": "a.tfrecord", "validation": "empty"}, r"splits\.validation: holds no example"),
        (".", {"train": "text", "validation": "a.tfrecord"}, "is no TFRecord file"),
        ("a.tfrecord", {"train": "a.tfrecord", "validation": "b.tfrecord"}, r"path=.*a\.tfrecord'.*is a file"),
    ],
)
def test_wrong_paths(tmp_path, path, splits, words):
    user_files.write_records(tmp_path / "a.tfrecord", _rows(3))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("not a record at all, but long enough for a header\n")
    tree = {"name": "tfrecord", "path": str(tmp_path / path), "options": {"features": XY}, "splits": splits, **PLAIN}
    for undecodable in ("stop", "skip"):
        with pytest.raises(ConfigError, match=words):
            reading.build(tree, undecodable=undecodable)


@pytest.mark.parametrize("feed", reading.FEEDS)
def test_pictures_that_do_not_decode_are_left_out_and_counted(tmp_path, feed):
    """A whole window's worth of them, too."""
    written = user_files.examples("train")
    bad = {3, 17, *range(24, 40)}
    records = [
        {"x": b"nonsense" if index in bad else user_files.png(picture), "index": index}
        for index, picture in enumerate(written["picture"])
    ]
    features = {"x": {"dtype": "uint8", "shape": list(user_files.SHAPE), "encoding": "image"}, "index": "int64"}
    built = simple(tmp_path, features, records, feed=feed, undecodable="skip")
    good = np.array([index for index in range(len(records)) if index not in bad])
    expected = {"inputs": written["picture"][good], "targets.index": good}
    reading.assert_gives(built.splits["train"], expected, by="targets.index")
    assert built.notes[0] == "dataset: 18 images of the train split do not decode and were left out"
    with pytest.raises(ConfigError, match="record 3: "):
        simple(tmp_path, features, records, feed="memory", undecodable="stop")


def test_leaving_out_names_what_cannot_be_read(tmp_path):
    features = {"x": {"dtype": "uint8", "shape": list(user_files.SHAPE), "encoding": "image"}, "index": "int64"}
    records = [{"x": user_files.png(user_files.examples("train")["picture"][0]), "index": 0}, b"nonsense"]
    with pytest.raises(ConfigError, match=r"train\.tfrecord, record 1: .*parse"):
        simple(tmp_path, features, records, undecodable="skip")


@pytest.mark.parametrize(
    ("feature", "value", "words"),
    [
        ("x", [float("nan"), 0.0], "the input holds NaN or infinity"),
        ("y", float("inf"), "target 'y' holds NaN or infinity"),
        ("w", -0.5, "weight 'y' must be finite and at least 0"),
        ("w", float("nan"), "weight 'y' must be finite and at least 0"),
    ],
)
def test_numbers_that_cannot_be_used(tmp_path, feature, value, words):
    """In memory they are found at once; streaming names the record where it is read."""
    records = [row | {"y": 1.0, "w": 2.0} for row in _rows()]
    records[12][feature] = value
    features = {**XY, "y": "float32", "w": "float32"}
    targets = {"index": {}, "y": {"weight": "w"}}
    with pytest.raises(ConfigError, match=r"record 12'|example 12") as found:
        simple(tmp_path, features, records, targets=targets, feed="memory")
    assert ("'fill'" in str(found.value)) == (feature == "x")
    split = simple(tmp_path, features, records, targets=targets, feed="streaming").splits["train"]
    with pytest.raises(tf.errors.InvalidArgumentError):
        reading.epochs(split, 1)
    assert split.reason(0, 7, seed=3).endswith(f"train.tfrecord, record 12: {words}")
