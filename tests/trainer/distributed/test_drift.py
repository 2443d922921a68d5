"""Checksums of variables across replicas."""

import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from trainer.distributed import drift
from trainer.distributed.drift import Drift

VALUES = {
    "float32": np.arange(23, dtype=np.float32).reshape(23, 1),
    "float64": np.array([0.0, 1.0, np.nan, np.inf, 5e-324]),
    "float16": np.array([1.0, 2.0], np.float16),
    "int64": np.array(7),
    "int32": np.array([1, 2, 3], np.int32),
    "uint8": np.array([1, 255], np.uint8),
    "bool": np.array([True, False]),
    "complex64": np.array([1 + 2j], np.complex64),
    "string": np.array(["a", "b"]),
    "empty": np.zeros([0, 3]),
}
CHANGED = {
    "float32": [
        np.arange(1, 24, dtype=np.float32).reshape(23, 1),
        np.arange(23, dtype=np.float32)[::-1].reshape(23, 1),  # the same numbers in other places
        *(np.roll(VALUES["float32"], shift, axis=0) for shift in (1, 11)),
        np.nextafter(VALUES["float32"], np.array([[-99], [99]] * 11 + [[99]], np.float32)),  # by their last bits
    ],
    "float64": [np.array([-0.0, 1.0, np.nan, np.inf, 5e-324]), np.array([0.0, 1.0, np.nan, np.inf, 1e-323])],
    "float16": [np.array([2.0, 1.0], np.float16)],
    "int64": [np.array(8)],
    "int32": [np.array([2, 1, 3], np.int32)],
    "uint8": [np.array([255, 1], np.uint8)],
    "bool": [np.array([False, True])],
    "complex64": [np.array([2 + 1j], np.complex64)],
    "string": [np.array(["b", "a"])],
}


@pytest.fixture(scope="module")
def variables():
    with problems.strategy(3).scope():
        return {name: tf.Variable(value) for name, value in VALUES.items()} | {
            "bfloat16": tf.Variable(tf.constant([1, 2], tf.bfloat16))
        }


@pytest.fixture(scope="module")
def check(variables):
    """Of float32 in parts, as of a large variable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drift, "_AT_ONCE", 8)
        function = drift.build_check(problems.strategy(3), variables)
        assert function({"state": tf.constant([1.0, np.nan])}) is None
    return function


def test_every_bit_and_its_place_counts(variables, check):
    state = {"state": tf.constant([1.0, np.nan])}
    for name, values in CHANGED.items():
        replicas = variables[name].values
        for value in values:
            replicas[2].assign(value)
            assert check(state) == Drift(name, replica=2, count=1), value
            replicas[2].assign(VALUES[name])
    assert check(state) is None


def test_the_first_of_several_is_named(variables, check):
    for name, replica in (("int64", 2), ("bool", 1)):
        variables[name].values[replica].assign(CHANGED[name][0])
    try:
        assert check({"state": tf.constant([0.0, 0.0])}) == Drift("int64", replica=2, count=2)
    finally:
        for name in ("int64", "bool"):
            variables[name].assign(VALUES[name])


def test_one_replica_has_nothing_to_compare():
    assert drift.build_check(problems.strategy(1), {"a": None})({"b": None}) is None
