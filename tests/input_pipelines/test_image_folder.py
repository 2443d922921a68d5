"""Folders of pictures: read as TFDS's ImageFolder reads them, and whatever is wrong with a file is named."""

import io
import pathlib
import shutil

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from tests.input_pipelines import reading, user_files
from trainer.common.errors import ConfigError

AREA = {"name": "resize", "height": 4, "width": 2, "method": "area"}
TOTAL = {"name": "tests.input_pipelines.reading:total"}  # tells pictures apart
PLAIN = {
    "name": "image_folder",
    "inputs": {"image": {"prepare": [AREA]}},
    "targets": {"label": {}, "total": {"feature": "image", "prepare": [AREA, TOTAL]}},
}


def _write(root: pathlib.Path, split: str, kind: str, number: int, picture: np.ndarray, ending: str = ".png") -> None:
    path = root / split / kind / f"{number:03d}{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if ending.lower() == ".png":
        path.write_bytes(user_files.png(picture))
        return
    buffer = io.BytesIO()
    PIL.Image.fromarray(picture).save(buffer, {".jpg": "JPEG", ".bmp": "BMP", ".gif": "GIF"}[ending.lower()])
    path.write_bytes(buffer.getvalue())


def _random(seed: int) -> np.ndarray:
    """A picture of a size of its own, a multiple of 4 x 2."""
    random = np.random.RandomState(seed)
    return random.randint(0, 256, size=(4 * random.randint(1, 4), 2 * random.randint(1, 4), 3)).astype(np.uint8)


def _mean(picture: np.ndarray) -> np.ndarray:
    return picture.reshape(4, len(picture) // 4, 2, picture.shape[1] // 2, 3).mean(axis=(1, 3))


@pytest.fixture
def folder(tmp_path):
    """Three classes of pictures of all sizes, 25 to train on and 9 to validate on."""
    for split, count in (("train", 25), ("validation", 9)):
        for number in range(count):
            _write(tmp_path, split, ("cat", "ant", "bee")[number % 3], number, _random(number))
    return tmp_path


@pytest.mark.parametrize("feed", reading.STREAMING_BY_HAND)
def test_pictures_of_all_sizes(folder, feed):
    """Reduced by whole factors, each pixel is the mean of those it stands for; classes are sorted by name."""
    built = reading.build({**PLAIN, "path": str(folder), "feed": feed})
    for split, count in (("train", 25), ("validation", 9)):
        numbers = [number for kind in (1, 2, 0) for number in range(count) if number % 3 == kind]
        given = reading.in_order(built.splits[split])
        np.testing.assert_allclose(given["inputs"], [_mean(_random(number)) for number in numbers], atol=1e-4)
        labels = [(2, 0, 1)[number % 3] for number in numbers]
        np.testing.assert_array_equal(given["targets.label"], labels)
        reading.assert_gives(built.splits[split], given, by="targets.total")


def test_classes_are_those_of_tfds(folder):
    """The same file has the same label, in the same order of classes."""
    builder = tfds.folder_dataset.ImageFolder(str(folder))
    expected = {
        pathlib.Path(row["image/filename"].decode()).name: int(row["label"])
        for row in tfds.as_numpy(builder.as_dataset(split="train"))
    }
    by_name = [expected[f"{number:03d}.png"] for kind in (1, 2, 0) for number in range(25) if number % 3 == kind]
    given = reading.in_order(reading.build({**PLAIN, "path": str(folder)}).splits["train"])
    np.testing.assert_array_equal(given["targets.label"], by_name)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".PNG", ".jpg", ".gif"])
def test_kinds_of_pictures(tmp_path, ending):
    """A picture of one size and one colour, which every kind holds exactly or nearly so."""
    picture = np.full((8, 6, 3), (0, 128, 255), np.uint8)
    for split in user_files.COUNTS:
        for number in range(3):
            _write(tmp_path, split, "a", number, picture, ending)
    tree = {**PLAIN, "path": str(tmp_path), "options": {"shape": [8, 6, 3]}, "inputs": {"image": {}}}
    given = reading.in_order(reading.build(tree).splits["train"])["inputs"]
    assert given.dtype == np.uint8
    np.testing.assert_allclose(given.astype(int), [picture.astype(int)] * 3, atol=3)


def test_one_channel(tmp_path):
    grey = np.arange(48, dtype=np.uint8).reshape(8, 6)
    for split in user_files.COUNTS:
        _write(tmp_path, split, "a", 0, grey)
    tree = {**PLAIN, "path": str(tmp_path), "options": {"shape": [8, 6, 1]}, "inputs": {"image": {}}}
    given = reading.in_order(reading.build(tree).splits["train"])["inputs"]
    np.testing.assert_array_equal(given, grey[np.newaxis, ..., np.newaxis])


def test_hidden_folders_are_no_classes(folder):
    (folder / "train" / ".thumbnails").mkdir()
    given = reading.in_order(reading.build({**PLAIN, "path": str(folder)}).splits["train"])
    assert set(given["targets.label"]) == {0, 1, 2}


def _fingerprint(folder: pathlib.Path) -> str:
    return reading.build({**PLAIN, "path": str(folder)}).saved.fingerprints["dataset"]["train"]


def test_the_fingerprint_tells_changes(folder, tmp_path_factory):
    """Of the pictures, not of their place: another pixel, another class, one less, each on its own."""
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(folder, elsewhere)
    found = [_fingerprint(folder)]
    assert _fingerprint(elsewhere) == found[0]
    path = folder / "train" / "cat" / "024.png"  # the last of its class, with a number that no other class has
    as_it_was = path.read_bytes()
    picture = np.array(PIL.Image.open(path))
    picture[0, 0, 0] ^= 1
    path.write_bytes(user_files.png(picture))
    found.append(_fingerprint(folder))
    path.write_bytes(as_it_was)
    moved = path.rename(folder / "train" / "bee" / path.name)
    found.append(_fingerprint(folder))
    moved.unlink()
    found.append(_fingerprint(folder))
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("feed", reading.STREAMING_BY_HAND)
def test_pictures_that_do_not_decode(folder, feed):
    """Named, or left out and counted."""
    whole = reading.build({**PLAIN, "path": str(folder)})
    before = reading.in_order(whole.splits["train"])
    broken = folder / "train" / "bee" / "000a.png"  # the first of its class
    broken.write_bytes(user_files.png(_random(0))[:-40])
    tree = {**PLAIN, "path": str(folder), "feed": feed}
    if feed == "memory":
        with pytest.raises(ConfigError, match=r"train/bee/000a\.png: "):
            reading.build(tree)
    else:
        assert "train/bee/000a.png: " in reading.build(tree).splits["train"].reason(0, 7, seed=3)
    skipping = reading.build(tree, undecodable="skip")
    assert skipping.notes == ("dataset: 1 images of the train split do not decode and were left out",)
    reading.assert_gives(skipping.splits["train"], before, by="targets.total")


@pytest.mark.parametrize(
    ("prepare", "changes", "words"),
    [
        (lambda folder: shutil.rmtree(folder), {}, "must be a folder"),
        (
            lambda folder: None,
            {"splits": {"train": ["train", "validation"], "validation": "validation"}},
            r"splits\.train=\['train', 'validation'\]: must name one folder",
        ),
        (lambda folder: shutil.rmtree(folder / "train"), {}, r"splits\.train='train'.*allowed: validation"),
        (lambda folder: shutil.rmtree(folder / "validation"), {}, "needs a 'validation' split"),
        (
            lambda folder: None,
            {"splits": {"train": "train", "validation": "val"}},
            r"splits\.validation='val'.*allowed: train, validation",
        ),
        (lambda folder: None, {"inputs": {"image": {}}}, r"'image': has shape \(None, None, 3\).*'resize'"),
        (lambda folder: None, {"options": {"shape": [4, 2, 3]}}, r"train/ant/001\.png: .*[Ss]hape"),
        (lambda folder: None, {"options": {"size": 3}}, r"options\.size=3"),
        (lambda folder: None, {"targets": {"labels": {}}}, r"did you mean 'label'.*file, image, label"),
        (
            lambda folder: shutil.copytree(folder / "train" / "ant", folder / "validation" / "dog"),
            {},
            r"unknown class.*allowed: ant, bee, cat",
        ),
        (
            lambda folder: [shutil.rmtree(each) for each in (folder / "validation").iterdir()],
            {},
            r"splits\.validation=.*validation'.*holds no <class>/<picture>",
        ),
    ],
)
def test_wrong_folders(folder, prepare, changes, words):
    prepare(folder)
    with pytest.raises(ConfigError, match=words) as found:
        reading.build({**PLAIN, "path": str(folder), **changes})
    assert "\n" not in str(found.value)
