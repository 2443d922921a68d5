"""Tests of data begin with Keras' own precision, whatever a test before them has set; a fixture of several files."""

from collections.abc import Iterator

import keras
import pytest


@pytest.fixture(autouse=True)
def _float32() -> None:
    keras.config.set_floatx("float32")


@pytest.fixture
def float64() -> Iterator[None]:
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx(before)
