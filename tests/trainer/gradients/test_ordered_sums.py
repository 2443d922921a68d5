"""Sums in a fixed order."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.gradients import ordered_sums

VALUES = [np.float32([1e8, 1.0]), np.float32([1.0, 2.0]), np.float32([-1e8, 3.0]), np.float32([1.0, 4.0])]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_weighted_adds_from_first_to_last(count):
    """Large numbers of opposite sign show the order: another one gives another float32."""
    expected = np.zeros(2, np.float32)
    for weight, value in zip((1.0, 2.0, 1.0, 0.5), VALUES[:count], strict=False):
        expected = expected + np.float32(weight) * value
    function = tf.function(
        lambda values: ordered_sums.weighted(values, tf.constant([1.0, 2.0, 1.0, 0.5][:count], tf.float64))
    )
    np.testing.assert_array_equal(function([tf.constant(value) for value in VALUES[:count]]), expected)


def test_ordered():
    np.testing.assert_array_equal(ordered_sums.ordered([tf.constant(value) for value in VALUES[1:2]]), VALUES[1])
    assert ordered_sums.ordered([tf.constant(1.0), tf.constant(2.0), tf.constant(4.0)]).numpy() == 7.0
