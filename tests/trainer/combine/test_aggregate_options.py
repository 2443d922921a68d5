"""The options of methods, and what a method does with what it is given."""

import numpy as np
import pytest

from tests.trainer.combine.test_aggregate import HAND, THREE
from trainer.combine import aggregate

# ---------------------------------------------------------------------------------------------------------------------
# Options.
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("normalize", "divisors"), [("l2", "norm"), ("loss", "loss"), ("loss+", "both")])
def test_mgda_finds_its_weights_on_normalised_rows_and_applies_them_to_the_rows_themselves(normalize, divisors):
    losses, norms = np.array([2.0, 3.0]), np.linalg.norm(HAND, axis=1)
    divisor = {"norm": norms, "loss": losses, "both": losses * norms}[divisors][:, np.newaxis]
    rows = HAND / divisor
    # Of two rows the shortest combination is known in closed form.
    first = np.clip((rows[1] - rows[0]) @ rows[1] / np.sum((rows[0] - rows[1]) ** 2), 0, 1)
    expected = first * HAND[0] + (1 - first) * HAND[1]
    np.testing.assert_allclose(aggregate("mgda", HAND, losses=losses, normalize=normalize), expected, rtol=1e-9)


def test_the_longest_nash_step():
    """Without a limit its length is √K."""
    free = aggregate("nash_mtl", HAND, max_norm=0.0).numpy()
    assert np.linalg.norm(free) == pytest.approx(np.sqrt(2))
    np.testing.assert_allclose(aggregate("nash_mtl", HAND), free / np.sqrt(2), rtol=1e-12)
    np.testing.assert_allclose(aggregate("nash_mtl", HAND, max_norm=5.0), free, rtol=1e-12)


@pytest.mark.parametrize("name", ["upgrad", "dual_proj", "aligned_mtl", "config", "fair_grad"])
def test_preferences(name):
    """Equal ones change nothing; one that is nearly all for a loss follows that loss's gradient more."""
    equal = 1.0 if name in ("config", "fair_grad") else 1 / 3
    np.testing.assert_allclose(
        aggregate(name, THREE, preference=[equal] * 3), aggregate(name, THREE), rtol=1e-9, atol=1e-12
    )
    results = [aggregate(name, THREE, preference=p).numpy() for p in ([0.98, 0.01, 0.01], [0.01, 0.01, 0.98])]
    first, last = (result / np.linalg.norm(result) for result in results)
    assert first @ THREE[0] > last @ THREE[0]
    assert last @ THREE[2] > first @ THREE[2]


def test_a_preference_without_conflict_is_the_weighted_mean():
    rows = np.array([[1.0, 0.0, 0.5], [0.0, 2.0, 0.5]])
    for name in ("upgrad", "dual_proj"):
        np.testing.assert_allclose(
            aggregate(name, rows, preference=[0.2, 0.8]), 0.2 * rows[0] + 0.8 * rows[1], rtol=1e-9
        )


def test_fair_grad_with_a_preference_solves_its_equation():
    """G w = (w / p)^(-1/α)."""
    preference, alpha = np.array([0.5, 2.0]), 1.5
    result = aggregate("fair_grad", HAND, alpha=alpha, preference=preference.tolist()).numpy()
    w = np.linalg.lstsq(HAND.T, result, rcond=None)[0]
    np.testing.assert_allclose(HAND @ result, (w / preference) ** (-1 / alpha), rtol=1e-8)


@pytest.mark.parametrize("trim", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_trimmed_mean(trim, dtype):
    jacobian = np.random.RandomState(1).normal(size=(6, 40)).astype(dtype)
    expected = np.sort(jacobian, axis=0)[trim:-trim].mean(axis=0)
    np.testing.assert_allclose(aggregate("trimmed_mean", jacobian, trim=trim), expected, rtol=1e-5, atol=1e-7)
    active = [True, False, True, True, True, True]
    rest = np.sort(jacobian[np.array(active)], axis=0)[trim:-trim].mean(axis=0)
    np.testing.assert_allclose(
        aggregate("trimmed_mean", jacobian, active=active, trim=trim), rest, rtol=1e-5, atol=1e-7
    )


def test_graddrop_keeps_one_sign_as_often_as_it_is_pure():
    jacobian = np.repeat([[3.0], [-1.0], [0.5]], 20_000, axis=1)
    result = aggregate("graddrop", jacobian).numpy()
    assert set(np.unique(result)) == {-1.0, 3.5}
    purity = 0.5 * (1 + 2.5 / 4.5)
    assert np.mean(result > 0) == pytest.approx(purity, abs=0.015)  # four standard deviations
    leaky = aggregate("graddrop", jacobian, leak=0.25).numpy()
    np.testing.assert_allclose(leaky, 0.25 * 2.5 + 0.75 * result)
