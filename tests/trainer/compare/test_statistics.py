"""Arithmetic of comparisons against scipy, the standard library, and numbers worked out by hand."""

import itertools
import statistics as standard_library

import numpy as np
import pytest
import scipy.stats

from trainer.compare import statistics


@pytest.mark.parametrize("direction", ["up", "down"])
def test_ranks_are_scipys_with_ties_shared(direction):
    random = np.random.default_rng(3)
    for _ in range(20):
        values = random.integers(4, size=7).astype(float)
        expected = scipy.stats.rankdata(-values if direction == "up" else values)
        assert statistics.ranks(list(values), direction) == list(expected)


def test_mean_and_deviation_are_the_samples():
    values = [0.3, 0.9, 0.4, 0.7]
    mean, deviation = statistics.mean_and_deviation(values)
    assert mean == pytest.approx(standard_library.mean(values), rel=1e-14)
    assert deviation == pytest.approx(standard_library.stdev(values), rel=1e-14)
    assert statistics.mean_and_deviation([0.5]) == (0.5, None)
    assert statistics.mean_and_deviation([]) == (None, None)
    assert statistics.mean_and_deviation([1e308, 1.7e308]) == (None, None)  # no infinity in results


def test_improvements_are_positive_where_better_whatever_the_sign_of_the_baseline():
    values, baselines = np.array([0.9, 0.1, -0.5, -3.0]), np.array([0.8, 0.2, -1.0, -2.0])
    found = statistics.improvements(values, baselines, ["up", "down", "up", "down"])
    assert list(found) == pytest.approx([12.5, 50.0, 50.0, 50.0])
    assert list(statistics.improvements(baselines, baselines, ["up"] * 4)) == [0, 0, 0, 0]


def test_a_task_of_many_metrics_counts_as_one_of_few():
    assert list(statistics.task_weights(["a", "b", "b", "b", "a"])) == pytest.approx(
        [1 / 4, 1 / 6, 1 / 6, 1 / 6, 1 / 4]
    )


def test_delta_m_is_libmtls():
    """The example beside its `count_improvement`: 96 → 93 (more is better), 98 → 99 (less is), 0.2 → 0.5 (more is)."""
    shares = statistics.improvements(np.array([93, 99, 0.5]), np.array([96, 98, 0.2]), ["up", "down", "up"])
    expected = 100 * ((-3 / 96 - 1 / 98) / 2 + 0.3 / 0.2) / 2
    assert shares @ statistics.task_weights(["A", "A", "B"]) == pytest.approx(expected, rel=1e-14)


def test_the_interval_of_three_values_is_their_range():
    """Of the 27 ways to draw three of three, one gives the smallest value thrice: more than the 2.5 % left out."""
    values = [0.2, -0.1, 0.5]
    means = sorted(sum(drawn) / 3 for drawn in itertools.product(values, repeat=3))
    assert 1 / len(means) > 0.025
    assert statistics.mean_interval(values) == pytest.approx((means[0], means[-1]), abs=1e-15)


@pytest.mark.parametrize("count", [6, 15])
def test_intervals_are_scipys(count):
    values = np.random.default_rng(count).gamma(2.0, size=count)
    found = scipy.stats.bootstrap((values,), np.mean, n_resamples=50_000, method="percentile", rng=1)
    width = found.confidence_interval.high - found.confidence_interval.low
    assert statistics.mean_interval(list(values)) == pytest.approx(found.confidence_interval, abs=0.03 * width)


def test_draws_are_always_the_same_and_of_another_stream_others():
    statistics.resamples.cache_clear()
    first = statistics.resamples(4)
    statistics.resamples.cache_clear()
    assert np.array_equal(first, statistics.resamples(4))
    assert not np.array_equal(first, statistics.resamples(4, 1))
    assert first.shape == (10_000, 4)
    assert np.allclose(first.sum(1), 1)


@pytest.mark.parametrize(
    ("interval", "count", "direction", "verdict"),
    [
        ((0.1, 0.3), 3, "up", "better"),
        ((0.1, 0.3), 3, "down", "worse"),
        ((-0.3, -0.1), 5, "up", "worse"),
        ((-0.3, -0.1), 5, "down", "better"),
        ((-0.1, 0.3), 9, "up", "not distinguishable"),
        ((0.0, 0.0), 3, "up", "not distinguishable"),
        ((0.1, 0.3), 2, "up", "too few seeds"),
        ((None, None), 1, "down", "too few seeds"),
    ],
)
def test_verdicts(interval, count, direction, verdict):
    assert statistics.verdict(*interval, count, direction) == verdict


def test_how_often_intervals_are_wrong_is_students():
    for count in (3, 4, 5, 6, 7, 8, 10, 20, 50):
        wrong = 2 * scipy.stats.t.sf(1.96 * ((count - 1) / count) ** 0.5, count - 1)
        assert statistics.one_in(count) == int(1 / wrong + 0.2)


def test_how_often_intervals_are_wrong_is_what_happens():
    values = np.random.default_rng(0).normal(size=(400, 3))
    wrong = np.mean([not low <= 0 <= high for low, high in map(statistics.mean_interval, values)])
    assert wrong == pytest.approx(1 / statistics.one_in(3), abs=0.06)


@pytest.mark.parametrize(
    ("shares", "task"),
    [
        ({"a": -0.5, "b": -90.0, "c": 9.0}, "b"),
        ({"a": 40.0, "b": -60.0}, None),
        ({"a": 0.01, "b": -2.0}, None),  # of a Δm that is small, too
        ({"a": -90.0}, None),
    ],
)
def test_the_task_that_dominates(shares, task):
    assert statistics.dominating(shares) == task
