"""Keras in float32, whatever a test before left, and in float64 for tests that ask for it."""

from collections.abc import Iterator

import keras
import pytest


def _set(dtype: str) -> None:
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)


@pytest.fixture(autouse=True)
def _float32() -> Iterator[None]:
    """Other tests' experiments set the types that Keras computes with."""
    _set("float32")
    yield
    _set("float32")


@pytest.fixture
def float64(_float32: None) -> None:
    """Given to a test that compares numbers."""
    _set("float64")
