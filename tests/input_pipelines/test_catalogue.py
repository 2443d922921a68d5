"""TFDS: prepared directories and the catalogue, read as TFDS itself reads them."""

import json
import pathlib
import shutil
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from input_pipelines.datasets.digits import Digits
from input_pipelines.sources import record_files
from tests.input_pipelines import reading, user_files
from trainer.common.errors import ConfigError, NotPreparedError

SCALE = {"name": "scale", "by": 1.0}
TARGETS = {
    "kind": {"feature": "about/kind"},
    "size": {"feature": "about/size"},
    "index": {},
    "red": {"feature": "colour", "prepare": [{"name": "equals", "values": ["red"]}]},
}


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    """Prepared directories of the same examples: written by TFDS, and by other means with `write_metadata`."""
    writers = {"stored": user_files.write_stored, "foreign": user_files.write_foreign}
    return {name: write(tmp_path_factory.mktemp(name))["path"] for name, write in writers.items()}


def _tree(path: str) -> dict:
    return {"name": "tfds", "path": path, "inputs": {"picture": {"prepare": [SCALE]}}, "targets": TARGETS}


def _expected(written: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        "inputs": written["picture"].astype(np.float64),
        "targets.kind": written["kind"],
        "targets.size": written["size"].astype(np.float64),
        "targets.index": written["index"],
        "targets.red": (written["colour"] == "red").astype(np.float64),
    }


@pytest.mark.parametrize(
    ("kind", "feed"),
    [
        ("stored", "memory"),
        ("foreign", "streaming"),
        *(pytest.param(*each, marks=pytest.mark.ci_only) for each in (("stored", "streaming"), ("foreign", "memory"))),
    ],
)
def test_what_was_written_is_read(directories, kind, feed):
    built = reading.build(_tree(directories[kind]), feed=feed)
    for split in user_files.COUNTS:
        reading.assert_gives(built.splits[split], _expected(user_files.examples(split)), by="targets.index")


_PARTS = [
    ("train[:90%]", slice(0, 48), slice(48, 53)),
    ("train[10:30]", slice(10, 30), slice(48, 53)),
    ("train[-11:]", slice(42, 53), slice(48, 53)),
]


@pytest.mark.parametrize(
    ("feed", "split", "train", "validation"),
    [
        *(("memory", *part) for part in (_PARTS[0], _PARTS[2])),
        ("streaming", *_PARTS[1]),
        *(pytest.param("streaming", *part, marks=pytest.mark.ci_only) for part in (_PARTS[0], _PARTS[2])),
        pytest.param("memory", *_PARTS[1], marks=pytest.mark.ci_only),
    ],
)
def test_parts_of_splits(directories, feed, split, train, validation):
    """TFDS's own words; of 53 examples 90 % are 48."""
    tree = _tree(directories["foreign"])
    built = reading.build(tree, feed=feed, splits={"train": split, "validation": "train[90%:]"})
    written = _expected(user_files.examples("train"))
    for name, rows in (("train", train), ("validation", validation)):
        part = {feature: values[rows] for feature, values in written.items()}
        reading.assert_gives(built.splits[name], part, by="targets.index")


@pytest.mark.parametrize("feed", reading.STREAMING_BY_HAND)
def test_splits_are_joined(directories, feed):
    splits = {"train": ["train[40:]", "validation[:5]"], "validation": "validation[5:]"}
    built = reading.build(_tree(directories["foreign"]), feed=feed, splits=splits)
    np.testing.assert_array_equal(reading.in_order(built.splits["train"])["targets.index"], np.arange(40, 58))


@pytest.mark.parametrize("feed", reading.STREAMING_BY_HAND)
def test_the_order_is_that_of_tfds(directories, feed):
    """Of several files, too: as TFDS gives them one after another."""
    builder = tfds.builder_from_directory(directories["foreign"])
    read_config = tfds.ReadConfig(interleave_cycle_length=1)
    expected = [
        row["index"] for row in tfds.as_numpy(builder.as_dataset(split="train[20%:70%]", read_config=read_config))
    ]
    splits = {"train": "train[20%:70%]", "validation": "validation"}
    built = reading.build(_tree(directories["foreign"]), feed=feed, splits=splits)
    np.testing.assert_array_equal(reading.in_order(built.splits["train"])["targets.index"], expected)


def test_nested_features_by_pattern(directories):
    tree = _tree(directories["stored"]) | {"targets": {"index": TARGETS["index"]}}
    built = reading.build(tree, inputs={"about": {"feature": "about/*"}})
    written = user_files.examples("train")
    expected = np.column_stack([written["kind"], written["size"].astype(np.float64)])
    np.testing.assert_array_equal(reading.in_order(built.splits["train"])["inputs"], expected)


@pytest.mark.parametrize("feed", reading.STREAMING_BY_HAND)
def test_a_prepared_dataset_by_its_name(tmp_path, feed):
    Digits(data_dir=tmp_path).download_and_prepare(file_format="tfrecord")
    tree = {
        "name": "tfds/digits",
        "data_dir": str(tmp_path),
        "inputs": {"image": {}},
        "targets": {"digit": {}, "ink": {}},
    }
    built = reading.build(tree, feed=feed, window=256)
    for split, count in (("train", 1437), ("validation", 360)):
        expected = tfds.as_numpy(tfds.load("digits", data_dir=tmp_path, split=split, batch_size=-1))
        given = reading.in_order(built.splits[split], batch_size=100)
        assert len(built.splits[split]) == count
        np.testing.assert_array_equal(given["inputs"], expected["image"])
        np.testing.assert_array_equal(given["targets.digit"], expected["digit"])
        np.testing.assert_array_equal(given["targets.ink"], expected["ink"].astype(np.float64))


def test_structure_without_data(tmp_path):
    """Datasets that are not here: TFDS makes up examples of the right structure, also pictures of varying size."""
    resize = {"name": "resize", "height": 8, "width": 8}
    with tfds.testing.mock_data(num_examples=20):
        faces = reading.build(
            {
                "name": "tfds/celeb_a",
                "data_dir": str(tmp_path),
                "inputs": {"image": {"prepare": [resize]}},
                "targets": {"smiling": {"feature": "attributes/Smiling"}, "all": {"feature": "attributes/*"}},
            }
        )
        pets = reading.build(
            {
                "name": "tfds/oxford_iiit_pet",
                "data_dir": str(tmp_path),
                "inputs": {"image": {"prepare": [resize]}},
                "targets": {"label": {}, "species": {}},
            }
        )
    given = reading.in_order(faces.splits["train"])
    assert given["inputs"].shape == (20, 8, 8, 3)
    assert given["targets.all"].shape == (20, 40)
    assert set(given["targets.smiling"]) <= {0, 1}
    given = reading.in_order(pets.splits["validation"])
    assert given["inputs"].shape == (20, 8, 8, 3)
    assert given["targets.label"].max() < 37


# ---------------------------------------------------------------------------------------------------------------------
# What is wrong.
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def foreign(tmp_path):
    return pathlib.Path(user_files.write_foreign(tmp_path)["path"])


@pytest.mark.parametrize("feed", reading.STREAMING_BY_HAND)
def test_a_flipped_bit_is_named(foreign, feed):
    path = foreign / "own-train.tfrecord-00001-of-00003"
    offsets = record_files.record_offsets(str(path), "field")
    data = bytearray(path.read_bytes())
    data[offsets[4] + 30] ^= 1
    path.write_bytes(data)
    words = f"{path.name}, record 4: corrupted record"
    if feed == "memory":
        with pytest.raises(ConfigError, match=words):
            reading.build(_tree(str(foreign)), feed=feed)
    else:
        tree = _tree(str(foreign)) | {"targets": {"index": TARGETS["index"]}}  # nothing that is learned reads before
        assert words in reading.build(tree, feed=feed).splits["train"].reason(0, 7, seed=3)


@pytest.mark.parametrize("feed", reading.FEEDS)
@pytest.mark.parametrize("window", [8, 8192])
def test_a_file_with_fewer_records_than_its_dataset_says(foreign, feed, window):
    """With small windows files are searched when they are opened, with large ones as they are read."""
    path = foreign / "own-train.tfrecord-00001-of-00003"
    offsets = record_files.record_offsets(str(path), "field")
    path.write_bytes(path.read_bytes()[: offsets[-2]])
    try:
        reason = reading.build(_tree(str(foreign)), feed=feed, window=window).splits["train"].reason(0, 7, seed=3)
    except ConfigError as error:
        reason = str(error)
    assert path.name in reason
    assert "holds 16 records, fewer" in reason or "contained only 16 elements" in reason


def _rewritten(folder: pathlib.Path, **changes) -> None:
    path = folder / "dataset_info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("harm", "changes", "words"),
    [
        (shutil.rmtree, {}, r"path=.*does not exist"),
        (lambda folder: (folder / "dataset_info.json").unlink(), {}, r"no directory that TFDS prepared.*dataset_info"),
        (lambda folder: (folder / "dataset_info.json").write_text("{"), {}, "no directory that TFDS prepared"),
        (lambda folder: (folder / "features.json").write_text("{"), {}, "no directory that TFDS prepared"),
        (lambda folder: _rewritten(folder, fileFormat="array_record"), {}, "stored as array_record; only TFRecords"),
        (lambda folder: (folder / "own-train.tfrecord-00000-of-00003").unlink(), {}, "own-train.tfrecord-00000"),
        (None, {"splits": {"train": "tain", "validation": "validation"}}, r"splits\.train='tain'.*there are train"),
        (None, {"splits": {"train": "train[:x]", "validation": "validation"}}, r"train='train\[:x\]'"),
        (None, {"splits": {"train": "train[100:]", "validation": "validation"}}, r"incompatible with 53 examples"),
        (None, {"splits": {"train": "train[:0%]", "validation": "validation"}}, r"splits\.train: holds no example"),
        (
            None,
            {"splits": {"train": "train[:60%]", "validation": "train[50%:]"}, "may_overlap": False},
            r"splits\.validation: records \d+ to \d+ of .* are in the train split, too",
        ),
        (None, {"splits": {"train": "train"}}, "needs a 'validation' split"),
        (None, {"options": {"x": 1}}, "unknown option"),
        (None, {"targets": {"size": {"feature": "about/sise"}}}, r"did you mean 'about/size'.*picture"),
        (None, {"held_out": 0.1}, r"train\[:90%\]"),
        (None, {"name": "tfds/mnist"}, "is for name='tfds'"),
    ],
)
def test_wrong_directories_and_splits(foreign, harm, changes, words):
    if harm is not None:
        harm(foreign)
    with pytest.raises(ConfigError, match=words) as found:
        reading.build({**_tree(str(foreign)), **changes})
    assert "\n" not in str(found.value)


def test_a_dataset_that_is_not_prepared_is_answered_at_once(tmp_path):
    start = time.monotonic()
    with pytest.raises(NotPreparedError, match=r"dataset\.name='tfds/mnist': is not prepared in "):
        reading.build({**_tree(""), "path": None, "name": "tfds/mnist", "data_dir": str(tmp_path)})
    assert time.monotonic() - start < 3
    assert not list(tmp_path.iterdir())


def test_a_name_that_there_is_not(tmp_path):
    with pytest.raises(ConfigError, match=r"'tfds/mnst': unknown dataset of the TFDS catalogue; did you mean 'mnist'"):
        reading.build({**_tree(""), "path": None, "name": "tfds/mnst", "data_dir": str(tmp_path)})
