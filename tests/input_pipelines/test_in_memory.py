"""Batches are a pure function of (configuration, seed, step), whatever the replicas."""

import numpy as np
import pytest
import tensorflow as tf

from input_pipelines.examples import Examples
from input_pipelines.feed import in_memory, splits
from input_pipelines.feed.in_memory import InMemory

COUNT = 23


def _examples(count: int = COUNT) -> Examples:
    return Examples(np.arange(count), {"t": np.arange(count) * 2.0}, {"t": np.ones(count)})


def _take(dataset: tf.data.Dataset, elements: int) -> list[np.ndarray]:
    batches = list(dataset.take(elements).as_numpy_iterator())
    for batch in batches:
        np.testing.assert_array_equal(batch["targets"]["t"], batch["inputs"] * 2.0)
    return [batch["inputs"] for batch in batches]


def _global(
    first_step: int, steps: int, *, workers: int = 1, replicas: int = 1, batch_size: int = 10, seed: int = 0
) -> list[np.ndarray]:
    """The global batches of some steps, put together from the shares of all workers' replicas."""
    local = replicas // workers
    shares = []
    for worker in range(workers):
        context = tf.distribute.InputContext(workers, worker, replicas)
        dataset = InMemory(_examples()).training(
            batch_size=batch_size, seed=seed, first_step=first_step, ends=splits.ends(context, batch_size)
        )
        shares.append(_take(dataset, steps * local))
    return [
        np.concatenate([share for own in shares for share in own[step * local : (step + 1) * local]])
        for step in range(steps)
    ]


@pytest.mark.parametrize("batch_size", [1, 10, COUNT])
def test_every_epoch_visits_every_example_once(batch_size):
    positions = np.concatenate(_global(0, -(-3 * COUNT // batch_size), batch_size=batch_size))
    epochs = [positions[epoch * COUNT : (epoch + 1) * COUNT] for epoch in range(3)]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(COUNT))
        assert not np.array_equal(epoch, np.arange(COUNT))
    assert not np.array_equal(epochs[0], epochs[1])


@pytest.mark.parametrize(("workers", "replicas"), [(1, 2), (1, 3), (1, 4), (2, 4), (3, 3)])
def test_batches_do_not_depend_on_replicas_or_workers(workers, replicas):
    for one, several in zip(_global(0, 8), _global(0, 8, workers=workers, replicas=replicas), strict=True):
        np.testing.assert_array_equal(one, several)


@pytest.mark.parametrize("first_step", [1, 7, 1_000_000_007])
def test_starting_later_gives_the_same_batches(first_step):
    np.testing.assert_array_equal(_global(first_step - 1, 4)[1:], _global(first_step, 3))


@pytest.mark.parametrize("first_step", [0, 7, 1_000_000_007])
def test_rows_are_those_of_the_batches(first_step):
    """Also of an epoch that ends within a batch, and of elements that are cut otherwise than training's."""
    split = InMemory(_examples())
    rows = split.rows(batch_size=10, seed=3, first_step=first_step, steps=4).take(2).as_numpy_iterator()
    np.testing.assert_array_equal(np.concatenate(list(rows)), _global(first_step, 8, seed=3))


def test_seeds_differ():
    assert not np.array_equal(_global(0, 2, seed=1), _global(0, 2, seed=2))
    assert not np.array_equal(_global(0, 2, seed=1), _global(0, 2, seed=1 + 2**31))


def test_shares_are_nearly_equal():
    context = tf.distribute.InputContext(1, 0, 4)
    dataset = InMemory(_examples()).training(batch_size=10, seed=0, first_step=0, ends=splits.ends(context, 10))
    assert sorted(len(share) for share in _take(dataset, 4)) == [2, 2, 3, 3]


@pytest.mark.parametrize("count", [1, 3, 10, 23])
@pytest.mark.parametrize("replicas", [1, 2, 4])
@pytest.mark.parametrize("batch_size", [4, 10])
def test_evaluation_sees_every_example_once_in_order(count, replicas, batch_size):
    context = tf.distribute.InputContext(1, 0, replicas)
    dataset = InMemory(_examples(count)).evaluation(batch_size=batch_size, context=context)
    shares = _take(dataset, -1)
    assert len(shares) % replicas == 0
    np.testing.assert_array_equal(np.concatenate(shares), np.arange(count))
    if count >= replicas:
        assert min(len(share) for share in shares) >= 1


@pytest.mark.parametrize("count", [1_797, 60_000, pytest.param(1_000_000, marks=pytest.mark.ci_only)])
def test_orders_are_random_in_themselves_and_between_epochs(count):
    """As of true permutations: correlations of neighbours, and of two epochs, are within three standard deviations."""
    positions = tf.range(count, dtype=tf.int64)
    for seed in range(20):
        words = splits.seed_words(seed)
        first, second = (in_memory._rows(epoch * count + positions, count, words).numpy() for epoch in (0, 1))
        for one, other in ((first[:-1], first[1:]), (first, second)):
            assert abs(np.corrcoef(one, other)[0, 1]) < 3 / np.sqrt(count), (count, seed)
