"""Tests of data begin with Keras' own precision, whatever a test before them has set."""

import keras
import pytest


@pytest.fixture(autouse=True)
def _float32() -> None:
    keras.config.set_floatx("float32")
