"""Tests of what is said of data begin with Keras' own precision; a file of records that several of them read."""

import keras
import numpy as np
import pytest

from tests.trainer.describe.records import write_records


@pytest.fixture(autouse=True)
def _float32() -> None:
    keras.config.set_floatx("float32")


@pytest.fixture
def records(tmp_path):
    """A TFRecord file of 40 pictures in the order of their classes, 0 to 3."""
    images = np.random.RandomState(0).randint(0, 256, (40, 6, 4, 1)).astype(np.uint8)
    labels = np.repeat(np.arange(4), 10)
    write_records(tmp_path / "train.tfrecord", images, labels)
    return tmp_path, images, labels
