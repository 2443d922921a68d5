"""Preparation moves a target's pixels together with what says which of them have a label, and keeps classes whole."""

import pathlib
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tests.input_pipelines import reading
from trainer.common.errors import ConfigError

VOID = 255
RANDOM = np.random.RandomState(0)
CLASSES = RANDOM.choice([0, 2, 9], size=(10, 8, 6, 1))
HOLES = RANDOM.uniform(size=CLASSES.shape) < 0.2
ROWS, COLUMNS = np.meshgrid(np.arange(8.0), np.arange(6.0), indexing="ij")
PLANE = np.broadcast_to((3 * ROWS - COLUMNS + 0.25)[..., None], CLASSES.shape)
HALF = {"name": "resize", "height": 4, "width": 3}
TWICE = {"name": "resize", "height": 16, "width": 12}


def _target(path: pathlib.Path, mask: np.ndarray, prepare: list, missing: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """A target's values and weights, as an evaluation gives them."""
    for name in ("train.npz", "test.npz"):
        np.savez(path / name, x=np.arange(len(mask), dtype=np.float32), mask=mask)
    target = {"prepare": prepare} | ({} if missing is None else {"missing": missing})
    built = reading.build({"name": "npz", "path": str(path), "inputs": {"x": {}}, "targets": {"mask": target}})
    found = reading.in_order(built.splits["validation"])
    return found["targets.mask"], found["weights.mask"]


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
@pytest.mark.parametrize(
    ("prepare", "moved"),
    [
        ([HALF], lambda values: values[:, 1::2, 1::2]),
        ([TWICE], lambda values: values.repeat(2, axis=1).repeat(2, axis=2)),
        ([{"name": "central_crop", "height": 4, "width": 2}], lambda values: values[:, 2:6, 2:4]),
        ([{"name": "reshape", "shape": [6, 8, 1]}], lambda values: values.reshape(-1, 6, 8, 1)),
        ([HALF, {"name": "reshape", "shape": [12]}], lambda values: values[:, 1::2, 1::2].reshape(-1, 12)),
    ],
    ids=["half", "twice", "crop", "reshape", "half of a row"],
)
def test_classes_stay_classes_and_missing_pixels_lie_where_they_were(tmp_path, prepare, moved, dtype):
    values, weights = _target(tmp_path, np.where(HOLES, VOID, CLASSES).astype(dtype), prepare, VOID)
    np.testing.assert_array_equal(weights, ~moved(HOLES))
    np.testing.assert_array_equal(values, np.where(moved(HOLES), 0, moved(CLASSES)))


def test_the_classes_of_a_one_hot_target_have_the_weights_of_their_pixel(tmp_path):
    one_hot = {"name": "one_hot", "classes": 10}
    flat = {"name": "reshape", "shape": [8, 6]}
    values, weights = _target(tmp_path, np.where(HOLES, VOID, CLASSES).astype(np.uint8), [flat, one_hot], VOID)
    np.testing.assert_array_equal(weights, ~HOLES[..., 0])
    np.testing.assert_array_equal(values, np.eye(10)[CLASSES[..., 0]] * ~HOLES)


@pytest.mark.parametrize("size", [HALF, TWICE, HALF | {"method": "area"}, TWICE | {"method": "bicubic"}], ids=str)
def test_numbers_are_mixed_of_labelled_pixels_alone(tmp_path, size):
    """With and without holes a pixel that has a weight has the same value, and one far from all holes has a weight."""
    (tmp_path / "whole").mkdir()
    expected, _ = _target(tmp_path / "whole", np.where(np.arange(10)[:, None, None, None] == 9, np.nan, PLANE), [size])
    few = RANDOM.uniform(size=PLANE.shape) < 0.03
    values, weights = _target(tmp_path, np.where(few, np.nan, PLANE), [size])
    assert 0.4 < weights[:9].mean() < 0.99
    np.testing.assert_allclose(values[:9], np.where(weights[:9] > 0, expected[:9], 0), atol=1e-4)
    assert (weights[~few.any(axis=(1, 2, 3))] == 1).all()


def test_pictures_whose_sizes_vary_do_not_mix_a_value_that_means_missing(tmp_path):
    for split in ("train", "test"):
        for number, side in enumerate((6, 8)):
            path = tmp_path / split / "all" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(np.full((side, side), 3 + 250 * number, np.uint8)).save(path)
    tree = {
        "name": "image_folder",
        "path": str(tmp_path),
        "inputs": {"image": {"prepare": [HALF, "scale"]}},
    }
    target = {"feature": "image", "missing": VOID, "prepare": [HALF, {"name": "scale", "by": 1}]}
    with pytest.raises(ConfigError, match=r"targets\.depth\.prepare\.0\.method='bilinear': would mix .*'nearest'"):
        reading.build({**tree, "targets": {"depth": target}})
