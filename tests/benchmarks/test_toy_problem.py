"""The toy problem's committed results: a short run ends where they say, and the long runs where the papers say."""

import json

import numpy as np
import pytest
import tensorflow as tf

import configs.toy_problem
from configs.toy_problem import STARTS
from tests import problems
from tests.benchmarks import toy_problem
from tests.benchmarks.toy_problem import FULL, LEFT_OUT, METHODS, SHORT
from trainer import configuration, experiment
from trainer.errors import ConfigError

# One of each kind: constants, a Gramian's convex problem, projections, state and the losses after the update.
QUICK = ("sum", "mgda", "pcgrad", "cagrad", "famo")
FROM_EVERY_START = ("mgda", "pcgrad", "cagrad", "imtl_g", "nash_mtl", "fair_grad", "famo")


def _run(combine):
    return toy_problem.Run(combine, problems.strategy(1))


@pytest.mark.parametrize(
    "combine", [name if name in QUICK else pytest.param(name, marks=pytest.mark.ci_only) for name in METHODS]
)
def test_a_short_run_ends_where_the_committed_one_did(combine):
    run, expected = _run(combine), toy_problem.committed()[str(SHORT)][combine]["final"]
    for start, end in zip(STARTS, expected, strict=True):
        assert run.path(start, SHORT)[-1] == pytest.approx(end, abs=1e-6), start


def test_long_runs_reach_the_pareto_set_from_the_starts_that_the_papers_say():
    reached = {name: result["reached"] for name, result in toy_problem.committed()[str(FULL)].items()}
    assert reached["sum"] == reached["mean"] == [False, True, False]
    assert {name: reached[name] for name in FROM_EVERY_START} == dict.fromkeys(FROM_EVERY_START, [True] * 3)


@pytest.mark.parametrize("steps", [SHORT, FULL])
def test_committed_results_are_whole(steps):
    results = toy_problem.committed()[str(steps)]
    assert [name for name in METHODS if name in results] == list(results)
    for result in results.values():
        assert np.shape(result["final"]) == (len(STARTS), 2)
        assert [toy_problem.reaches(point) for point in result["final"]] == result["reached"]
    if steps == SHORT:
        assert list(results) == list(METHODS)
        return
    paths = json.loads(toy_problem.PATHS.read_text())
    assert list(paths) == list(results)
    for name, of_starts in paths.items():
        assert [path[0] for path in of_starts] == [list(start) for start in STARTS]
        assert np.array([path[-1] for path in of_starts]) == pytest.approx(np.array(results[name]["final"]), abs=1e-3)


@pytest.mark.parametrize("combine", ["moco", "pcgrad"])
def test_a_second_path_is_that_of_the_configuration_with_this_start(combine):
    """Whatever the first one left behind: variables, the optimizer's moments, moving averages, the random state."""
    run = _run(combine)
    run.path(STARTS[0], 30)
    start = [("model.options.start", str(STARTS[2]))]
    config = configuration.load(configs.toy_problem.__file__, start, combine)
    result = problems.train(experiment.build(config, problems.strategy(1)), 30, calls=1)
    assert run.path(STARTS[2], 30, points=3)[-1] == pytest.approx(result.variables["point/x"], abs=1e-13)


def test_on_the_pareto_set_the_gradients_are_opposite():
    points = toy_problem.pareto_set()
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
    assert {*LEFT_OUT, *METHODS} == set(toy_problem.registry.METHODS)
