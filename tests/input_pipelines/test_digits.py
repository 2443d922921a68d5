"""The digits as a TFDS dataset."""

import contextlib

import numpy as np
import pytest
import sklearn.datasets
import tensorflow_datasets as tfds

from input_pipelines.datasets import digits
from tests import forked
from trainer.common.errors import ConfigError


def test_all_digits_once_in_fixed_splits(tmp_path):
    splits = digits.load(data_dir=str(tmp_path))
    assert {name: len(split) for name, split in splits.items()} == {"train": 1437, "validation": 360}
    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    found = np.concatenate(
        [np.column_stack([split.targets["digit"], split.inputs.reshape(-1, 64) * 16]) for split in splits.values()]
    )
    expected = np.column_stack([labels, images])
    np.testing.assert_array_equal(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)])
    for split in splits.values():
        np.testing.assert_array_equal(split.targets["image"], split.inputs[..., 0])
        np.testing.assert_allclose(split.targets["ink"], split.inputs.mean(axis=(1, 2, 3)), rtol=1e-6)
    again = digits.load(data_dir=str(tmp_path))
    np.testing.assert_array_equal(again["train"].inputs, splits["train"].inputs)


def test_reads_as_any_tfds_dataset(tmp_path):
    digits.load(data_dir=str(tmp_path))
    builder = tfds.builder_from_directory(tmp_path / "digits" / "1.0.0")
    assert builder.info.splits["train"].num_examples == 1437
    assert builder.info.features["digit"].num_classes == 10


def test_processes_that_start_at_once_all_work(tmp_path):
    program = (
        "import sys\nfrom input_pipelines.datasets import digits\n\nprint(len(digits.load(sys.argv[1])['train']))\n"
    )
    (tmp_path / "program.py").write_text(program)
    with contextlib.ExitStack() as stack:
        arguments = ("program", str(tmp_path / "data"))
        started = [stack.enter_context(forked.started(*arguments, cwd=tmp_path)) for _ in range(3)]
        for result in [process.wait() for process in started]:
            assert (result.returncode, result.stdout.strip()) == (0, "1437"), result.stderr
    assert [path.name for path in (tmp_path / "data" / "digits").iterdir()] == ["1.0.0"]


def test_a_folder_that_cannot_hold_data_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        digits.load(data_dir=str(tmp_path / "file"))
    assert caught.value.field == "dataset.data_dir"


def test_further_targets(tmp_path):
    wanted = ["digit", "pixels", "pair", "odd", "is_eight", "moments"]
    for split in digits.load(data_dir=str(tmp_path), targets=wanted).values():
        targets, images = split.targets, split.inputs[..., 0].astype("float64")
        assert list(targets) == wanted
        np.testing.assert_array_equal(targets["pixels"].reshape(-1, 8, 8), images)
        np.testing.assert_array_equal(2 * targets["pair"] + targets["odd"], targets["digit"])
        np.testing.assert_array_equal(targets["is_eight"], (targets["digit"] == 8)[:, np.newaxis])
        assert 0.05 < targets["is_eight"].mean() < 0.15
        rows, columns = (axis.ravel() for axis in np.indices((8, 8)))
        for image, moments in zip(images[:20], targets["moments"][:20], strict=True):
            expected = np.cov(rows, columns, bias=True, aweights=image.ravel())
            np.testing.assert_allclose(moments, expected, rtol=1e-4, atol=1e-5)


def test_an_unknown_target_is_named(tmp_path):
    with pytest.raises(ConfigError, match="dataset.options.targets.1='momnts': .*did you mean 'moments'"):
        digits.load(data_dir=str(tmp_path), targets=["digit", "momnts"])
