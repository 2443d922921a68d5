"""Methods with state in NumPy, from their formulas: the weights of one step after another."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import tensorflow as tf

from trainer.combine import combination as combination_lib
from trainer.combine.problem import Problem

K, STEPS, EPOCH = 3, 9, 2  # an epoch is two steps


def rows_of(step: int) -> np.ndarray:
    return np.random.RandomState(step).normal(size=(K, 5)) * [[1.0], [2.0], [0.5]]


def second_rows_of(step: int) -> np.ndarray:
    return rows_of(step) + 0.4 * np.random.RandomState(1000 + step).normal(size=(K, 5))


def losses_of(step: int) -> np.ndarray:
    return np.random.RandomState(100 + step).uniform(0.3, 3.0, K) * [1.0, 5.0, 0.2]


def problem_of(step: int, *, active: np.ndarray | None = None, cross: bool = False) -> Problem:
    active = np.ones(K, bool) if active is None else active
    rows, second = rows_of(step), second_rows_of(step) if cross else rows_of(step)
    return Problem(
        active=tf.constant(active),
        loss_weights=tf.ones([K], tf.float64),
        losses=tf.constant(np.where(active, losses_of(step), 0.0)),
        gramian=tf.constant(np.where(active & active[:, np.newaxis], rows @ second.T, 0.0)),
        seed=combination_lib.step_seed(0, step),
        step=tf.constant(step, tf.int64),
        epoch=tf.constant(step // EPOCH, tf.int64),
    )


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
        s = adam.step(s, -np.exp(-s) * losses_of(step) + 1)


def _dwa(temperature: float) -> Iterator[np.ndarray]:
    for step in range(STEPS):
        epoch = step // EPOCH
        last, before = (
            np.mean([losses_of(i) for i in range(e * EPOCH, (e + 1) * EPOCH)], axis=0) if e >= 0 else np.ones(K)
            for e in (epoch - 1, epoch - 2)
        )
        yield K * _softmax((last / before if epoch >= 2 else np.ones(K)) / temperature)


def _geometric() -> Iterator[np.ndarray]:
    for step in range(STEPS):
        yield _gradient(lambda losses: np.prod(losses) ** (1 / K), losses_of(step))


def _log_sum() -> Iterator[np.ndarray]:
    for step in range(STEPS):
        yield _gradient(lambda losses: np.sum(np.log(losses)), losses_of(step))


def _smooth_tchebycheff(mu: float, warmup_steps: int, preference: list[float]) -> Iterator[np.ndarray]:
    bounds, p = np.mean([losses_of(step) for step in range(warmup_steps)], axis=0), np.array(preference)
    for step in range(STEPS):
        warm = step < warmup_steps
        objective = (
            (lambda losses: np.sum(np.log(losses)))
            if warm
            else (lambda losses: mu * np.log(np.sum(np.exp(p * (np.log(losses) - np.log(bounds)) / mu))))
        )
        yield _gradient(objective, losses_of(step))


def _gradient(function: Callable[[np.ndarray], float], at: np.ndarray) -> np.ndarray:
    """The gradient by central differences."""
    steps = 1e-5 * np.diag(at)
    return np.array([(function(at + h) - function(at - h)) / (2 * h.sum()) for h in steps])


def _famo(learning_rate: float, decay: float, lower_bounds: float) -> Iterator[np.ndarray]:
    logits, adam = np.zeros(K), _Adam(learning_rate, decay)
    for step in range(STEPS):
        losses, after = losses_of(step) - lower_bounds, losses_of(step) - 0.1 * losses_of(step + 1) - lower_bounds
        z = _softmax(logits)
        yield z / losses / np.sum(z / losses)
        jacobian = np.diag(z) - np.outer(z, z)
        logits = adam.step(logits, jacobian @ (np.log(losses) - np.log(after)))


def _gradnorm(alpha: float, learning_rate: float) -> Iterator[np.ndarray]:
    w, adam = np.ones(K), _Adam(learning_rate)
    for step in range(STEPS):
        yield w
        norms, rates = np.linalg.norm(rows_of(step), axis=1), losses_of(step) / losses_of(0)
        target = np.mean(w * norms) * (rates / rates.mean()) ** alpha
        w = adam.step(w, np.sign(w * norms - target) * norms)
        w = K * w / w.sum()


def gradvac(beta: float) -> Iterator[np.ndarray]:
    """Weights for the first two losses only, so that the order plays no part."""
    targets = np.zeros((2, 2))
    for step in range(STEPS):
        rows = rows_of(step)[:2]
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
        cross = rows_of(step) @ second_rows_of(step).T
        cross = cross / np.mean(np.sqrt(np.maximum(np.diag(cross), 0))) ** 2
        velocity = 0.0
        for _ in range(iterations):
            velocity = momentum * velocity + cross @ (w + lambda_ * mean)
            w = _project(w - learning_rate * velocity)
        yield (w + lambda_ * mean) / (1 + lambda_)


def _modo(gamma: float, rho: float) -> Iterator[np.ndarray]:
    w = np.full(K, 1 / K)
    for step in range(STEPS):
        w = _project(w - gamma * (rows_of(step) @ second_rows_of(step).T + rho * np.eye(K)) @ w)
        yield w


def _moco(beta: float, gamma: float, rho: float) -> Iterator[np.ndarray]:
    """The weights; the averages, whose Gramian the test gives, are the step's affair."""
    del beta
    w = np.full(K, 1 / K)
    for step in range(STEPS):
        w = _project(w - gamma * (rows_of(step) @ rows_of(step).T + rho * np.eye(K)) @ w)
        yield w


def _db_mtl(beta: float) -> Iterator[np.ndarray]:
    del beta
    for step in range(STEPS):
        norms = np.linalg.norm(rows_of(step), axis=1)
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
