"""Tests of data begin with Keras' own precision, whatever a test before them has set; fixtures of several files."""

from collections.abc import Iterator

import keras
import numpy as np
import pytest

from tests.input_pipelines.shown import write_records


@pytest.fixture(autouse=True)
def _float32() -> None:
    keras.config.set_floatx("float32")


@pytest.fixture
def float64() -> Iterator[None]:
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx(before)


@pytest.fixture
def records(tmp_path):
    """A TFRecord file of 40 pictures in the order of their classes, 0 to 3."""
    images = np.random.RandomState(0).randint(0, 256, (40, 6, 4, 1)).astype(np.uint8)
    labels = np.repeat(np.arange(4), 10)
    write_records(tmp_path / "train.tfrecord", images, labels)
    return tmp_path, images, labels
