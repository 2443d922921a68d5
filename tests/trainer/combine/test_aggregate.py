"""Combination methods on plain matrices: reference results, hand-checked values, properties."""

import pathlib

import numpy as np
import pytest

from trainer.combine import aggregate
from trainer.combine.registry import METHODS
from trainer.errors import ConfigError

REFERENCE = dict(np.load(pathlib.Path(__file__).with_name("reference_vectors.npz")))
CASES = sorted(key.removesuffix(".jacobian") for key in REFERENCE if key.endswith(".jacobian"))
# What the reference file calls each method.
REFERENCED = {
    "sum": "sum",
    "mean": "mean",
    "weighted": "sum",
    "independent": "sum",
    "normalized": "normalized",
    "pcgrad": "pcgrad",
}
HAND = np.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
VARIANTS = [(name, {}) for name in METHODS] + [("normalized", {"per_variable": True})]


def test_every_method_has_a_reference():
    assert set(REFERENCED) == set(METHODS)


@pytest.mark.parametrize("name", REFERENCED)
@pytest.mark.parametrize("case", CASES)
def test_reference_results(name, case):
    jacobian, expected = REFERENCE[f"{case}.jacobian"], REFERENCE.get(f"{case}.{REFERENCED[name]}")
    if expected is None:
        assert name == "pcgrad"  # listed only where the order of the projections plays no part
        assert len(jacobian) > 2
        return
    result = aggregate(name, jacobian)
    assert result.dtype == "float32"
    assert np.linalg.norm(result - expected) <= 1e-5 * np.linalg.norm(expected)


def _pcgrad_in_numpy(jacobian: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """The paper's algorithm 1, on vectors."""
    result = np.zeros(jacobian.shape[1])
    for i, row in enumerate(jacobian):
        projected = row.copy()
        for j in orders[i]:
            product = projected @ jacobian[j]
            if j != i and product < 0:
                projected -= product / (jacobian[j] @ jacobian[j]) * jacobian[j]
        result += projected
    return result


def test_pcgrad_by_hand():
    np.testing.assert_allclose(aggregate("pcgrad", HAND), [0.584795, 3.801170, 3.801170], atol=1e-6)
    np.testing.assert_allclose(aggregate("pcgrad", np.array([[1.0, 0.0], [0.0, 1.0]])), [1.0, 1.0])


@pytest.mark.parametrize("step", range(5))
def test_pcgrad_is_the_papers_algorithm_for_some_order(step):
    """With three losses there are eight combinations of orders; the result must be one of them."""
    jacobian = np.random.RandomState(7).normal(size=(3, 5)) * [[1.0], [5.0], [0.2]]
    result = aggregate("pcgrad", jacobian, step=step).numpy()
    pairs = [[(1, 2), (2, 1)], [(0, 2), (2, 0)], [(0, 1), (1, 0)]]
    possible = [_pcgrad_in_numpy(jacobian, [a, b, c]) for a in pairs[0] for b in pairs[1] for c in pairs[2]]
    assert min(np.abs(result - candidate).max() for candidate in possible) < 1e-12


def test_pcgrad_order_depends_on_seed_and_step():
    jacobian = np.random.RandomState(7).normal(size=(5, 6))
    results = [aggregate("pcgrad", jacobian, seed=seed, step=step).numpy() for seed in range(3) for step in range(3)]
    assert len({result.tobytes() for result in results}) > 3
    np.testing.assert_array_equal(results[4], aggregate("pcgrad", jacobian, seed=1, step=1))


def test_weights():
    np.testing.assert_allclose(aggregate("weighted", HAND, weights=[2.0, 0.5]), 2 * HAND[0] + 0.5 * HAND[1])


def test_normalized_per_variable_has_the_floor_of_l2_normalize():
    tiny = np.array([[1e-9, 0.0], [0.0, 2.0]])
    np.testing.assert_allclose(aggregate("normalized", tiny, per_variable=True), [0.5e-3, 0.5])
    np.testing.assert_allclose(aggregate("normalized", tiny), [0.5, 0.5])


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_inactive_rows_do_not_exist(name, options):
    """Three losses of which the second is inactive give what the other two alone give."""
    jacobian = np.random.RandomState(3).normal(size=(3, 8))
    masked = aggregate(name, jacobian, active=[True, False, True], **options)
    np.testing.assert_allclose(masked, aggregate(name, jacobian[[0, 2]], **options), rtol=1e-12)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_one_loss_shares_nothing_and_keeps_its_gradient(name, options):
    row = np.array([[3.0, -4.0]])
    np.testing.assert_allclose(aggregate(name, row, **options), row[0] * (0.2 if options else 1.0), rtol=1e-12)


@pytest.mark.parametrize(("name", "options"), [variant for variant in VARIANTS if not variant[1]])
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_scaling_all_gradients(name, options, scale):
    """All of these are of degree one in the Jacobian, but for `normalized`, which is of degree zero."""
    result = aggregate(name, HAND * scale).numpy()
    np.testing.assert_allclose(
        result, aggregate(name, HAND).numpy() * (1 if name == "normalized" else scale), rtol=1e-9
    )


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "jacobian",
    [
        [[0.0, 0.0], [1.0, 2.0]],
        [[0.0, 0.0], [0.0, 0.0]],
        [[1.0, 2.0], [1.0, 2.0]],
        [[1.0, 2.0], [-1.0, -2.0]],
        [[1e-15, 2e-15], [-1e15, 3e15], [1.0, -1.0]],
    ],
    ids=["zero row", "all zero", "equal", "opposite", "scales"],
)
def test_finite_on_hard_cases(name, options, dtype, jacobian):
    result = aggregate(name, np.array(jacobian, dtype), **options)
    assert result.dtype == dtype
    assert np.all(np.isfinite(result))


@pytest.mark.parametrize("name", ["normalized", "pcgrad"])
def test_gramian_methods_commute_with_rotations(name):
    random = np.random.RandomState(5)
    jacobian = random.normal(size=(4, 6))
    rotation, _ = np.linalg.qr(random.normal(size=(6, 6)))
    np.testing.assert_allclose(
        aggregate(name, jacobian @ rotation), aggregate(name, jacobian).numpy() @ rotation, rtol=1e-9
    )


@pytest.mark.parametrize(
    ("arguments", "options", "field"),
    [
        (("pcgrd", HAND), {}, "name"),
        (("pcgrad", HAND), {"alpha": 1}, "combine.pcgrad.alpha"),
        (("normalized", HAND), {"per_variable": 3}, "combine.normalized.per_variable"),
        (("sum", HAND[0]), {}, "jacobian"),
        (("sum", HAND.astype(int)), {}, "jacobian"),
        (("sum", HAND), {"active": [True]}, "active"),
        (("sum", HAND), {"losses": [1.0]}, "losses"),
        (("weighted", HAND), {"weights": [1.0, 2.0, 3.0]}, "weights"),
    ],
)
def test_bad_arguments_are_named(arguments, options, field):
    with pytest.raises(ConfigError) as caught:
        aggregate(*arguments, **options)
    assert caught.value.field == field
