"""The toy problem's committed results: a short run ends where they say, and the long runs where the papers say."""

import numpy as np
import pytest
import tensorflow as tf

import configs.toy_problem
from configs.toy_problem import STARTS
from tests import problems
from tests.benchmarks import toy_problem_runs
from tests.benchmarks.toy_problem_runs import FULL, LEFT_OUT, METHODS, SHORT, Run
from trainer.combine import registry
from trainer.common.errors import ConfigError
from trainer.config import loading
from trainer.run import experiment

# One of each kind: constants, a Gramian's convex problem, projections, state and the losses after the update.
QUICK = ("pcgrad", "famo")
FROM_EVERY_START = ("mgda", "pcgrad", "cagrad", "imtl_g", "nash_mtl", "fair_grad", "famo")


def _run(combine):
    return Run(combine, problems.strategy(1))


@pytest.mark.parametrize(
    ("combine", "starts"),
    [
        *((name, slice(0, 1)) for name in QUICK),
        *(
            pytest.param(name, slice(name in QUICK, None), marks=pytest.mark.ci_only)  # the others
            for name in METHODS
        ),
    ],
)
def test_a_short_run_ends_where_the_committed_one_did(combine, starts):
    run, expected = _run(combine), toy_problem_runs.committed()[str(SHORT)][combine]["final"]
    for start, end in list(zip(STARTS, expected, strict=True))[starts]:
        assert run.path(start, SHORT)[-1] == pytest.approx(end, abs=1e-6), start


def _unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _dot(a, b):
    return np.sum(a * b, axis=-1, keepdims=True)


def _pcgrad(a, b):
    conflict = np.minimum(_dot(a, b), 0)
    return a + b - conflict * (a / _dot(a, a) + b / _dot(b, b))


def _mgda(a, b):
    share = np.clip(_dot(b - a, b) / _dot(b - a, b - a), 0, 1)
    return share * a + (1 - share) * b


# What the papers' formulas come to for two gradients; Nash-MTL's is cut to length 1.
TWO_GRADIENTS = {
    "sum": lambda a, b: a + b,
    "mgda": _mgda,
    "pcgrad": _pcgrad,
    "nash_mtl": lambda a, b: _unit(_unit(a) + _unit(b)),
}


def test_committed_short_runs_are_those_of_the_formulas():
    """Without the trainer: gradients, these formulas and Adam, all starts at once."""

    @tf.function
    def gradients(x):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            losses = configs.toy_problem.losses(x[..., 0], x[..., 1])
        return tape.gradient(losses["first"], x), tape.gradient(losses["second"], x)

    x = np.array([STARTS] * len(TWO_GRADIENTS))
    mean, square = np.zeros_like(x), np.zeros_like(x)
    for step in range(1, SHORT + 1):
        rows = zip(TWO_GRADIENTS.values(), *(each.numpy() for each in gradients(tf.constant(x))), strict=True)
        gradient = np.stack([combined(a, b) for combined, a, b in rows])
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        first, second = (1 - float(np.float32(beta)) ** step for beta in (0.9, 0.999))  # rounded so by Keras
        x -= 1e-3 * np.sqrt(second) / first * mean / (np.sqrt(square) + 1e-7)
    for name, ends in zip(TWO_GRADIENTS, x, strict=True):
        assert ends == pytest.approx(np.array(toy_problem_runs.committed()[str(SHORT)][name]["final"]), abs=1e-6), name


def test_long_runs_reach_the_pareto_set_from_the_starts_that_the_papers_say():
    reached = {name: result["reached"] for name, result in toy_problem_runs.committed()[str(FULL)].items()}
    assert reached["sum"] == reached["mean"] == [False, True, False]
    assert {name: reached[name] for name in FROM_EVERY_START} == dict.fromkeys(FROM_EVERY_START, [True] * 3)


@pytest.mark.parametrize("steps", [SHORT, FULL])
def test_committed_results_are_whole(steps):
    results = toy_problem_runs.committed()[str(steps)]
    assert [name for name in METHODS if name in results] == list(results)
    for result in results.values():
        assert np.shape(result["final"]) == (len(STARTS), 2)
        assert [toy_problem_runs.reaches(point) for point in result["final"]] == result["reached"]
    if steps == SHORT:
        assert list(results) == list(METHODS)
        return
    paths = toy_problem_runs.committed_paths()
    assert list(paths) == list(results)
    for name, of_starts in paths.items():
        assert [path[0] for path in of_starts] == [list(start) for start in STARTS]
        assert np.array([path[-1] for path in of_starts]) == pytest.approx(np.array(results[name]["final"]), abs=1e-3)


def test_a_second_path_is_that_of_the_configuration_with_this_start():
    """Whatever the first one left behind: variables, the optimizer's moments, moving averages, other state."""
    combine = "moco"
    run = _run(combine)
    run.path(STARTS[0], 30)
    start = [("model.options.start", str(STARTS[2]))]
    config = loading.load(configs.toy_problem.__file__, start, combine)
    result = problems.train(experiment.build(config, problems.strategy(1)), 30, calls=1)
    assert run.path(STARTS[2], 30, points=3)[-1] == pytest.approx(result.variables["point/x"], abs=1e-13)


def test_on_the_pareto_set_the_gradients_are_opposite():
    points = toy_problem_runs.pareto_set()
    assert points[[0, -1], 0].tolist() == [-7.0, 7.0]
    assert points[len(points) // 2] == pytest.approx([0.0, -8.3552], abs=1e-4)  # the authors' own pictures say so
    x1, x2 = (tf.constant(column) for column in points[1:-1].T)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch((x1, x2))
        losses = configs.toy_problem.losses(x1, x2)
    first, second = (np.stack(tape.gradient(losses[name], (x1, x2)), axis=1) for name in ("first", "second"))
    cosines = np.sum(first * second, axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    assert cosines == pytest.approx(-1.0, abs=1e-9)
    assert min(float(tf.reduce_min(loss)) for loss in losses.values()) > -20.0


def test_what_is_left_out_cannot_run():
    with pytest.raises(ConfigError, match="takes at least 3 losses"):
        _run("trimmed_mean")
    with pytest.raises(FloatingPointError, match="step 0"):
        _run("log_sum").path(STARTS[1], 1)
    assert {*LEFT_OUT, *METHODS} == set(registry.METHODS)
