"""TFRecord files: everything that was written is read, and whatever is wrong with a file is named."""

import struct

import numpy as np
import pytest
import tensorflow as tf

from input_pipelines.sources import record_files
from input_pipelines.sources.record_files import Part
from tests.input_pipelines import reading, user_files
from trainer.common.errors import ConfigError

PLAIN = {"inputs": {"x": {}}, "targets": {"index": {}}}


def _expected(split: str) -> dict[str, np.ndarray]:
    written = user_files.examples(split)
    return {
        "inputs": written["picture"] / 255,
        "targets.kind": written["kind"],
        "targets.size": written["size"].astype(np.float64),
        "targets.index": written["index"],
        "targets.red": (written["colour"] == "red").astype(np.float64),
    }


def _as_written(tree: dict) -> dict:
    scaled = {"picture": {"prepare": [{"name": "scale", "by": 1 / 255}]}}
    targets = {"kind": {}, "size": {}, "index": {}, "red": {"feature": "colour", "prepare": [_RED]}}
    return tree | {"inputs": scaled, "targets": targets}


_RED = {"name": "equals", "values": ["red"]}


@pytest.mark.parametrize("feed", reading.FEEDS)
@pytest.mark.parametrize("shards", [1, 4])
def test_what_was_written_is_read(tmp_path, feed, shards):
    built = reading.build(_as_written(user_files.write_tfrecords(tmp_path, shards)), feed=feed)
    for split in user_files.COUNTS:
        expected = _expected(split)
        np.testing.assert_allclose(reading.in_order(built.splits[split])["inputs"], expected.pop("inputs"), rtol=1e-15)
        reading.assert_gives(built.splits[split], expected, by="targets.index")


def _simple(tmp_path, features: dict, records: list, **changes):
    user_files.write_records(tmp_path / "train.tfrecord", records)
    user_files.write_records(tmp_path / "validation.tfrecord", records)
    splits = {split: f"{split}.tfrecord" for split in user_files.COUNTS}
    tree = {"name": "tfrecord", "path": str(tmp_path), "options": {"features": features}, "splits": splits}
    return reading.build({**tree, **PLAIN, **changes})


@pytest.mark.parametrize("feed", reading.FEEDS)
@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float32", "float64"])
def test_raw_arrays(tmp_path, feed, dtype):
    values = np.random.RandomState(0).randint(0, 200, size=(30, 2, 3)).astype(dtype)
    records = [{"x": row.tobytes(), "index": index} for index, row in enumerate(values)]
    features = {"x": {"dtype": dtype, "shape": [2, 3], "encoding": "raw"}, "index": "int64"}
    built = _simple(tmp_path, features, records, feed=feed)
    reading.assert_gives(built.splits["train"], {"inputs": values, "targets.index": np.arange(30)}, by="targets.index")


@pytest.mark.parametrize("feed", reading.FEEDS)
def test_absent_features_are_missing_labels(tmp_path, feed):
    """Every third record lacks the number, every fourth the class; the weights tell."""
    numbers = np.arange(24)
    records = []
    for index in numbers.tolist():
        record = {"x": [index / 2, 1.0], "index": index}
        record |= {"number": index * 1.5} if index % 3 else {}
        record |= {"kind": index % 5} if index % 4 else {}
        records.append(record)
    features = {
        "x": {"dtype": "float32", "shape": [2]},
        "index": "int64",
        "number": {"dtype": "float32", "optional": True},
        "kind": {"dtype": "int64", "optional": True},
    }
    built = _simple(tmp_path, features, records, feed=feed, targets={"index": {}, "number": {}, "kind": {}})
    expected = {
        "inputs": np.stack([numbers / 2, np.ones(24)], axis=1),
        "targets.index": numbers,
        "targets.number": np.where(numbers % 3, numbers * 1.5, 0),
        "weights.number": (numbers % 3 > 0).astype(float),
        "targets.kind": np.where(numbers % 4, numbers % 5, 0),
        "weights.kind": (numbers % 4 > 0).astype(float),
    }
    for split in built.splits.values():
        reading.assert_gives(split, expected, by="targets.index")


@pytest.mark.parametrize("feed", reading.FEEDS)
def test_an_absent_input(tmp_path, feed):
    """Of whole numbers it is a category of its own; a number it cannot be."""
    records = [{"index": index} | ({"x": 5 + index % 2} if index % 3 else {}) for index in range(20)]
    features = {"x": {"dtype": "int64", "optional": True}, "index": "int64"}
    numbers = np.arange(20)
    built = _simple(tmp_path, features, records, feed=feed, inputs={"x": {"prepare": ["categories"]}})
    given = reading.in_order(built.splits["train"])["inputs"]
    assert len(set(given[numbers % 3 == 0])) == 1
    assert len(set(given)) == 3
    with pytest.raises(ConfigError, match=r"inputs\.x\.feature='x': is a whole number that examples may lack"):
        _simple(tmp_path, features, records, feed=feed)


@pytest.mark.parametrize("feed", reading.FEEDS)
def test_pictures_of_all_sizes(tmp_path, feed):
    """Reduced by whole factors, each pixel is the mean of those it stands for."""
    random = np.random.RandomState(0)
    pictures = [
        random.randint(0, 256, size=(4 * (1 + index % 3), 2 * (1 + index % 2), 3)).astype(np.uint8)
        for index in range(26)
    ]
    records = [{"x": user_files.png(picture), "index": index} for index, picture in enumerate(pictures)]
    means = [each.reshape(4, len(each) // 4, 2, each.shape[1] // 2, 3).mean(axis=(1, 3)) for each in pictures]
    resize = {"name": "resize", "height": 4, "width": 2, "method": "area"}
    features = {"x": {"dtype": "uint8", "shape": [-1, -1, 3], "encoding": "image"}, "index": "int64"}
    built = _simple(tmp_path, features, records, feed=feed, inputs={"x": {"prepare": [resize]}})
    given = reading.in_order(built.splits["train"])
    np.testing.assert_allclose(given["inputs"], means, atol=1e-4)
    reading.assert_gives(built.splits["train"], given, by="targets.index")


def test_nearest_pixels_stay_whole_numbers(tmp_path):
    """Masks of varying size remain classes of pixels."""
    masks = [np.random.RandomState(size).randint(0, 4, size=(size, size, 1)).astype(np.uint8) for size in (4, 8)]
    records = [{"x": tf.io.encode_png(mask).numpy(), "index": index} for index, mask in enumerate(masks)]
    features = {"x": {"dtype": "uint8", "shape": [-1, -1, 1], "encoding": "image"}, "index": "int64"}
    resize = {"name": "resize", "height": 4, "width": 4, "method": "nearest"}
    built = _simple(tmp_path, features, records, inputs={"x": {"prepare": [resize]}})
    given = reading.in_order(built.splits["train"])["inputs"]
    assert given.dtype == np.uint8
    np.testing.assert_array_equal(given[0], masks[0])
    assert set(given[1].ravel()) <= set(masks[1].ravel())


# ---------------------------------------------------------------------------------------------------------------------
# Blocks.
# ---------------------------------------------------------------------------------------------------------------------


def _numbers(blocks: record_files.Blocks) -> list[list[int]]:
    read = blocks.reader()
    each = [tf.data.Dataset.from_tensors(np.int64(block)).flat_map(read) for block in range(len(blocks.sizes))]
    return [[struct.unpack("<q", record)[0] for record in records.as_numpy_iterator()] for records in each]


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """Two files of records that are their own numbers: 0 to 39 and 40 to 99, of different lengths."""
    folder = tmp_path_factory.mktemp("numbered")
    paths = [str(folder / name) for name in ("first", "second")]
    for path, numbers in zip(paths, (range(40), range(40, 100)), strict=True):
        records = [struct.pack("<q", number) + b" " * (number % 7) for number in numbers]
        with tf.io.TFRecordWriter(path) as file:
            for record in records:
                file.write(record[:8])
    return paths


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([(0, 0, None)], range(40)),
        ([(0, 0, 40)], range(40)),
        ([(0, 0, 3)], range(3)),  # found without a search
        ([(0, 5, 20)], range(5, 25)),
        ([(0, 39, 1)], [39]),
        ([(0, 40, None)], []),
        ([(0, 30, None), (1, 0, 10)], range(30, 50)),
        ([(1, 59, 1), (0, 0, 2), (0, 0, 2)], [99, 0, 1, 0, 1]),
    ],
)
@pytest.mark.parametrize("window", [1, 16, 64, 10_000])
def test_blocks_of_parts(numbered, parts, expected, window):
    made = [Part(numbered[file], first, count) for file, first, count in parts]
    blocks = record_files.blocks(made, window, "field")
    assert [number for block in _numbers(blocks) for number in block] == list(expected)
    assert [len(block) for block in _numbers(blocks)] == blocks.sizes.tolist()
    for index, number in enumerate(expected):
        path, record = (numbered[0], number) if number < 40 else (numbered[1], number - 40)
        assert blocks.where(index) == f"{path}, record {record}"


def test_a_window_is_about_as_long_as_asked_for(numbered):
    blocks = record_files.blocks([Part(path) for path in numbered], 32, "field")
    assert blocks.sizes.max() * blocks.mixed == 32


@pytest.mark.parametrize("window", [16, 10_000])
def test_fewer_records_than_promised(numbered, window):
    """Whether it is found at once or while reading, no other example takes their place."""
    with pytest.raises((ConfigError, tf.errors.FailedPreconditionError), match=r"40 records|only 40"):
        _numbers(record_files.blocks([Part(numbered[0], 0, 45)], window, "field"))


# ---------------------------------------------------------------------------------------------------------------------
# What is wrong with files.
# ---------------------------------------------------------------------------------------------------------------------

XY = {"x": {"dtype": "float32", "shape": [2]}, "index": "int64"}


def _rows(count: int = 20) -> list[dict]:
    return [{"x": [index / 2, 1.0], "index": index} for index in range(count)]


@pytest.mark.parametrize("feed", reading.FEEDS)
def test_a_file_that_is_cut_off(tmp_path, feed):
    _simple(tmp_path, XY, _rows())
    path = tmp_path / "validation.tfrecord"
    path.write_bytes(path.read_bytes()[:-3])
    tree = {"name": "tfrecord", "path": str(tmp_path), "options": {"features": XY}, **PLAIN, "feed": feed}
    splits = {split: f"{split}.tfrecord" for split in user_files.COUNTS}
    with pytest.raises(ConfigError, match=r"splits\.validation=.*validation\.tfrecord.*cut off within record 19"):
        reading.build(tree, splits=splits)


def test_a_flipped_bit_is_named(tmp_path):
    _simple(tmp_path, XY, _rows())
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
            "image",
        ),
        (XY, b"nonsense", "parse"),
    ],
)
@pytest.mark.parametrize("feed", reading.FEEDS)
def test_a_record_that_is_not_as_described(tmp_path, features, record, words, feed):
    inputs = {"x": {"feature": ["x", "z"]} if "z" in features else {}}
    with pytest.raises(ConfigError, match=rf"train\.tfrecord, record 0.*{words}") as found:
        _simple(tmp_path, features, [record] * 3, inputs=inputs, feed=feed)
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
    built = _simple(tmp_path, features, records, feed=feed, undecodable="skip")
    good = np.array([index for index in range(len(records)) if index not in bad])
    expected = {"inputs": written["picture"][good], "targets.index": good}
    reading.assert_gives(built.splits["train"], expected, by="targets.index")
    assert built.notes[0] == "dataset: 18 images of the train split do not decode and were left out"
    with pytest.raises(ConfigError, match="record 3: "):
        _simple(tmp_path, features, records, feed="memory", undecodable="stop")


def test_leaving_out_names_what_cannot_be_read(tmp_path):
    features = {"x": {"dtype": "uint8", "shape": list(user_files.SHAPE), "encoding": "image"}, "index": "int64"}
    records = [{"x": user_files.png(user_files.examples("train")["picture"][0]), "index": 0}, b"nonsense"]
    with pytest.raises(ConfigError, match=r"train\.tfrecord, record 1: .*parse"):
        _simple(tmp_path, features, records, undecodable="skip")


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
        _simple(tmp_path, features, records, targets=targets, feed="memory")
    assert ("'fill'" in str(found.value)) == (feature == "x")
    split = _simple(tmp_path, features, records, targets=targets, feed="streaming").splits["train"]
    with pytest.raises(tf.errors.InvalidArgumentError):
        reading.epochs(split, 1)
    assert split.reason(0, 7, seed=3).endswith(f"train.tfrecord, record 12: {words}")
