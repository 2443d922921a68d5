"""Methods over several steps against the same in NumPy, written from the papers' formulas."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import tensorflow as tf

from trainer.combine import combination as combination_lib
from trainer.combine import mixing
from trainer.combine.problem import Problem
from trainer.combine.registry import METHODS, LooksAt

K, STEPS, EPOCH = 3, 9, 2  # an epoch is two steps
STATEFUL = [name for name, method in METHODS.items() if method.initial is not None]


def _rows(step: int) -> np.ndarray:
    return np.random.RandomState(step).normal(size=(K, 5)) * [[1.0], [2.0], [0.5]]


def _second_rows(step: int) -> np.ndarray:
    return _rows(step) + 0.4 * np.random.RandomState(1000 + step).normal(size=(K, 5))


def _losses(step: int) -> np.ndarray:
    return np.random.RandomState(100 + step).uniform(0.3, 3.0, K) * [1.0, 5.0, 0.2]


def _problem(step: int, *, active: np.ndarray | None = None, cross: bool = False) -> Problem:
    active = np.ones(K, bool) if active is None else active
    rows, second = _rows(step), _second_rows(step) if cross else _rows(step)
    return Problem(
        active=tf.constant(active),
        weights=tf.ones([K], tf.float64),
        losses=tf.constant(np.where(active, _losses(step), 0.0)),
        gramian=tf.constant(np.where(active & active[:, np.newaxis], rows @ second.T, 0.0)),
        seed=combination_lib.step_seed(0, step),
        step=tf.constant(step, tf.int64),
        epoch=tf.constant(step // EPOCH, tf.int64),
    )


def _weights(name: str, **options) -> Iterator[np.ndarray]:
    """What the method answers in step after step; FAMO is told that losses fell by a tenth of the next step's."""
    combination = combination_lib.build(name, options, K)
    state = combination.initial_state()
    cross = METHODS[name].looks_at is LooksAt.CROSS_GRAMIAN
    for step in range(STEPS):
        problem = _problem(step, cross=cross)
        answer = combination.solve(problem, state)
        state = answer.state
        if combination.observes:
            state = combination.observe(problem, problem.losses - 0.1 * _losses(step + 1), state)
        yield answer.weights.numpy()


def _softmax(values: np.ndarray) -> np.ndarray:
    return np.exp(values - values.max()) / np.exp(values - values.max()).sum()


def _project(values: np.ndarray) -> np.ndarray:
    """The nearest point of the simplex, by bisection on the threshold."""
    low, high = values.min() - 1, values.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(values - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(values - high, 0)


class _Adam:
    """PyTorch's, with its coupled decay."""

    def __init__(self, rate: float, decay: float = 0.0):
        self.rate, self.decay, self.m, self.v, self.t = rate, decay, 0.0, 0.0, 0

    def step(self, values: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        gradient = gradient + self.decay * values
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        return values - self.rate * (self.m / (1 - 0.9**self.t)) / (np.sqrt(self.v / (1 - 0.999**self.t)) + 1e-8)


def _uncertainty(learning_rate: float) -> Iterator[np.ndarray]:
    s, adam = np.zeros(K), _Adam(learning_rate)
    for step in range(STEPS):
        yield np.exp(-s)
        s = adam.step(s, -np.exp(-s) * _losses(step) + 1)


def _dwa(temperature: float) -> Iterator[np.ndarray]:
    for step in range(STEPS):
        epoch = step // EPOCH
        last, before = (
            np.mean([_losses(i) for i in range(e * EPOCH, (e + 1) * EPOCH)], axis=0) if e >= 0 else np.ones(K)
            for e in (epoch - 1, epoch - 2)
        )
        yield K * _softmax((last / before if epoch >= 2 else np.ones(K)) / temperature)


def _geometric() -> Iterator[np.ndarray]:
    for step in range(STEPS):
        yield _gradient(lambda losses: np.prod(losses) ** (1 / K), _losses(step))


def _log_sum() -> Iterator[np.ndarray]:
    for step in range(STEPS):
        yield _gradient(lambda losses: np.sum(np.log(losses)), _losses(step))


def _smooth_tchebycheff(mu: float, warmup_steps: int, preference: list[float]) -> Iterator[np.ndarray]:
    bounds, p = np.mean([_losses(step) for step in range(warmup_steps)], axis=0), np.array(preference)
    for step in range(STEPS):
        warm = step < warmup_steps
        objective = (
            (lambda losses: np.sum(np.log(losses)))
            if warm
            else (lambda losses: mu * np.log(np.sum(np.exp(p * (np.log(losses) - np.log(bounds)) / mu))))
        )
        yield _gradient(objective, _losses(step))


def _gradient(function: Callable[[np.ndarray], float], at: np.ndarray) -> np.ndarray:
    """By central differences."""
    steps = 1e-5 * np.diag(at)
    return np.array([(function(at + h) - function(at - h)) / (2 * h.sum()) for h in steps])


def _famo(learning_rate: float, decay: float, lower_bounds: float) -> Iterator[np.ndarray]:
    logits, adam = np.zeros(K), _Adam(learning_rate, decay)
    for step in range(STEPS):
        losses, after = _losses(step) - lower_bounds, _losses(step) - 0.1 * _losses(step + 1) - lower_bounds
        z = _softmax(logits)
        yield z / losses / np.sum(z / losses)
        jacobian = np.diag(z) - np.outer(z, z)
        logits = adam.step(logits, jacobian @ (np.log(losses) - np.log(after)))


def _gradnorm(alpha: float, learning_rate: float) -> Iterator[np.ndarray]:
    w, adam = np.ones(K), _Adam(learning_rate)
    for step in range(STEPS):
        yield w
        norms, rates = np.linalg.norm(_rows(step), axis=1), _losses(step) / _losses(0)
        target = np.mean(w * norms) * (rates / rates.mean()) ** alpha
        w = adam.step(w, np.sign(w * norms - target) * norms)
        w = K * w / w.sum()


def _gradvac(beta: float) -> Iterator[np.ndarray]:
    """Of the first two losses only, so that the order plays no part."""
    targets = np.zeros((2, 2))
    for step in range(STEPS):
        rows = _rows(step)[:2]
        weights = np.eye(2)
        for i, j in ((0, 1), (1, 0)):
            cosine = rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j])
            if cosine < targets[i, j]:
                up = targets[i, j] * np.sqrt(1 - cosine**2) - cosine * np.sqrt(1 - targets[i, j] ** 2)
                weights[i, j] = np.linalg.norm(rows[i]) * up / np.linalg.norm(rows[j]) / np.sqrt(1 - targets[i, j] ** 2)
                turned = rows[i] + weights[i, j] * rows[j]  # the paper's equation: the cosine is the target now
                now = turned @ rows[j] / np.linalg.norm(turned) / np.linalg.norm(rows[j])
                assert now == pytest.approx(targets[i, j])
            targets[i, j] = (1 - beta) * targets[i, j] + beta * cosine
        yield weights


def _sdmgrad(lambda_: float, learning_rate: float, momentum: float, iterations: int) -> Iterator[np.ndarray]:
    w, mean = np.full(K, 1 / K), np.full(K, 1 / K)
    for step in range(STEPS):
        cross = _rows(step) @ _second_rows(step).T
        cross = cross / np.mean(np.sqrt(np.maximum(np.diag(cross), 0))) ** 2
        velocity = 0.0
        for _ in range(iterations):
            velocity = momentum * velocity + cross @ (w + lambda_ * mean)
            w = _project(w - learning_rate * velocity)
        yield (w + lambda_ * mean) / (1 + lambda_)


def _modo(gamma: float, rho: float) -> Iterator[np.ndarray]:
    w = np.full(K, 1 / K)
    for step in range(STEPS):
        w = _project(w - gamma * (_rows(step) @ _second_rows(step).T + rho * np.eye(K)) @ w)
        yield w


def _moco(beta: float, gamma: float, rho: float) -> Iterator[np.ndarray]:
    """The weights; the averages, whose Gramian the test gives, are the step's affair."""
    del beta
    w = np.full(K, 1 / K)
    for step in range(STEPS):
        w = _project(w - gamma * (_rows(step) @ _rows(step).T + rho * np.eye(K)) @ w)
        yield w


def _db_mtl(beta: float) -> Iterator[np.ndarray]:
    del beta
    for step in range(STEPS):
        norms = np.linalg.norm(_rows(step), axis=1)
        yield norms.max() / norms


IN_NUMPY = {
    "uncertainty": (_uncertainty, {"learning_rate": 0.1}),
    "dwa": (_dwa, {"temperature": 1.5}),
    "geometric": (_geometric, {}),
    "log_sum": (_log_sum, {}),
    "smooth_tchebycheff": (_smooth_tchebycheff, {"mu": 0.5, "warmup_steps": 4, "preference": [0.5, 0.2, 0.3]}),
    "famo": (_famo, {"learning_rate": 0.1, "decay": 0.01, "lower_bounds": -0.5}),
    "gradnorm": (_gradnorm, {"alpha": 1.2, "learning_rate": 0.1}),
    "sdmgrad": (_sdmgrad, {"lambda_": 0.5, "learning_rate": 0.3, "momentum": 0.5, "iterations": 7}),
    "modo": (_modo, {"gamma": 0.02, "rho": 0.1}),
    "moco": (_moco, {"beta": 0.5, "gamma": 0.02, "rho": 0.1}),
    "db_mtl": (_db_mtl, {"beta": 0.9}),
}


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
    for step, expected in enumerate(_gradvac(0.3)):
        answer = combination.solve(_problem(step, active=two), state)
        state = answer.state
        np.testing.assert_allclose(answer.weights[:2, :2], expected, rtol=1e-9, err_msg=f"step {step}")


def test_random_weights_are_a_softmax_of_normal_numbers():
    combination = combination_lib.build("random", {}, K)
    logits = []
    for step in range(300):
        weights = combination.solve(_problem(step), {}).weights.numpy()
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
        problem = _problem(step, active=active, cross=cross)
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
        weights = mixing.joint_weights(answer.weights).numpy()
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
            state = combination.solve(_problem(step, active=active, cross=name != "gradnorm"), state).state
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
        found = plain.solve(_problem(step), {}).weights.numpy()
        expected = found if expected is None else 0.75 * expected + 0.25 * found
        answer = smooth.solve(_problem(step), state)
        state = answer.state
        np.testing.assert_allclose(answer.weights, expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["mgda", "pcgrad", "cagrad"])
def test_log_losses(name):
    """The weights are those that the method finds for the gradients of log Lₖ, gₖ / Lₖ."""
    plain, logarithmic = (combination_lib.build(name, _defaults(name), K, log_losses=on) for on in (False, True))
    problem = _problem(1)
    rows = _rows(1) / _losses(1)[:, np.newaxis]
    expected = plain.solve(problem._replace(gramian=tf.constant(rows @ rows.T)), {}).weights
    np.testing.assert_allclose(logarithmic.solve(problem, {}).weights, expected, rtol=1e-9)
    np.testing.assert_allclose(logarithmic.scales(problem.weights, problem.losses), 1 / _losses(1), rtol=1e-12)
