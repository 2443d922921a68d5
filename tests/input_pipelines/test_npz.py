"""NPZ files: every array is read as it was written, and whatever is wrong with a file is named."""

import numpy as np
import pytest

from tests.input_pipelines import reading, user_files
from trainer.common.errors import ConfigError

COUNT = 23
PLAIN = {"name": "npz", "inputs": {"x": {}}, "targets": {"y": {}}}
SPLITS = {split: f"{split}.npz" for split in user_files.COUNTS}


def _arrays(first: int = 0) -> dict[str, np.ndarray]:
    return {"x": first + np.arange(2 * COUNT).reshape(COUNT, 2) / 3, "y": first + np.arange(COUNT)}


def _build(folder, train: dict, validation: dict, save=np.savez, **changes):
    for split, arrays in (("train", train), ("validation", validation)):
        save(folder / f"{split}.npz", **arrays)
    return reading.build({**PLAIN, "path": str(folder), "splits": SPLITS, **changes})


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_was_written_is_read(tmp_path, save):
    written = {"train": _arrays(), "validation": _arrays(100)}
    built = _build(tmp_path, **written, save=save)
    for split, arrays in written.items():
        expected = {"inputs": arrays["x"], "targets.y": arrays["y"]}
        reading.assert_gives(built.splits[split], expected, by="targets.y")


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int32", "uint32", "int64", "float16", ">f4", ">i8"])
def test_types_of_numbers(tmp_path, dtype):
    arrays = _arrays() | {"x": (np.arange(COUNT) % 2).astype(dtype)}
    given = reading.in_order(_build(tmp_path, arrays, arrays).splits["train"])
    np.testing.assert_array_equal(given["inputs"], arrays["x"].astype(np.float64))


@pytest.mark.parametrize("kind", ["U", "S"])
def test_text(tmp_path, kind):
    """Text of either kind, beyond ASCII where there can be."""
    names = np.array(["grün" if kind == "U" else "green", "red"]).astype(kind)
    arrays = _arrays() | {"colour": names[np.arange(COUNT) % 2]}
    prepare = [{"name": "classes", "names": ["red", str(np.char.decode(names, "ascii")[0]) if kind == "S" else "grün"]}]
    targets = {"colour": {"prepare": prepare}}
    given = reading.in_order(_build(tmp_path, arrays, arrays, targets=targets).splits["train"])
    np.testing.assert_array_equal(given["targets.colour"], 1 - np.arange(COUNT) % 2)


def test_features_by_pattern_are_put_side_by_side(tmp_path):
    arrays = _arrays() | {"wage_b": np.arange(COUNT) * 2, "wage_a": np.arange(COUNT) / 2}
    built = _build(tmp_path, arrays, arrays, inputs={"x": {"feature": ["wage_*", "x"]}})
    expected = np.column_stack([arrays["wage_b"], arrays["wage_a"], arrays["x"]])
    np.testing.assert_array_equal(reading.in_order(built.splits["train"])["inputs"], expected)


def test_a_share_is_held_out(tmp_path):
    """One file by itself: every example is in one of the two, the same ones each time."""
    np.savez(tmp_path / "all.npz", **_arrays())
    tree = {**PLAIN, "path": str(tmp_path / "all.npz"), "held_out": 0.25}
    first, second = (
        [reading.in_order(reading.build(tree).splits[split])["targets.y"].tolist() for split in user_files.COUNTS]
        for _ in range(2)
    )
    assert first == second
    assert sorted(first[0] + first[1]) == list(range(COUNT))
    assert len(first[1]) == 6


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x": np.zeros((COUNT - 1, 2))}, r"train\.npz'.*different lengths: x 22, y 23"),
        ({"z": np.float64(3)}, "'z' is a single value"),
        ({"z": np.zeros(COUNT, complex)}, "'z' is of type complex128"),
        ({"z": np.zeros(COUNT, np.longdouble)}, "'z' is of type float128"),
        ({"z": np.array([None] * COUNT)}, "allow_pickle"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0)}, "holds no example"),
        ({"x": np.where(np.arange(COUNT) == 5, np.nan, 1.0)}, r"train\.inputs=.*train\.npz, example 5.*NaN"),
        ({"x": np.zeros((COUNT, 0))}, r"dataset\.inputs\.x='x': has a dimension of 0"),
        ({"y": np.zeros((COUNT, 2, 0))}, r"dataset\.targets\.y='y': has a dimension of 0"),
        ({"x": np.array(["a"] * COUNT)}, r"inputs\.x='x'.*holds text"),
    ],
)
def test_wrong_arrays(tmp_path, changes, words):
    arrays = _arrays() | changes
    with pytest.raises(ConfigError, match=words):
        _build(tmp_path, arrays, arrays)


@pytest.mark.parametrize(
    ("validation", "words"),
    [
        ({"x": np.zeros((4, 2))}, r"validation\.npz'.*without array 'y'.*allowed: x"),
        ({"x": np.zeros((4, 3)), "y": np.zeros(4, int)}, r"'x' is float64\[3\].*training split float64\[2\]"),
        ({"x": np.zeros((4, 2), np.float32), "y": np.zeros(4, int)}, r"'x' is float32\[2\]"),
    ],
)
def test_other_arrays_to_validate_on(tmp_path, validation, words):
    with pytest.raises(ConfigError, match=words):
        _build(tmp_path, _arrays(), validation)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("harm", ["cut", "byte", "text", "empty", "npy"])
def test_broken_files(tmp_path, harm, compressed):
    _build(tmp_path, _arrays(), _arrays(), save=np.savez_compressed if compressed else np.savez)
    path = tmp_path / "validation.npz"
    data = bytearray(path.read_bytes())
    if harm == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif harm == "byte":
        for place in range(70, 120):
            data[place] ^= 255
        path.write_bytes(data)
    elif harm == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        path.write_bytes(b"x, y\n" if harm == "text" else b"")
    with pytest.raises(ConfigError, match=r"splits\.validation=.*validation\.npz': is no readable NPZ file: ") as found:
        reading.build({**PLAIN, "path": str(tmp_path), "splits": SPLITS})
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"splits": {"train": "*.npz"}}, "names 2 files"),
        ({"splits": SPLITS | {"validation": "test.npz"}}, r"'test\.npz'.*is no file.*validation\.npz"),
        ({"splits": {"test": "validation.npz"}}, "needs a 'train' split"),
        ({"options": {"delimiter": ";"}}, "unknown option"),
        ({"feed": "streaming"}, "read as a whole"),
        ({"inputs": {"z": {}}}, r"inputs\.z\.feature='z': unknown feature; allowed: x, y"),
        ({"inputs": {"x": {"feature": "z_*"}}}, r"inputs\.x\.feature='z_\*': unknown feature; allowed: x, y"),
        ({"targets": {"y": {"weight": "z"}}}, r"targets\.y\.weight='z'"),
        ({"inputs": None}, "inputs: is missing"),
        ({"targets": None}, "targets: is missing"),
        ({"undecodable": "skip"}, "is for tfrecord and image_folder"),
        ({"held_out": 0.2}, "without a validation split"),
    ],
)
def test_wrong_settings(tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        _build(tmp_path, _arrays(), _arrays(), **changes)
