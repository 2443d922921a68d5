"""Every method where losses are inactive, whatever they hold, and where gradients are very long or very short."""

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.combine.over_steps_in_numpy import K, problem_of
from tests.trainer.combine.test_aggregate import LOSSES, VARIANTS
from trainer.combine import aggregate
from trainer.combine import combination as combination_lib
from trainer.combine.registry import METHODS
from trainer.common import schema

ANYTHING = np.array([np.nan, np.inf, -1e30])
WITH_GRAMIAN = [
    *((name, options) for name, options in VARIANTS if METHODS[name].sees_gramian),
    *(("fair_grad", {"alpha": alpha}) for alpha in (0.5, 5.0)),
]


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.ci_only)])
def test_inactive_rows_may_hold_anything(name, options, dtype):
    """The result is, to the last bit, what it is where they hold zeros."""
    rows = np.random.RandomState(4).normal(size=(6, 5)).astype(dtype)
    active, losses = np.array([True, False, True, False, False, True]), LOSSES.copy()
    results = []
    for held in (np.zeros(3), ANYTHING):
        rows[~active], losses[~active] = held[:, np.newaxis], held
        results.append(aggregate(name, rows, losses=losses, active=active, **options).numpy())
    assert np.all(np.isfinite(results[0]))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_without_an_active_loss_the_result_is_0(name, options):
    for dtype in ("float32", "float64"):
        rows = np.tile(ANYTHING[:, np.newaxis], 5).astype(dtype)
        result = aggregate(name, rows, losses=ANYTHING, active=[False] * 3, **options).numpy()
        np.testing.assert_array_equal(result, np.zeros(5, dtype))


def test_trimmed_mean_of_one_loss_is_its_gradient():
    rows = np.array([[1.0, -2.0], [np.nan, 3.0], [5.0, np.inf]])
    np.testing.assert_array_equal(aggregate("trimmed_mean", rows, active=[True, False, False]), rows[0])


def test_a_weight_of_0_leaves_a_row_out():
    rows = np.array([[-4.0, 1.0, 1.0], [np.nan, 2.0, 0.0], [6.0, 1.0, 1.0]])
    for name in ("sum", "mgda"):
        alone = aggregate(name, rows[[0, 2]])
        np.testing.assert_allclose(aggregate(name, rows, weights=[2.0, 0.0, 0.5]), alone, rtol=1e-12)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.yields_coefficients])
def test_what_is_remembered_of_inactive_losses_plays_no_part(name):
    """Nor does it change; nor do an inactive loss's value and inner products count."""
    kind = METHODS[name].options
    options = {} if kind is None else vars(schema.record(kind)({}, name))
    combination = combination_lib.build(name, options, K, smoothing=0.5 if METHODS[name].finds_coefficients else 0.0)
    active = np.array([True, False, True])
    pairs = active & active[:, np.newaxis]
    problem, state = problem_of(1, active=active), combination.solve(problem_of(0), combination.initial_state()).state
    found = []
    for held in (0.0, np.nan):
        of_inactive = {1: active, 2: pairs}
        remembered = {
            key: value if value.dtype.is_integer else tf.where(of_inactive[value.shape.rank], value, held)
            for key, value in state.items()
        }
        dirty = problem._replace(
            losses=tf.where(active, problem.losses, held), gramian=tf.where(pairs, problem.gramian, held)
        )
        answer = combination.solve(dirty, remembered)
        after = dict(answer.state)
        if combination.observes:
            after = combination.observe(dirty, 0.9 * dirty.losses, after)
        for key, value in remembered.items():
            where = of_inactive[value.shape.rank]
            np.testing.assert_array_equal(after[key].numpy()[~where], value.numpy()[~where])
        found.append([answer.coefficients, *(after[key].numpy()[of_inactive[after[key].shape.rank]] for key in after)])
    assert np.all(np.isfinite(found[0][0]))
    for own, other in zip(*found, strict=True):
        np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize(("name", "options"), WITH_GRAMIAN)
@pytest.mark.parametrize(
    "lengths",
    [[1e-30] * 3, [1e-30, 1.0, 1e30], pytest.param([1e30] * 3, marks=pytest.mark.ci_only)],
    ids=["short", "both", "long"],
)
def test_float32_gradients_of_any_length(name, options, lengths):
    """The result in float64, wherever float32 can hold it."""
    rows = np.random.RandomState(0).normal(size=(3, 4)) * np.array(lengths)[:, np.newaxis]
    rows = rows.astype(np.float32)
    rows[0, 3] = rows[2, 3] = 0.0  # an element of the second row alone
    exact = aggregate(name, rows.astype(np.float64), losses=LOSSES[:3], **options).numpy()
    result = aggregate(name, rows, losses=LOSSES[:3], **options).numpy()
    held = np.abs(exact) > np.finfo(np.float32).tiny
    assert result.dtype == np.float32
    assert np.any(held)
    assert np.all(np.abs(exact) < np.finfo(np.float32).max)
    np.testing.assert_allclose(result[held], exact[held], rtol=1e-5)
    np.testing.assert_allclose(result[~held], 0.0, atol=1e-37)


@pytest.mark.parametrize("name", ["moco", "modo"])
def test_weights_of_long_gradients_stay_on_the_simplex(name):
    """All weight goes to the loss whose inner product with the mean is least, here the third."""
    rows = np.array([[1e30, 0.0, 0.0], [0.0, 1e30, 0.0], [0.0, 0.0, 5e29]])
    keeps = 0.5 if name == "moco" else 1.0  # of the average that begins at zero
    np.testing.assert_array_equal(aggregate(name, rows), keeps * rows[2])
