"""Gramians of gradients that are kept as lists per variable."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.gradients import gramian


@pytest.mark.parametrize(
    "size", [0, 1, 5, 2**18, 2**18 + 1, 3 * 2**18 - 1, pytest.param(40 * 2**18 + 7, marks=pytest.mark.ci_only)]
)
def test_inner_products_are_accumulated_in_float64(size):
    """Whatever the number of pieces that they are computed in, and whether it is known while tracing."""
    rows = np.random.RandomState(0).normal(size=(2, size)).astype(np.float32)
    expected = rows.astype(np.float64) @ rows.astype(np.float64).T
    unknown = tf.function(lambda rows: gramian.block(tf.unstack(rows)), input_signature=[tf.TensorSpec([2, None])])
    for block in (gramian.block([tf.constant(row) for row in rows]), unknown(rows)):
        assert block.dtype == tf.float64
        np.testing.assert_allclose(block, expected, rtol=0, atol=1e-12 * size)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@pytest.mark.parametrize("count", [1, 31, 32, 41])
def test_rows_of_a_matrix_are_as_separate_tensors(count, dtype):
    rows = tf.random.stateless_normal([count, 2**16 + 3], [0, 1], dtype=dtype)
    block, separate = gramian.block(rows), gramian.block(tf.unstack(rows))
    np.testing.assert_allclose(block, separate, rtol=0, atol=1e-12 * rows.shape[1])
    np.testing.assert_allclose(block, tf.matmul(*[tf.cast(rows, tf.float64)] * 2, transpose_b=True), atol=1e-7)
    np.testing.assert_array_equal(separate, gramian.block(tf.unstack(rows)))
