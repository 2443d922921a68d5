"""Mistakes in files of records and in their descriptions are named."""

import numpy as np
import pytest
import tensorflow as tf

from input_pipelines.feed.splits import WrongClassError
from input_pipelines.preparation import leaks
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


def test_a_flipped_bit_is_named(tmp_path, monkeypatch):
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
    monkeypatch.setattr(leaks, "notes", lambda *_: ())  # which reads the first records, this one among them
    streamed = reading.build(tree, splits=splits, feed="streaming").splits["train"]
    with pytest.raises(tf.errors.DataLossError):
        reading.epochs(streamed, 1)
    assert "train.tfrecord, record 13: corrupted record" in streamed.reason(0, 7, seed=3)


_TEXT = {"x": [1.0, 2.0], "index": 3}
_EMPTY = tf.train.Feature(float_list=tf.train.FloatList())


@pytest.mark.parametrize(
    ("features", "record", "words"),
    [
        (
            {**XY, "z": "int64"},
            _TEXT,
            r"feature 'z' is missing; 'optional' features may be; the record holds 'index' \(1 int64\), 'x' \(2 fl",
        ),
        (
            {**XY, "x": {"dtype": "float32", "shape": [3]}},
            _TEXT,
            "feature 'x' holds 2 values, not 3; for lists of varying length there are 'pad' and 'classes'",
        ),
        ({**XY, "x": {"dtype": "int64", "shape": [2]}}, _TEXT, "feature 'x' holds float32, not int64"),
        (XY, {"x": _EMPTY, "index": 3}, "feature 'x' is an empty list, which only 'optional' features may be"),
        (
            {**XY, "x": {"dtype": "float32", "shape": [3], "optional": True}},
            _TEXT,
            "feature 'x' holds 2 values, not 3",
        ),
        (
            {**XY, "x": {"dtype": "float32", "shape": [1], "pad": 0}},
            _TEXT,
            r"feature 'x' holds 2 values, which shape \[1\] does not",
        ),
        (
            {**XY, "x": {"dtype": "float32", "shape": [1, 3], "pad": 0}},
            _TEXT,
            r"feature 'x' holds 2 values, which shape \[1, 3\] does not",
        ),
        (
            {**XY, "x": {"dtype": "int64", "classes": 4}},
            {"x": [1, 4], "index": 3},
            "feature 'x' holds 4, which is none of its classes",
        ),
        (
            {**XY, "x": {"dtype": "string", "classes": ["a", "b"]}},
            {"x": ["b", "c"], "index": 3},
            "feature 'x' holds 'c', which is none of its classes",
        ),
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
@pytest.mark.parametrize("feed", reading.STREAMING_BY_HAND)
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
        ({"x": {"dtype": "float32", "shape": [2, 0]}}, "must be known"),
        ({"x": {"dtype": "float32", "pad": 0}}, r"x\.pad=0: .*'shape' says how long"),
        ({"x": {"dtype": "int64", "shape": [2], "pad": 0.5}}, r"x\.pad=0\.5: must be a value that int64 holds"),
        ({"x": {"dtype": "int64", "classes": 0}}, r"x\.classes=0: must be how many classes there are, or a list"),
        ({"x": {"dtype": "float32", "classes": 3}}, r"x\.classes=3: is for lists of int64 or string"),
        ({"x": {"dtype": "string", "classes": ["a", "b", "a"]}}, r"x\.classes=.*holds a class twice"),
        ({"x": {"dtype": "int64", "classes": ["a", "b"]}}, r"x\.classes='a': must be a value that int64 holds"),
        ({"y": "float32", "index": "int64"}, r"inputs\.x\.feature='x'.*allowed: index, y"),
    ],
)
def test_wrong_descriptions(tmp_path, features, words):
    user_files.write_records(tmp_path / "a.tfrecord", _rows(3))
    options = {} if features is None else {"features": features}
    splits = dict.fromkeys(user_files.COUNTS, "a.tfrecord")
    with pytest.raises(ConfigError, match=words):
        reading.build({"name": "tfrecord", "path": str(tmp_path), "options": options, "splits": splits, **PLAIN})


def _sequence(lists: dict) -> bytes:
    """A `tf.train.SequenceExample` with an index."""
    of_name = {
        name: tf.train.FeatureList(feature=[user_files.feature(step) for step in steps])
        for name, steps in lists.items()
    }
    context = tf.train.Features(feature={"index": user_files.feature(1)})
    return tf.train.SequenceExample(
        context=context, feature_lists=tf.train.FeatureLists(feature_list=of_name)
    ).SerializeToString()


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_sequence_examples_are_called_by_their_name(tmp_path, compression):
    """Read as Examples they have nothing but their context, so that optional features would all be missing."""
    record = _sequence({"x": [1.0, 2.0, 3.0], "words": ["a", "b"]})
    user_files.write_records(tmp_path / "a.tfrecord", [record] * 3, compression)
    user_files.write_records(tmp_path / "b.tfrecord", _rows(1) + [record])
    what = r"a tf\.train\.SequenceExample with the lists 'words' \(2 steps\), 'x' \(3 steps\) and the context 'index'"
    tree = {
        "name": "tfrecord",
        "path": str(tmp_path),
        **PLAIN,
        "splits": dict.fromkeys(user_files.COUNTS, "a.tfrecord"),
    }
    features = {**XY, "x": {"dtype": "float32", "shape": [2], "optional": True}}
    with pytest.raises(ConfigError, match=rf"splits\.train=.*a\.tfrecord': holds {what}.*only tf\.train\.Examples"):
        reading.build(tree, options={"features": features})
    with pytest.raises(ConfigError, match=rf"the first record holds {what}"):
        reading.build(tree, options={})
    with pytest.raises(ConfigError, match=rf"b\.tfrecord, record 1: is {what}"):
        reading.build(tree | {"splits": dict.fromkeys(user_files.COUNTS, "b.tfrecord")}, options={"features": XY})


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


@pytest.mark.parametrize("feed", reading.STREAMING_BY_HAND)
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


_FILL = "; 'fill' (of the dataset, or among the input's operations) puts a number in the place of NaN"


@pytest.mark.parametrize(
    ("feature", "value", "part", "words"),
    [
        pytest.param(
            *("x", [float("nan"), 0.0], "inputs.x", f"input 'x' holds NaN or infinity{_FILL}"),
            marks=pytest.mark.ci_only,
        ),
        ("b", float("inf"), "inputs.ab", f"input 'ab' holds NaN or infinity in column 'b'{_FILL}"),
        ("c", float("nan"), "inputs.c", f"input 'c' holds NaN or a value that is no category{_FILL}"),
        pytest.param(*("y", float("inf"), "targets.y", "target 'y' holds NaN or infinity"), marks=pytest.mark.ci_only),
        ("w", -0.5, "weights.y", "weight 'y' must be finite and at least 0"),
        pytest.param(
            *("w", float("nan"), "weights.y", "weight 'y' must be finite and at least 0"), marks=pytest.mark.ci_only
        ),
    ],
)
def test_numbers_that_cannot_be_used(tmp_path, feature, value, part, words):
    """In memory they are found at once; streaming names the record where it is read, in the same words."""
    records = [row | dict.fromkeys("abcyw", 1.0) for row in _rows()]
    records[12][feature] = value
    features = {**XY, **dict.fromkeys("abcyw", "float32")}
    inputs = {"x": {}, "ab": {"feature": ["a", "b"]}, "c": {"prepare": {"name": "bins", "edges": [0]}}}
    parts = {"inputs": inputs, "targets": {"index": {}, "y": {"weight": "w"}}}
    with pytest.raises(ConfigError) as found:
        simple(tmp_path, features, records, **parts, feed="memory")
    place = f"{tmp_path}/train.tfrecord, record 12"
    assert found.value.field == f"dataset.train.{part}"
    assert (found.value.value, found.value.allowed) == (place, words)
    split = simple(tmp_path, features, records, **parts, feed="streaming").splits["train"]
    with pytest.raises(tf.errors.InvalidArgumentError):
        reading.epochs(split, 1)
    assert split.reason(0, 7, seed=3) == f"{place}: {words}"


_BYTE = {"dtype": "uint8", "encoding": "raw"}


@pytest.mark.parametrize(
    ("label", "shown", "features", "classes", "ignored"),
    [
        (3, "3", "int64", 3, None),
        (1.5, "1.5", "float32", 3, None),
        (-1, None, "int64", 3, -1),
        pytest.param(b"\xff", "255", _BYTE, 255, -1, marks=pytest.mark.ci_only),
        pytest.param(7.0, "7", "float64", 3, -1, marks=pytest.mark.ci_only),
        pytest.param(2**40, "1.09951e+12", "int64", 3, 2**40 + 1, marks=pytest.mark.ci_only),
        pytest.param(1.0, None, "float32", 3, None, marks=pytest.mark.ci_only),
        pytest.param(b"\xff", None, _BYTE, 256, None, marks=pytest.mark.ci_only),  # 256 and -1 are no uint8
    ],
)
def test_labels_that_are_no_classes(tmp_path, label, shown, features, classes, ignored):
    """No whole number, too large or too small: refused in memory and while streaming, in the same words."""
    records = [row | {"y": (b"\1" if isinstance(label, bytes) else type(label)(1))} for row in _rows()]
    records[12]["y"] = label
    parts = {"targets": {"index": {}, "y": {}}}
    held, streamed = (
        simple(tmp_path, {**XY, "y": features}, records, **parts, feed=feed).splits["train"] for feed in reading.FEEDS
    )
    streamed = streamed.check_classes("y", classes, ignored)
    if shown is None:
        held.check_classes("y", classes, ignored)
        assert streamed.reason(0, 7, seed=3) is None
        return
    words = f"holds {shown}, which is none of the classes 0 to {classes - 1}"
    place = f"{tmp_path}/train.tfrecord, record 12"
    with pytest.raises(WrongClassError) as found:
        held.check_classes("y", classes, ignored)
    assert (found.value.value, found.value.allowed) == (place, words)
    with pytest.raises(tf.errors.InvalidArgumentError):
        reading.epochs(streamed, 1)
    assert streamed.reason(0, 7, seed=3) == f"{place}: target 'y' {words}"
