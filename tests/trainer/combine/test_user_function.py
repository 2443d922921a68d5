"""Functions of the user's own as methods, on plain matrices: what they are given, and mistakes in one line."""

import numpy as np
import pytest
import tensorflow as tf

from configs.own_methods import equal_lengths, steady
from trainer.combine import aggregate
from trainer.combine import combination as combination_lib
from trainer.combine.entry import LooksAt
from trainer.combine.registry import resolve
from trainer.common.errors import ConfigError

ROWS = np.random.RandomState(0).normal(size=(3, 5))
LOSSES = np.array([0.5, 2.0, 4.0])


def with_initial(initial, function=lambda losses, state: (losses, state)):
    def method(losses, state):
        return function(losses, state)

    method.initial = initial
    return method


def test_the_parts_of_a_problem():
    given = {}

    def looks_at_all(losses, gramian, state, active, loss_weights, seed, step, epoch, *, option=1):
        given.update(locals())
        return [2, 3.0, 100.0], state | {"count": state["count"] + 1}

    looks_at_all.initial = lambda count: {"count": 4, "each": np.arange(count)}
    combined = aggregate(looks_at_all, ROWS, LOSSES, [True, True, False], seed=3, step=7, weights=[1, 2, 3], option=5)
    np.testing.assert_allclose(combined, 2 * ROWS[0] + 3 * ROWS[1], atol=1e-12)
    rows = ROWS * [[1.0], [1.0], [0.0]]
    np.testing.assert_allclose(given["gramian"], rows @ rows.T, atol=1e-12)
    found = {name: given[name].numpy().tolist() for name in ("losses", "active", "loss_weights", "step", "epoch")}
    assert found == {
        "losses": [0.5, 2.0, 0.0],
        "active": [True, True, False],
        "loss_weights": [1.0, 2.0, 3.0],
        "step": 7,
        "epoch": 0,
    }
    np.testing.assert_array_equal(given["seed"], combination_lib.step_seed(3, 7))
    assert {name: (value.dtype, value.numpy().tolist()) for name, value in given["state"].items()} == {
        "count": (tf.float64, 4),
        "each": (tf.int64, [0, 1, 2]),
    }
    assert given["option"] == 5


def test_the_examples_of_the_page():
    lengths = np.linalg.norm(ROWS, axis=1, keepdims=True)
    np.testing.assert_allclose(aggregate(equal_lengths, ROWS), (ROWS / lengths).sum(axis=0), atol=1e-12)
    two = aggregate("configs.own_methods:equal_lengths", ROWS, active=[True, False, True], power=0.5)
    np.testing.assert_allclose(two, (ROWS / lengths**0.5)[[0, 2]].sum(axis=0), atol=1e-12)
    method, options = resolve(steady, {"memory": 0.5})
    combination = combination_lib.Combination(method, options, 3)
    state, average = combination.initial_state(), None
    for step in range(3):
        losses = LOSSES + step
        average = losses if average is None else 0.5 * average + 0.5 * losses
        problem = _problem(losses)
        coefficients, state, _ = combination.solve(problem, state)
        np.testing.assert_allclose(coefficients, 1 / average, rtol=1e-12)
    absent = _problem(np.zeros(3))._replace(active=tf.constant([False, True, True]))
    _, after, _ = combination.solve(absent, state)
    np.testing.assert_allclose(after["average"], average * [1.0, 0.5, 0.5], rtol=1e-12)


def _problem(losses):
    return combination_lib.Problem(
        active=tf.ones([3], tf.bool),
        loss_weights=tf.ones([3], tf.float64),
        losses=tf.constant(losses),
        gramian=None,
        seed=tf.zeros([2], tf.int32),
        step=tf.constant(0, tf.int64),
        epoch=tf.constant(0, tf.int64),
    )


def test_a_random_start_is_the_same_whenever_it_is_asked_for():
    function = with_initial(lambda count: {"start": np.random.normal(size=count)})
    combination = combination_lib.Combination(resolve(function, {})[0], {}, 3)
    first, second = (combination.initial_state()["start"].numpy() for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("function", "looks_at", "changes"),
    [
        (lambda loss_weights: loss_weights, LooksAt.NOTHING, False),
        (lambda step, active: active, LooksAt.NOTHING, True),
        (lambda losses, step: losses, LooksAt.LOSSES, True),
        (lambda gramian, losses: losses, LooksAt.GRAMIAN, True),
        (lambda gradients, active: gradients[0], LooksAt.ELEMENTS, False),
    ],
)
def test_parameters_say_what_is_looked_at(function, looks_at, changes):
    method, _ = resolve(function, {})
    assert method.looks_at is looks_at
    assert method.finds_coefficients == changes


class WithCall:
    """An object that is called."""

    def __call__(self, losses):
        return losses


class TestMistakes:
    @pytest.mark.parametrize(
        ("function", "words"),
        [
            (
                lambda other: 0,
                "its parameter 'other' is neither an option, with a default, nor one of losses, gramian,",
            ),
            (lambda losses, *more: 0, "its parameter '*more' is neither an option"),
            (lambda losses, **more: 0, "its parameter '**more' is neither an option"),
            (lambda gradients, gramian: 0, "combines `gradients` block by block, and cannot have gramian besides"),
            (lambda state: 0, "must have an attribute `initial`, a function of K: `initial` gives the `state` at the"),
            (dict, "must be a function, not a class"),
            (
                lambda *, power=2: 0,
                "has none of the parameters losses, gramian, gradients, state, active, loss_weights,",
            ),
            (max, "has no signature that says what it looks at"),
            ("os:nothing", "module os has no 'nothing'"),
            ("nowhere:nothing", "cannot import 'nowhere': ModuleNotFoundError"),
            ("pcgrd", "unknown combination; did you mean 'pcgrad'?"),
            (3, "unknown combination; allowed: "),
        ],
    )
    def test_of_functions(self, function, words):
        self._assert_one_line(function, "name", words)

    @pytest.mark.parametrize(
        ("function", "words"),
        [
            (lambda losses: 1 / 0, "raised ZeroDivisionError: division by zero (/"),
            (
                lambda losses: losses[:2],
                "must return a coefficient for each of the 3 losses, of shape (3,), not float64 ",
            ),
            (lambda losses: None, "must return a coefficient for each of the 3 losses, not a NoneType"),
            (lambda losses: losses > 0, "must return a coefficient for each of the 3 losses, not bool of shape (3,)"),
            (
                lambda gradients: gradients,
                "must return the combined gradient of a block, of shape (5,), not float64 of",
            ),
            (with_initial(lambda count: 3), "its `initial` must return a dictionary from names to numbers, not a int"),
            (
                with_initial(lambda count: {}),
                "its `initial` must return a dictionary from names to numbers, not a dict",
            ),
            (with_initial(lambda count: 1 / 0), "raised ZeroDivisionError"),
            (
                with_initial(lambda count: {"a": "b"}),
                "must give as `initial` 'a' a number, 3 or 3 x 3 of them, not string",
            ),
            (
                with_initial(lambda count: {"a": [1, 2]}),
                "must give as `initial` 'a' a number, 3 or 3 x 3 of them, not f",
            ),
            (with_initial(lambda count: {"a/b": 1}), "its `initial` must have names of letters, digits and '_', other"),
            (
                with_initial(lambda count: {"smoothed": 1}),
                "its `initial` must have names of letters, digits and '_', ot",
            ),
            (
                with_initial(lambda count: {"a": 1}, lambda losses, state: losses),
                "must return (coefficients, new state),",
            ),
            (
                with_initial(lambda count: {"a": 1}, lambda losses, state: (losses, {})),
                "must return a new state of a, not of nothing",
            ),
            (
                with_initial(lambda count: {"a": 1}, lambda losses, state: (losses, {"a": losses})),
                "must return as state 'a' numbers, of shape (), not float64 of shape (3,)",
            ),
        ],
    )
    def test_of_what_they_return(self, function, words):
        self._assert_one_line(function, "name", words)

    def test_of_options(self):
        self._assert_one_line(
            equal_lengths, "options.powr", "unknown option; did you mean 'power'? allowed: power", powr=2
        )
        self._assert_one_line(WithCall(), "options.power", "unknown option; allowed: none", power=2)

    @staticmethod
    def _assert_one_line(function, field, words, **options):
        with pytest.raises(ConfigError) as caught:
            aggregate(function, ROWS, LOSSES, **options)
        assert caught.value.field == field
        assert caught.value.allowed.startswith(words)
        assert str(caught.value).isprintable()
