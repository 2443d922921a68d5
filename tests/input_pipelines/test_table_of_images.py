"""Pictures beside a table: which picture a row has, masks, CelebA's own files, and what is left out."""

import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import pyarrow
import pyarrow.parquet
import pytest

from input_pipelines.sources.picture_files import PictureFiles
from input_pipelines.sources.source import Arrays
from tests.input_pipelines import reading, user_files
from trainer.common.errors import ConfigError

SHAPE = (4, 2, 3)
TREE = {
    "name": "table_of_images",
    "options": {"picture": "file", "shape": list(SHAPE)},
    "inputs": {"image": {}},
    "targets": {"y": {}},
}


def _picture(number: int) -> np.ndarray:
    return np.full(SHAPE, number, np.uint8)


def _write_pictures(root: pathlib.Path, names: Sequence[str]) -> None:
    """Pictures whose pixels are their places among the names."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(_picture(number)).save(root / name)


def _error(tree: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        reading.build(tree, **changes)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.fixture
def celeba(tmp_path):
    """CelebA as it is published: 12 pictures, 7 to train on, 3 to validate on, 2 to test."""
    names = [f"{number:06d}.jpg" for number in range(1, 13)]
    _write_pictures(tmp_path / "img_align_celeba", names)
    _write_pictures(tmp_path / "img_celeba", names)
    smiling = [-1 if number % 3 else 1 for number in range(12)]
    rows = "".join(f"{name} {value:2d}  1\n" for name, value in zip(names, smiling, strict=True))
    (tmp_path / "list_attr_celeba.txt").write_text(f"12\nSmiling Young \n{rows}")
    parts = "".join(f"{name} {0 if number < 7 else 1 if number < 10 else 2}\n" for number, name in enumerate(names))
    (tmp_path / "list_eval_partition.txt").write_text(parts)
    landmarks = "".join(f"{name} {number}   {2 * number}\n" for number, name in enumerate(names))
    (tmp_path / "list_landmarks_align_celeba.txt").write_text(f"12\nnose_x nose_y\n{landmarks}")
    return tmp_path


CELEBA = {
    "name": "table_of_images",
    "options": {"shape": list(SHAPE)},
    "inputs": {"image": {}},
    "targets": {"Smiling": {"prepare": [{"name": "equals", "values": [1]}]}, "nose": {"feature": "nose_*"}},
}


@pytest.mark.parametrize("feed", reading.STREAMING_BY_HAND)
def test_celeba_as_it_is_published(celeba, feed):
    built = reading.build(CELEBA | {"path": str(celeba), "feed": feed})
    for split, numbers in (("train", np.arange(7)), ("validation", np.arange(7, 10))):
        given = reading.in_order(built.splits[split])
        assert given["targets.Smiling"].tolist() == (numbers % 3 == 0).tolist()
        np.testing.assert_array_equal(given["targets.nose"], np.stack([numbers, 2 * numbers], axis=1))
        np.testing.assert_array_equal(given["inputs"], [_picture(number) for number in numbers])
    assert built.notes == ("dataset: 2 rows are in no split: partition=2 (2)",)


def test_celeba_lists_that_are_cut_off(celeba):
    path = celeba / "list_attr_celeba.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-2]))
    assert "holds 10 rows; its first line says 12" in _error(CELEBA, path=str(path))
    path.write_text("".join([*lines[:4], "000003.jpg 1\n", *lines[5:]]))
    assert "list_attr_celeba.txt, row 2'" in _error(CELEBA, path=str(celeba))


@pytest.mark.parametrize("feed", reading.STREAMING_BY_HAND)
def test_masks_missing_values_and_what_is_left_out(tmp_path, feed):
    """A mask that is not there has no label; rows without a picture and pictures without a row are named."""
    names = [f"part{number % 2}/{number}.png" for number in range(12)]
    _write_pictures(tmp_path, [*names, "more.png"])
    for number in range(12):
        mask = np.full(SHAPE[:2], number % 3, np.uint8)
        (tmp_path / "masks").mkdir(exist_ok=True)
        (tmp_path / "masks" / f"{number}.png").write_bytes(user_files.png(mask))
    cells = [
        ("" if number == 1 else "masks/gone.png" if number == 2 else f"masks/{number}.png") for number in range(12)
    ]
    rows = [f"{name},{'' if number == 3 else number},{cells[number]}" for number, name in enumerate(names)]
    rows += ["gone.png,5,", ",6,"]
    (tmp_path / "table.csv").write_text("\n".join(["file,y,mask", *rows]) + "\n")
    tree = TREE | {"path": str(tmp_path / "table.csv"), "targets": {"y": {}, "mask": {}}, "held_out": 0.25}
    tree["options"] = TREE["options"] | {"masks": ["mask"]}
    built = reading.build(tree, feed=feed)
    kept = {split: reading.in_order(built.splits[split]) for split in ("train", "validation")}
    for part in kept.values():
        part.setdefault("weights.mask", np.ones_like(part["targets.mask"]))  # where no label is missing
    names = ("inputs", "targets.y", "targets.mask", "weights.mask")
    given = {name: np.concatenate([part[name] for part in kept.values()]) for name in names}
    numbers = given["inputs"][:, 0, 0, 0].astype(int)
    assert sorted(numbers.tolist()) == list(range(12))
    np.testing.assert_array_equal(given["targets.y"], np.where(numbers == 3, 0, numbers))
    present = ~np.isin(numbers, (1, 2))
    wide = np.broadcast_to(present[:, None, None, None], (12, *SHAPE[:2], 1))
    np.testing.assert_array_equal(given["weights.mask"], wide)
    np.testing.assert_array_equal(given["targets.mask"], np.where(wide, (numbers % 3)[:, None, None, None], 0))
    table, field = tmp_path / "table.csv", "dataset.splits.train"
    assert built.notes == (
        f"{field}: left out: rows whose 'file' is no file below {tmp_path}: 1 ({table}, row 14: gone.png)",
        f"{field}: left out: rows without 'file': 1 ({table}, row 15)",
        f"{field}: without a label: rows whose 'mask' is no file below {tmp_path}: 1 ({table}, row 4: masks/gone.png)",
        f"dataset: left out of {tmp_path}: 3 pictures without a row (masks/1.png, masks/2.png, more.png)",
    )


def test_splits_of_a_column_of_a_parquet_file(tmp_path):
    names = [f"{number:04d}.png" for number in range(9)]
    _write_pictures(tmp_path / "pictures", names)
    parts = ["train", "val", "spare"]
    columns = {"id": list(range(9)), "y": [number / 2 for number in range(9)], "part": [parts[n % 3] for n in range(9)]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "table.parquet")
    options = {"picture": "id", "folder": "pictures", "split_column": "part", "shape": list(SHAPE)}
    tree = TREE | {"path": str(tmp_path / "table.parquet"), "options": options}
    built = reading.build(tree)
    for first, split in enumerate(("train", "validation")):
        given = reading.in_order(built.splits[split])
        np.testing.assert_array_equal(given["inputs"][:, 0, 0, 0], [first, first + 3, first + 6])
        np.testing.assert_array_equal(given["targets.y"], [first / 2, (first + 3) / 2, (first + 6) / 2])
    assert built.notes == ("dataset: 3 rows are in no split: part=spare (3)",)
    line = _error(tree, splits={"train": ["train", "spare"], "validation": ["vla"]})
    assert "dataset.splits.validation='vla': unknown value of the column 'part'; did you mean 'val'?" in line


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (b"flat.png", "flat.png"),
        (b"flat", "flat.png"),
        (b"./deep/inner/x.jpg", "deep/inner/x.jpg"),
        (b"inner\\x.jpg", "deep/inner/x.jpg"),
        (b"x", "deep/inner/x.jpg"),
        (b"all/flat.png", "flat.png"),
        (b"other/x.jpg", None),
        (b"other/flat.png", None),
        (b"flat.jpg", None),
        (7, "0007.png"),
        (b"", ""),
        (np.nan, ""),
    ],
)
def test_cells_and_the_pictures_they_mean(tmp_path, cell, expected):
    root = tmp_path / "all"
    _write_pictures(root, ["flat.png", "deep/inner/x.jpg", "0007.png"])
    table = Arrays({"file": np.array([cell], object)}, functools.partial("row {}".format))
    (found,) = PictureFiles(str(root)).column(table, "file", "dataset")
    assert found == (None if expected is None else f"{root}/{expected}".encode() if expected else b"")


def test_mistakes(tmp_path):
    _write_pictures(tmp_path, ["a/x.png", "b/x.png"])
    (tmp_path / "train.csv").write_text("file,y\na/x.png,1\nb/x.png,2\n")
    tree = TREE | {"path": str(tmp_path / "train.csv"), "held_out": 0.5}
    options = TREE["options"]
    assert "there are file, y" in _error(tree, options={})
    assert "dataset.options.picture='fil'" in _error(tree, options=options | {"picture": "fil"})
    assert "dataset.options.masks='mask'" in _error(tree, options=options | {"masks": ["mask"]})
    assert "must be a folder; there is none at" in _error(tree, options=options | {"folder": "c"})
    (tmp_path / "train.csv").write_text("file,y\nx.png,1\nb/x.png,2\n")
    assert "several pictures: a/x.png, b/x.png" in _error(tree)
    (tmp_path / "train.csv").write_text("file,y\nu.png,1\nv.png,2\n")
    assert "has no row with a picture; dataset.splits.train: left out: rows whose 'file'" in _error(tree)


def test_pictures_that_do_not_decode(tmp_path):
    _write_pictures(tmp_path, [f"{number}.png" for number in range(6)])
    (tmp_path / "2.png").write_bytes(b"none")
    (tmp_path / "train.csv").write_text("file,y\n" + "".join(f"{number}.png,{number}\n" for number in range(6)))
    (tmp_path / "test.csv").write_text("file,y\n1.png,1\n")
    with pytest.raises(ConfigError) as found:
        reading.build(TREE | {"path": str(tmp_path)})
    assert "train.csv, row 4 (" in f"{found.value.field} {found.value.value}"
    built = reading.build(TREE | {"path": str(tmp_path), "undecodable": "skip"})
    assert reading.in_order(built.splits["train"])["targets.y"].tolist() == [0, 1, 3, 4, 5]
    assert built.notes == ("dataset: 1 images of the train split do not decode and were left out",)
