"""The digits as a TFDS dataset."""

import os
import subprocess
import sys

import numpy as np
import pytest
import sklearn.datasets
import tensorflow_datasets as tfds

from input_pipelines import digits
from trainer.errors import ConfigError


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
    command = [
        sys.executable,
        "-c",
        f"from input_pipelines import digits; print(len(digits.load({str(tmp_path)!r})['train']))",
    ]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(3)
    ]
    for process in processes:
        output, errors = process.communicate(timeout=120)
        assert (process.returncode, output.strip()) == (0, "1437"), errors
    assert [path.name for path in (tmp_path / "digits").iterdir()] == ["1.0.0"]


def test_a_folder_that_cannot_hold_data_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        digits.load(data_dir=str(tmp_path / "file"))
    assert caught.value.field == "dataset.data_dir"
