"""The K x K solvers: optimality conditions in NumPy, masks, hard scales, and when there is no solution."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from trainer.combine.methods import bargaining, cagrad, dual_cone, mgda
from trainer.combine.problem import Answer, Problem
from trainer.combine.solvers import nonnegative

COUNTS, BETWEEN = (2, 5, 20, 40), (20,)  # numbers of losses, and those that only CI tries
KINDS = ("random", "conflicting", "common", "deficient", "scaled", "cancelling")
LOSSES = np.linspace(0.5, 2.0, 40)
SOLVERS = {
    "mgda": mgda.weigh,
    "mgda loss+": functools.partial(mgda.weigh, normalize="loss+"),
    "cagrad": cagrad.weigh,
    "dual_proj": dual_cone.dual_proj,
    "upgrad": dual_cone.upgrad,
    "nash_mtl": bargaining.nash_mtl,
    "nash_mtl 0": functools.partial(bargaining.nash_mtl, max_norm=0.0),
    "fair_grad": bargaining.fair_grad,
    "fair_grad 0.5": functools.partial(bargaining.fair_grad, alpha=0.5),
    "fair_grad 5": functools.partial(bargaining.fair_grad, alpha=5.0),
}
# The combined gradient of c J is c to this power times that of J.
POWERS = {"nash_mtl": 0.0, "nash_mtl 0": 0.0, "fair_grad": -1 / 3, "fair_grad 0.5": 1 / 3, "fair_grad 5": -2 / 3}
HAND = np.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])


def jacobian(kind: str, count: int) -> np.ndarray:
    rng = np.random.default_rng([count, *kind.encode()])
    rows = rng.normal(size=(count, 300))
    if kind == "conflicting":
        return rows - 0.9 * rows.mean(0)
    if kind == "common":
        return rows + rng.normal(size=(count, 1)) * rng.normal(size=300) * 2
    if kind == "deficient":  # dependent rows that have directions against none of them
        return np.abs(rng.normal(size=(count, 1 + count // 2))) @ rows[: 1 + count // 2]
    if kind == "scaled":
        return rows * 10.0 ** rng.uniform(-2, 2, (count, 1))
    if kind == "cancelling":  # some positive combination of the rows is 0
        rows[-1] = -np.abs(rng.normal(size=count - 1)) @ rows[:-1]
    return rows


def answer(
    name: str, gramian: np.ndarray, active: np.ndarray | None = None, losses: np.ndarray = LOSSES
) -> tuple[tf.Tensor, tf.Tensor]:
    count = gramian.shape[0]
    problem = Problem(
        active=tf.constant([True] * count if active is None else active),
        loss_weights=tf.ones(count, tf.float64),
        losses=tf.constant(losses[:count]),
        gramian=tf.convert_to_tensor(gramian),
        seed=tf.constant([0, 0]),
        step=tf.constant(0, tf.int64),
        epoch=tf.constant(0, tf.int64),
    )
    found = SOLVERS[name](problem)
    return (found.coefficients, found.fell_back) if isinstance(found, Answer) else (found, tf.constant(False))


def run(name: str, rows: np.ndarray, active: np.ndarray | None = None, **given) -> tuple[np.ndarray, bool]:
    weights, fell_back = answer(name, rows @ rows.T, active, **given)
    assert np.all(np.isfinite(weights))
    return weights.numpy(), bool(fell_back)


def combined(name: str, rows: np.ndarray) -> np.ndarray:
    weights, _ = run(name, rows)
    return (weights.sum(0) if weights.ndim == 2 else weights) @ rows


def norm(rows: np.ndarray) -> np.ndarray:
    return np.linalg.norm(rows, axis=-1)


cases = pytest.mark.parametrize(
    ("kind", "count"),
    [
        pytest.param(kind, count, marks=[pytest.mark.ci_only] if count in BETWEEN else [])
        for kind in KINDS
        for count in COUNTS
    ],
)
everyone = pytest.mark.parametrize("name", SOLVERS)


@cases
@pytest.mark.parametrize("name", ["mgda", "mgda loss+"])
def test_shortest_combination(name, kind, count):
    rows = jacobian(kind, count)
    weights, _ = run(name, rows)
    assert weights.min() >= 0.0
    np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-12)
    if name == "mgda loss+":
        rows /= (LOSSES[:count] * norm(rows))[:, np.newaxis]
    products = rows @ (weights @ rows)
    shortest, scale = weights @ products, norm(rows).min() ** 2
    assert products.min() >= shortest - 1e-9 * scale
    assert (shortest < 1e-9 * scale) == (kind == "cancelling")


def _check_projection(rows: np.ndarray, coefficients: np.ndarray, target: np.ndarray) -> None:
    """Unit rows u: p = target + Σ x u with x >= 0, p u >= 0, and one of both 0."""
    projected, scale = target + coefficients @ rows, norm(target)
    assert coefficients.min() >= -1e-12 * scale
    assert (rows @ projected).min() >= -1e-9 * scale
    assert np.abs(coefficients * (rows @ projected)).max() <= 1e-9 * scale * max(scale, coefficients.max())


@cases
def test_dual_cone(kind, count):
    rows = jacobian(kind, count)
    lengths = norm(rows)
    unit = rows / lengths[:, np.newaxis]
    _check_projection(unit, (run("dual_proj", rows)[0] - 1 / count) * lengths, rows.mean(0))
    mixing, _ = run("upgrad", rows)
    for i in range(count):
        _check_projection(unit, (mixing[i] - np.eye(count)[i] / count) * lengths, rows[i] / count)


@cases
def test_best_worst_product_within_a_ball(kind, count):
    rows = jacobian(kind, count)
    weights, _ = run("cagrad", rows)
    mean, added = rows.mean(0), weights - 1 / count
    if not added.any():  # a combination vanishes, and a direction within the ball is against no row
        assert kind == "cancelling"
        assert norm(combined("dual_proj", rows) - mean) <= 0.4 * norm(mean)
        return
    assert added.min() >= -1e-12 * added.max()
    direction, radius, mixed = weights @ rows, 0.4 * norm(mean), added @ rows / added.sum()
    np.testing.assert_allclose(norm(direction - mean), radius, rtol=1e-9)
    # No smallest product is above the objective that w minimises, so where both agree, both are optimal.
    objective = mixed @ mean + radius * norm(mixed)
    np.testing.assert_allclose((rows @ direction).min(), objective, atol=1e-9 * radius * norm(mixed))


@cases
@pytest.mark.parametrize(
    ("name", "alpha"),
    [("nash_mtl 0", 1.0), ("fair_grad", 2.0), ("fair_grad 0.5", 0.5), ("fair_grad 5", 5.0)],
)
def test_bargaining(name, alpha, kind, count):
    rows = jacobian(kind, count)
    weights, fell_back = run(name, rows)
    assert fell_back == (kind == "cancelling")
    if fell_back:
        np.testing.assert_allclose(weights, 1 / (count * norm(rows)), rtol=1e-12)
    else:
        assert weights.min() > 0.0
        np.testing.assert_allclose(rows @ (weights @ rows), weights ** (-1 / alpha), rtol=1e-8)


@everyone
@pytest.mark.parametrize("kind", ["random", "conflicting", "scaled", "cancelling"])
def test_inactive_losses_are_left_out(name, kind):
    rows = jacobian(kind, 5)
    active = np.array([False, True, True, False, True])
    weights, fell_back = run(name, rows, active)
    expected, expected_fell_back = run(name, rows[active], losses=LOSSES[:5][active])
    assert fell_back == expected_fell_back
    kept = weights[np.ix_(*[active] * weights.ndim)]
    np.testing.assert_allclose(kept, expected, rtol=1e-11, atol=1e-13 * np.abs(expected).max())
    np.testing.assert_array_equal(weights[..., ~active], 0.0)


@everyone
def test_in_a_graph(name):
    compiled = tf.function(lambda gramian: answer(name, gramian), autograph=False)
    for kind in ("random", "cancelling"):
        rows = jacobian(kind, 5)
        expected, expected_fell_back = run(name, rows)
        weights, fell_back = compiled(tf.constant(rows @ rows.T))
        assert fell_back == expected_fell_back
        np.testing.assert_allclose(weights, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


@everyone
@pytest.mark.parametrize("active", [[False, False, False], [False, True, False]])
def test_one_loss_or_none(name, active):
    rows = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    weights, fell_back = run(name, rows, np.array(active))
    assert not fell_back
    np.testing.assert_array_equal(weights[..., ~np.array(active)], 0.0)
    result = (weights.sum(0) if weights.ndim == 2 else weights) @ rows
    assert (norm(result) > 0.0) == active[1]


@everyone
@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("kind", ["random", "conflicting", "scaled"])
def test_scale(name, scale, kind):
    rows = jacobian(kind, 5)
    expected = combined(name, rows) * scale ** POWERS.get(name, 1.0)
    assert norm(combined(name, scale * rows) - expected) <= 1e-9 * norm(expected)


@everyone
def test_hard_rows_are_finite(name):
    rng = np.random.default_rng(7)
    wild = rng.normal(size=(6, 30)) * np.array([1e-15, 1e15, 1.0, 1e-7, 1e8, 1e-15])[:, np.newaxis]
    opposite = wild.copy()
    opposite[1] = -3.0 * opposite[0]
    for rows in (
        wild,
        opposite,
        np.zeros((6, 30)),
        np.ones((6, 30)),
        np.vstack([np.ones((3, 30)), -np.ones((3, 30))]),
        np.vstack([np.zeros((1, 30)), wild[1:]]),
        rng.normal(size=(6, 2)),
        rng.normal(size=(6, 1)),
        1e-12 * wild,
        1e12 * wild,
    ):
        run(name, rows)


@everyone
def test_what_is_not_finite_raises_nothing(name):
    for value in (np.nan, np.inf):
        run(name, np.array([[1.0, 2.0], [value, 1.0], [-1.0, 1.0]]))
        run(name, HAND, losses=np.array([value, 1.0]))


def test_zero_rows():
    rows = np.vstack([np.zeros(300), jacobian("conflicting", 4)])
    np.testing.assert_array_equal(combined("mgda", rows), 0.0)
    np.testing.assert_array_equal(run("mgda", rows)[0], [1.0, 0.0, 0.0, 0.0, 0.0])
    # It constrains nothing, and adds nothing.
    for name in ("dual_proj", "upgrad"):
        np.testing.assert_allclose(combined(name, rows), combined(name, rows[1:]) * 4 / 5, rtol=1e-9)
    for name in ("nash_mtl", "fair_grad"):
        weights, fell_back = run(name, rows)
        assert fell_back
        np.testing.assert_allclose(weights[1:], 1 / (5 * norm(rows[1:])))


def test_no_solution_only_where_rows_cancel():
    for angle, expected in ((1e-2, False), (1e-4, False), (1e-8, True), (0.0, True)):
        rows = np.array([[1.0, 0.0], [-np.cos(angle), np.sin(angle)]])
        for name in ("nash_mtl", "fair_grad"):
            assert run(name, rows)[1] == expected
    for name in ("nash_mtl", "fair_grad"):
        assert not run(name, np.ones((4, 3)))[1]
        assert run(name, np.array([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]]))[1]


def test_by_hand():
    for name, expected in {
        "upgrad": [0.2924, 1.9006, 1.9006],
        "dual_proj": [0.5556, 1.1111, 1.1111],
        "mgda": [0.0, 1.0, 1.0],
        "cagrad": [0.3468, 1.1633, 1.1633],
        "nash_mtl 0": [0.0766, 0.9985, 0.9985],
        "fair_grad": [0.0313, 0.7908, 0.7908],
    }.items():
        np.testing.assert_allclose(combined(name, HAND), expected, atol=6e-5)
    np.testing.assert_allclose(norm(combined("nash_mtl", HAND)), 1.0)


def test_preferences(monkeypatch):
    share = (0.5, 0.25, 0.0, 0.25)
    rows = jacobian("random", 4) + 1.0
    for name, method in (("dual_proj", dual_cone.dual_proj), ("upgrad", dual_cone.upgrad)):
        monkeypatch.setitem(SOLVERS, name, functools.partial(method, preference=share))
        np.testing.assert_allclose(combined(name, rows), share @ rows, rtol=1e-6)  # no conflicts
        weights, _ = run(name, rows, np.array([False, True, True, True]))
        np.testing.assert_allclose(weights.sum(0) if weights.ndim == 2 else weights, [0, 0.5, 0, 0.5], atol=1e-12)
    wanted = np.array([1.0, 2.0, 3.0, 4.0])
    monkeypatch.setitem(SOLVERS, "fair_grad", functools.partial(bargaining.fair_grad, preference=tuple(wanted)))
    weights, _ = run("fair_grad", rows)
    np.testing.assert_allclose(rows @ (weights @ rows), (weights / wanted) ** -0.5, rtol=1e-8)


def test_interior_point_agrees_with_pivoting(monkeypatch):
    rows = jacobian("common", 20)
    expected = combined("upgrad", rows)
    monkeypatch.setattr(nonnegative, "_MOST_EXCHANGES", 1)
    np.testing.assert_allclose(combined("upgrad", rows), expected, atol=1e-9 * norm(expected))


@pytest.mark.parametrize("mass", [1.0, 4.0])
def test_projection_onto_simplex(mass):
    rng = np.random.default_rng(3)
    for active in ([True] * 7, [True, False, True, True, False, True, True], [False] * 6 + [True]):
        values = rng.normal(size=7) * 2
        found = nonnegative.project_onto_simplex(tf.constant(values), tf.constant(active), mass).numpy()
        active = np.array(active)
        np.testing.assert_array_equal(found[~active], 0.0)
        np.testing.assert_allclose(found.sum(), mass)
        shift = (values - found)[found > 0]  # one number where positive, and no less elsewhere
        np.testing.assert_allclose(shift, shift[0])
        assert np.all(values[active & (found == 0)] <= shift[0])
