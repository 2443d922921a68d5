"""Files of a folder are read, or counted and named; a class needs a picture to train on."""

import pathlib
import shutil

import numpy as np
import PIL.Image
import pytest

from tests.input_pipelines import reading, user_files
from trainer.common.errors import ConfigError

PLAIN = {
    "name": "image_folder",
    "options": {"shape": [4, 4, 3]},
    "inputs": {"image": {}},
    "targets": {"label": {}},
}
DEPTH = (np.arange(16).reshape(4, 4) * 250).astype(np.uint16)
NOTHING = b"no picture"


def _save(path: pathlib.Path, picture: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(picture).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Two classes, of dark PNGs (the last two in a folder of their own) and of bright WebPs."""
    dark, bright = (np.full((4, 4, 3), value, np.uint8) for value in (20, 200))
    for split in ("train", "test"):
        for number in range(5):
            inner = "inner/deeper/" if number > 2 else ""
            _save(tmp_path / split / "cat" / f"{inner}{number}.png", dark)
            _save(tmp_path / split / "dog" / f"{number}.{'webp' if number else 'JFIF'}", bright)
    return tmp_path


def _build(folder: pathlib.Path, **changes):
    return reading.build({**PLAIN, "path": str(folder), **changes})


@pytest.mark.parametrize("feed", reading.STREAMING_BY_HAND)
def test_other_formats_and_inner_folders_are_read(folder, feed):
    built = _build(folder, feed=feed)
    assert built.notes == ()
    given = reading.in_order(built.splits["train"])
    np.testing.assert_array_equal(given["targets.label"], [0] * 5 + [1] * 5)
    np.testing.assert_array_equal(np.unique(given["inputs"][:5]), 20)
    np.testing.assert_allclose(given["inputs"][5:].astype(float), 200, atol=1)


def test_what_is_not_read_is_named(folder):
    train = folder / "train"
    for name in ("cat/a.heic", "cat/inner/b.HEIC", "dog/c", "d.png", ".DS_Store", "dog/._0.webp", "__MACOSX/cat/0.png"):
        (train / name).parent.mkdir(parents=True, exist_ok=True)
        (train / name).write_bytes(NOTHING)
    for name in ("more/cat", "__MACOSX/train", ".cache"):
        (folder / name).mkdir(parents=True)
    (folder / "LICENSE").touch()
    built = _build(folder)
    assert len(built.splits["train"]) == len(built.splits["validation"]) == 10
    assert built.notes == (
        f"dataset: left out of {folder}: 2 hidden or of the system (.cache, __MACOSX); 2 in no split (LICENSE, more)",
        f"dataset.splits.train: left out of {train}: 3 hidden or of the system (.DS_Store, __MACOSX, dog/._0.webp); "
        "1 outside of a folder of a class (d.png); 2 with the ending .heic (cat/a.heic, cat/inner/b.HEIC); "
        "1 without an ending (dog/c)",
    )
    chosen = _build(folder, splits={"train": "train", "validation": "test"})
    assert chosen.notes == built.notes[1:]


def test_links_to_folders_are_followed_once(folder):
    (folder / "train" / "cat" / "again").symlink_to(folder / "train" / "cat")
    (folder / "train" / "ant").symlink_to(folder / "test" / "cat")
    built = _build(folder)
    assert len(built.splits["train"]) == 15


@pytest.mark.parametrize(
    ("files", "undecodable", "words"),
    [
        ({}, "stop", r"splits\.train='.*train/ant': holds no picture of the class 'ant'; it is empty"),
        (
            {"a.heic": NOTHING, "b.heic": NOTHING},
            "stop",
            r"'ant'; left out of .*: 2 with the ending .heic \(ant/a",
        ),
        ({"a.png": NOTHING}, "skip", r"'ant'; 1 pictures of the split do not decode"),
    ],
)
def test_a_class_without_a_picture_is_refused(folder, files, undecodable, words):
    ant = folder / "train" / "ant"
    ant.mkdir()
    for name, data in files.items():
        (ant / name).write_bytes(data)
    with pytest.raises(ConfigError, match=words):
        _build(folder, undecodable=undecodable)


@pytest.fixture
def depths(tmp_path):
    """Pictures of 16 bits, from which those of other classes differ."""
    for split in ("train", "validation"):
        for number in range(3):
            _save(tmp_path / split / "all" / f"{number}.png", DEPTH + number)
    return tmp_path


AS_DEPTHS = {
    "options": {"shape": [4, 4, 1]},
    "targets": {"depth": {"feature": "image"}},
}


@pytest.mark.parametrize("feed", reading.STREAMING_BY_HAND)
def test_all_sixteen_bits(depths, feed):
    built = _build(depths, feed=feed, **AS_DEPTHS)
    given = reading.in_order(built.splits["train"])
    expected = np.array([DEPTH + number for number in range(3)])[..., np.newaxis]
    np.testing.assert_array_equal(given["targets.depth"], expected)
    np.testing.assert_array_equal(given["inputs"], expected)
    assert given["inputs"].dtype == given["targets.depth"].dtype == np.uint16
    flipped = reading.epochs(_build(depths, feed=feed, **AS_DEPTHS, augment=[{"name": "flip"}]).splits["train"], 4)
    found = np.concatenate([epoch["targets.depth"] for epoch in flipped])
    np.testing.assert_array_equal(found, np.concatenate([epoch["inputs"] for epoch in flipped]))
    assert set(found[:, 0, 0, 0] // 10) == {0, 75}


@pytest.mark.parametrize("place", ["train", "validation"])
def test_mixed_depths_are_refused(depths, place):
    _save(depths / place / "all" / "1.png", DEPTH.astype(np.uint8))
    with pytest.raises(ConfigError, match=rf"{place}/all/1\.png: .*has 8 bits for a channel where 16 are read"):
        _build(depths, **AS_DEPTHS)


def test_a_target_of_a_palette_is_its_indices(tmp_path):
    classes = np.arange(16, dtype=np.uint8).reshape(4, 4) % 3
    image = PIL.Image.fromarray(classes).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    records = []
    for split in ("train", "validation"):
        (tmp_path / split / "all").mkdir(parents=True)
        path = tmp_path / split / "all" / "0.png"
        image.save(path)
        records.append({"mask": path.read_bytes(), "index": 0})
        user_files.write_records(tmp_path / f"{split}.tfrecord", records)
    masks = {"options": {"shape": [4, 4, 1]}, "targets": {"mask": {"feature": "image"}}}
    given = reading.in_order(_build(tmp_path, **masks).splits["train"])
    np.testing.assert_array_equal(given["targets.mask"][0, ..., 0], classes)
    features = {"mask": {"dtype": "uint8", "shape": [4, 4, 1], "encoding": "image"}, "index": "int64"}
    tree = {"name": "tfrecord", "options": {"features": features}, "inputs": {"index": {}}, "targets": {"mask": {}}}
    given = reading.in_order(_build(tmp_path, **tree).splits["train"])
    np.testing.assert_array_equal(given["targets.mask"][0, ..., 0], classes)


def test_pictures_of_records(tmp_path):
    """Of 16 bits, turned as EXIF says or as they are stored; other features have no options of pictures."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 3
    _save(tmp_path / "0.png", DEPTH, exif=exif)
    for split in ("train", "validation"):
        user_files.write_records(tmp_path / f"{split}.tfrecord", [{"x": (tmp_path / "0.png").read_bytes(), "y": 0}])
    tree = {"name": "tfrecord", "inputs": {"x": {}}, "targets": {"y": {}}}
    for options, expected in (({}, DEPTH[::-1, ::-1]), ({"orientation": False}, DEPTH)):
        features = {"x": {"dtype": "uint16", "shape": [4, 4, 1], "encoding": "image", **options}, "y": "int64"}
        built = _build(tmp_path, **tree, options={"features": features})
        np.testing.assert_array_equal(reading.in_order(built.splits["train"])["inputs"][0, ..., 0], expected)
    features["y"] = {"dtype": "int64", "first_frame": True}
    with pytest.raises(ConfigError, match=r"features\.y.*options of pictures; they are for encoding 'image'"):
        _build(tmp_path, **tree, options={"features": features})
    features["x"], features["y"] = {**features["x"], "dtype": "uint8"}, "int64"
    with pytest.raises(ConfigError, match=r"record 0: .*has 16 bits for a channel where 8 are read"):
        _build(tmp_path, **tree, options={"features": features})


@pytest.mark.parametrize("write", [user_files.write_csv, user_files.write_npz])
def test_other_files_of_a_folder(tmp_path, write):
    """Hidden files are never read by a pattern; what is in no split is named, unless `splits` chose the others."""
    tree = write(tmp_path)
    before = reading.build(tree)
    train = sorted(tmp_path.glob("train*"))[0]
    shutil.copy(train, tmp_path / f"._{train.name}")
    (tmp_path / "codebook.txt").touch()
    by_pattern = {split: f"*{split}*{train.suffix}" for split in user_files.COUNTS}
    chosen = reading.build(tree, splits=by_pattern)
    assert chosen.saved == before.saved
    assert chosen.notes == ()
    found = reading.build(tree, splits={})
    assert found.saved == before.saved
    assert found.notes == (
        f"dataset: left out of {tmp_path}: 1 hidden or of the system (._{train.name}); 1 in no split (codebook.txt)",
    )
