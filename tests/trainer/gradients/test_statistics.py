"""The losses of a step that are finite, wherever it holds a number that is not."""

import math

import numpy as np
import pytest
import tensorflow as tf

from trainer.gradients import statistics
from trainer.gradients.reach import Reach

LOSSES = 3
REACH = Reach((), ((0, 1, 2), (1, 2), (0,), (2,)), ())


def losses(broken: int | None) -> tf.Tensor:
    """Three losses, of which one is no number."""
    return tf.constant([math.nan if k == broken else 1.0 + k for k in range(LOSSES)])


def gradient(*, broken: bool) -> tf.Tensor:
    """A gradient, one of whose elements is infinite where it is broken."""
    return tf.constant(np.where(broken & (np.arange(4) == 2), -np.inf, np.arange(4)), tf.float32)


def assert_broken(found: statistics.Finite, expected: set[int]) -> None:
    assert [*found.of_each.numpy()] == [k not in expected for k in range(LOSSES)]
    assert bool(found.all) == (not expected)


@pytest.mark.parametrize("broken", [None, 0, 1, 2])
def test_a_loss_that_is_not_finite_is_found(broken):
    gradients = [gradient(broken=False) for _ in REACH.losses]
    jacobian = tuple((gradient(broken=False),) * len(by) for by in REACH.losses)
    expected = set() if broken is None else {broken}
    assert_broken(statistics.finite_together(gradients, losses(broken), REACH), expected)
    assert_broken(statistics.finite(jacobian, losses(broken), REACH), expected)
    rows = losses(broken)
    assert_broken(statistics.finite_together(gradients, losses(None), REACH, rows), expected)


@pytest.mark.parametrize(("broken", "expected"), [(0, {0, 1, 2}), (1, {0, 1, 2}), (2, {0}), (3, {2})])
def test_a_gradient_of_a_sum_shows_the_loss_that_has_it_alone_and_else_all(broken, expected):
    gradients = [gradient(broken=v == broken) for v in range(len(REACH.losses))]
    assert_broken(statistics.finite_together(gradients, losses(None), REACH), expected)


@pytest.mark.parametrize("broken", [(0, 0), (0, 2), (1, 1), (2, 0), (3, 2)])
def test_a_gradient_of_a_loss_shows_that_loss(broken):
    jacobian = tuple(tuple(gradient(broken=(v, k) == broken) for k in by) for v, by in enumerate(REACH.losses))
    assert_broken(statistics.finite(jacobian, losses(None), REACH), {broken[1]})
