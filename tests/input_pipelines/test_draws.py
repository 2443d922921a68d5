"""Random numbers by position."""

import numpy as np
import tensorflow as tf

from input_pipelines.feed.random_draws import Draws


def _uniform(seed: int = 0, purpose: int = 0, first: int = 0, count: int = 4000, shape: tuple[int, ...] = (3,)):
    return Draws(seed, purpose, tf.range(first, first + count, dtype=tf.int64)).uniform(0, 1, *shape).numpy()


def test_numbers_belong_to_the_position_not_to_the_batch():
    whole = _uniform(first=10**12)
    np.testing.assert_array_equal(_uniform(first=10**12 + 1234, count=5), whole[1234:1239])
    places = tf.constant([10**12 + 7, 10**12 + 3], tf.int64)
    np.testing.assert_array_equal(Draws(0, 0, places).uniform(0, 1, 3).numpy(), whole[[7, 3]])


def test_seeds_and_purposes_differ():
    tables = [_uniform(), _uniform(seed=1), _uniform(seed=2**40), _uniform(purpose=1), _uniform(first=4000)]
    for index, table in enumerate(tables):
        for other in tables[:index]:
            assert np.abs(np.corrcoef(table[:, 0], other[:, 0])[0, 1]) < 0.06
            assert not np.isin(table, other).all()


def test_evenly_distributed_and_independent():
    table = _uniform(count=100_000, shape=(2, 2)).reshape(-1, 4)
    assert table.min() >= 0
    assert table.max() < 1
    for column in table.T:
        counts = np.histogram(column, bins=20, range=(0, 1))[0]
        assert ((counts - 5000) ** 2 / 5000).sum() < 45  # chi-squared with 19 degrees: one in a thousand exceeds 44
    correlations = np.corrcoef(np.vstack([table.T[:, 1:], table.T[:, :-1]]))
    assert np.abs(correlations - np.eye(8)).max() < 0.02


def test_bounds_normal_numbers_and_seeds():
    draws = Draws(3, 1, tf.range(50_000, dtype=tf.int64))
    numbers = draws.uniform(-2, 5).numpy()
    assert (numbers.min() >= -2, numbers.max() < 5) == (True, True)
    normal = draws.normal(2).numpy()
    np.testing.assert_allclose((normal.mean(0), normal.std(0)), ([0, 0], [1, 1]), atol=0.02)
    assert draws.seeds.shape == (50_000, 2)
    assert len(np.unique(draws.seeds.numpy(), axis=0)) == 50_000
