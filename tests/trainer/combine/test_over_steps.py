"""Methods over several steps against the same in NumPy, written from the papers' formulas."""

from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.combine.over_steps_in_numpy import IN_NUMPY, STEPS, K, gradvac, losses_of, problem_of, rows_of
from trainer.combine import combination as combination_lib
from trainer.combine import mixing
from trainer.combine.registry import METHODS, LooksAt

STATEFUL = [name for name, method in METHODS.items() if method.initial is not None]


def _weights(name: str, **options) -> Iterator[np.ndarray]:
    """Yields the method's weights step after step; for FAMO, losses fall by a tenth of the next step's."""
    combination = combination_lib.build(name, options, K)
    state = combination.initial_state()
    cross = METHODS[name].looks_at is LooksAt.CROSS_GRAMIAN
    for step in range(STEPS):
        problem = problem_of(step, cross=cross)
        answer = combination.solve(problem, state)
        state = answer.state
        if combination.observes:
            state = combination.observe(problem, problem.losses - 0.1 * losses_of(step + 1), state)
        yield answer.coefficients.numpy()


@pytest.mark.parametrize("name", IN_NUMPY)
def test_weights_are_those_of_the_formulas(name):
    function, options = IN_NUMPY[name]
    results = list(_weights(name, **options))
    assert len({result.tobytes() for result in results}) > 2
    for step, (result, expected) in enumerate(zip(results, function(**options), strict=True)):
        np.testing.assert_allclose(result, expected, rtol=2e-8, atol=1e-10, err_msg=f"step {step}")


def test_gradvac_is_the_papers_algorithm():
    combination = combination_lib.build("gradvac", {"beta": 0.3}, K)
    state = combination.initial_state()
    two = np.array([True, True, False])
    for step, expected in enumerate(gradvac(0.3)):
        answer = combination.solve(problem_of(step, active=two), state)
        state = answer.state
        np.testing.assert_allclose(answer.coefficients[:2, :2], expected, rtol=1e-9, err_msg=f"step {step}")


def test_random_weights_are_a_softmax_of_normal_numbers():
    combination = combination_lib.build("random", {}, K)
    logits = []
    for step in range(300):
        weights = combination.solve(problem_of(step), {}).coefficients.numpy()
        assert weights.sum() == pytest.approx(1)
        logits.append(np.log(weights) - np.log(weights).mean())
    assert np.mean(logits) == pytest.approx(0, abs=1e-9)
    # Of differences from their mean, three independent normal numbers keep two thirds of their variance.
    assert np.var(logits) == pytest.approx(2 / 3, abs=0.12)


@pytest.mark.parametrize("name", STATEFUL)
def test_what_belongs_to_inactive_losses_does_not_move(name):
    """Nor does it depend on what stands there."""
    combination = combination_lib.build(name, _defaults(name), K)
    cross = METHODS[name].looks_at is LooksAt.CROSS_GRAMIAN
    state = combination.initial_state()
    for step in range(5):
        before = state
        active = np.ones(K, bool) if step % 2 else np.array([True, False, True])
        problem = problem_of(step, active=active, cross=cross)
        answer = combination.solve(problem, state)
        state = dict(answer.state)
        if combination.observes:
            state = combination.observe(problem, problem.losses * 0.9, state)
        assert set(state) == set(combination.initial_state())
        for key, value in state.items():
            assert np.all(np.isfinite(value) | np.isnan(before[key]))
            if not active[1]:
                np.testing.assert_array_equal(value[1], before[key][1], err_msg=f"{key} of step {step}")
                if value.shape.rank == 2:
                    np.testing.assert_array_equal(value[:, 1], before[key][:, 1], err_msg=f"{key} of step {step}")
        weights = mixing.joint_coefficients(answer.coefficients).numpy()
        assert np.all(np.isfinite(weights))
        assert active[1] or weights[1] == 0
    moved = [key for key, value in combination.initial_state().items() if not np.array_equal(value, state[key])]
    assert moved, "the method remembers nothing"


def _defaults(name: str) -> dict:
    options = METHODS[name].options
    values = {} if options is None else {f.name: f.metadata["default"] for f in options.__dataclass_fields__.values()}
    return values | ({"warmup_steps": 2} if name == "smooth_tchebycheff" else {})


def test_the_weights_of_active_losses_keep_their_sum():
    """So that a loss which comes back finds its share."""
    for name, key, total in (("modo", "weights", 1.0), ("sdmgrad", "weights", 1.0), ("gradnorm", "weights", float(K))):
        combination = combination_lib.build(name, _defaults(name), K)
        state = combination.initial_state()
        for step in range(4):
            active = np.array([True, step != 2, True])
            state = combination.solve(problem_of(step, active=active, cross=name != "gradnorm"), state).state
            assert np.sum(state[key]) == pytest.approx(total), name


# ---------------------------------------------------------------------------------------------------------------------
# What can be put around any method.
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mgda", "pcgrad", "log_sum"])
def test_smoothing(name):
    """CR-MOGM: λ ← s λ + (1 - s) of what the method finds; the first step has nothing to smooth with."""
    plain, smooth = (combination_lib.build(name, _defaults(name), K, smoothing=s) for s in (0.0, 0.75))
    state, expected = smooth.initial_state(), None
    for step in range(4):
        found = plain.solve(problem_of(step), {}).coefficients.numpy()
        expected = found if expected is None else 0.75 * expected + 0.25 * found
        answer = smooth.solve(problem_of(step), state)
        state = answer.state
        np.testing.assert_allclose(answer.coefficients, expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["mgda", "pcgrad", "cagrad"])
def test_log_losses(name):
    """The weights are those that the method finds for the gradients of log Lₖ, gₖ / Lₖ."""
    plain, logarithmic = (combination_lib.build(name, _defaults(name), K, log_losses=on) for on in (False, True))
    problem = problem_of(1)
    rows = rows_of(1) / losses_of(1)[:, np.newaxis]
    expected = plain.solve(problem._replace(gramian=tf.constant(rows @ rows.T)), {}).coefficients
    np.testing.assert_allclose(logarithmic.solve(problem, {}).coefficients, expected, rtol=1e-9)
    np.testing.assert_allclose(logarithmic.scales(problem.loss_weights, problem.losses), 1 / losses_of(1), rtol=1e-12)
