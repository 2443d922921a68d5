"""Random numbers within a compiled loop are those that TensorFlow's kernels draw without one."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.combine import random_numbers
from trainer.combine.problem import Problem

SHAPE = [3, 7]  # a number that is no multiple of four


def _drawn(seed: tf.Tensor, compiled: bool) -> dict[str, tf.Tensor]:
    problem = Problem(None, None, None, None, seed, None, None, compiled)
    return {
        "float32": random_numbers.uniform(problem, SHAPE, tf.float32),
        "float64": random_numbers.uniform(problem, SHAPE, tf.float64),
        "normal": random_numbers.normal(problem, 5),
        "seed": random_numbers.seed_of(problem, 12),
    }


@pytest.mark.parametrize("seed", [(3, -7), pytest.param((2**31 - 1, 12345), marks=pytest.mark.ci_only)])
def test_equal_those_of_the_kernels(seed):
    """Seeds are no constants, as in a step: XLA would fold the numbers of those as the kernels draw them."""
    seed = tf.constant(seed, tf.int32)
    function = tf.function(lambda seed: _drawn(seed, True), autograph=False, jit_compile=True)
    for name, expected in _drawn(seed, False).items():
        np.testing.assert_allclose(function(seed)[name], expected, rtol=1e-14 if name == "normal" else 0, err_msg=name)
