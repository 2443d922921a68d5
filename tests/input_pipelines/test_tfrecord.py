"""TFRecord files: everything that was written is read, in blocks of parts of files."""

import struct

import numpy as np
import pytest
import tensorflow as tf

from input_pipelines.sources import record_files
from input_pipelines.sources.record_files import Part
from tests.input_pipelines import reading, user_files
from tests.input_pipelines.plain_records import simple
from trainer.common.errors import ConfigError


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
@pytest.mark.parametrize("shards", [pytest.param(1, marks=pytest.mark.ci_only), 4])
def test_what_was_written_is_read(tmp_path, feed, shards):
    built = reading.build(_as_written(user_files.write_tfrecords(tmp_path, shards)), feed=feed)
    for split in user_files.COUNTS:
        expected = _expected(split)
        np.testing.assert_allclose(reading.in_order(built.splits[split])["inputs"], expected.pop("inputs"), rtol=1e-15)
        reading.assert_gives(built.splits[split], expected, by="targets.index")


_DTYPES = ("uint8", "int32", "int64", "float32", "float64")
_STREAMED = [pytest.param(dtype, "streaming", marks=pytest.mark.ci_only) for dtype in _DTYPES[1:]]


@pytest.mark.parametrize(
    ("dtype", "feed"), [*((dtype, "memory") for dtype in _DTYPES), (_DTYPES[0], "streaming"), *_STREAMED]
)
def test_raw_arrays(tmp_path, feed, dtype):
    values = np.random.RandomState(0).randint(0, 200, size=(30, 2, 3)).astype(dtype)
    records = [{"x": row.tobytes(), "index": index} for index, row in enumerate(values)]
    features = {"x": {"dtype": dtype, "shape": [2, 3], "encoding": "raw"}, "index": "int64"}
    built = simple(tmp_path, features, records, feed=feed)
    reading.assert_gives(built.splits["train"], {"inputs": values, "targets.index": np.arange(30)}, by="targets.index")


@pytest.mark.parametrize("feed", reading.STREAMING_BY_HAND)
def test_absent_features_are_missing_labels(tmp_path, feed):
    """Every third record lacks the number, or has an empty list of it; every fourth the class. The weights tell."""
    numbers = np.arange(24)
    records = []
    for index in numbers.tolist():
        record = {"x": [index / 2, 1.0], "index": index}
        empty = {"number": tf.train.Feature(float_list=tf.train.FloatList())} if index % 2 else {}
        record |= {"number": index * 1.5} if index % 3 else empty
        record |= {"kind": index % 5} if index % 4 else {"kind": tf.train.Feature(int64_list=tf.train.Int64List())}
        records.append(record)
    features = {
        "x": {"dtype": "float32", "shape": [2]},
        "index": "int64",
        "number": {"dtype": "float32", "optional": True},
        "kind": {"dtype": "int64", "optional": True},
    }
    built = simple(tmp_path, features, records, feed=feed, targets={"index": {}, "number": {}, "kind": {}})
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


@pytest.mark.parametrize("feed", reading.STREAMING_BY_HAND)
def test_an_absent_input(tmp_path, feed):
    """An absent whole number is a category of its own; as a number it is refused."""
    records = [{"index": index} | ({"x": 5 + index % 2} if index % 3 else {}) for index in range(20)]
    features = {"x": {"dtype": "int64", "optional": True}, "index": "int64"}
    numbers = np.arange(20)
    built = simple(tmp_path, features, records, feed=feed, inputs={"x": {"prepare": ["categories"]}})
    given = reading.in_order(built.splits["train"])["inputs"]
    assert len(set(given[numbers % 3 == 0])) == 1
    assert len(set(given)) == 3
    with pytest.raises(ConfigError, match=r"inputs\.x\.feature='x': is a whole number that examples may lack"):
        simple(tmp_path, features, records, feed=feed)


@pytest.mark.parametrize("feed", reading.STREAMING_BY_HAND)
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
    built = simple(tmp_path, features, records, feed=feed, inputs={"x": {"prepare": [resize]}})
    given = reading.in_order(built.splits["train"])
    np.testing.assert_allclose(given["inputs"], means, atol=1e-4)
    reading.assert_gives(built.splits["train"], given, by="targets.index")


def test_nearest_pixels_stay_whole_numbers(tmp_path):
    """Masks of varying size remain classes of pixels."""
    masks = [np.random.RandomState(size).randint(0, 4, size=(size, size, 1)).astype(np.uint8) for size in (4, 8)]
    records = [{"x": tf.io.encode_png(mask).numpy(), "index": index} for index, mask in enumerate(masks)]
    features = {"x": {"dtype": "uint8", "shape": [-1, -1, 1], "encoding": "image"}, "index": "int64"}
    resize = {"name": "resize", "height": 4, "width": 4, "method": "nearest"}
    built = simple(tmp_path, features, records, inputs={"x": {"prepare": [resize]}})
    given = reading.in_order(built.splits["train"])["inputs"]
    assert given.dtype == np.uint8
    np.testing.assert_array_equal(given[0], masks[0])
    assert set(given[1].ravel()) <= set(masks[1].ravel())


# ---------------------------------------------------------------------------------------------------------------------
# Blocks.
# ---------------------------------------------------------------------------------------------------------------------


def _numbers(blocks: record_files.Blocks) -> list[list[int]]:
    """The records of each block, all of them read by one dataset."""
    read, found = blocks.reader(), [[] for _ in blocks.sizes]

    def with_block(block: tf.Tensor) -> tf.data.Dataset:
        return read(block).map(lambda record: (block, record))

    for block, record in tf.data.Dataset.range(len(found)).flat_map(with_block).as_numpy_iterator():
        found[block].append(struct.unpack("<q", record)[0])
    return found


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
    numbers = _numbers(blocks)
    assert [number for block in numbers for number in block] == list(expected)
    assert [len(block) for block in numbers] == blocks.sizes.tolist()
    for index, number in enumerate(expected):
        path, record = (numbered[0], number) if number < 40 else (numbered[1], number - 40)
        assert blocks.where(index) == f"{path}, record {record}"


def test_a_window_is_about_as_long_as_asked_for(numbered):
    blocks = record_files.blocks([Part(path) for path in numbered], 32, "field")
    assert blocks.sizes.max() * blocks.mixed == 32


@pytest.mark.parametrize("window", [16, 10_000])
def test_fewer_records_than_promised(numbered, window):
    """No other example takes their place, whether their lack is found at once or while reading."""
    with pytest.raises((ConfigError, tf.errors.FailedPreconditionError), match=r"40 records|only 40"):
        _numbers(record_files.blocks([Part(numbered[0], 0, 45)], window, "field"))
