"""Streaming keeps the contract: batches are a function of (configuration, seed, step), epochs visit everything once."""

import dataclasses
import functools
import itertools
from collections.abc import Iterable

import numpy as np
import pytest
import tensorflow as tf

from input_pipelines import data
from input_pipelines.configuration import DatasetConfig
from input_pipelines.feed import splits, streaming
from input_pipelines.feed.streaming import Streamed
from trainer.common import schema

COUNT, BATCH = 53, 10


@functools.cache
def _files(folder) -> None:
    """Three files of different lengths, numbers in order."""
    for file, numbers in enumerate(np.split(np.arange(COUNT), [20, 24])):
        with tf.io.TFRecordWriter(f"{folder}/part-{file}.tfrecord") as writer:
            for number in numbers:
                feature = {
                    "number": tf.train.Feature(int64_list=tf.train.Int64List(value=[number])),
                    "half": tf.train.Feature(float_list=tf.train.FloatList(value=[number / 2])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("records")
    _files(path)
    return path


def _data(folder, window: int = 16, **settings) -> data.Data:
    tree = {
        "name": "tfrecord",
        "path": str(folder),
        "options": {"features": {"number": "int64", "half": "float32"}},
        "splits": {"train": "part-*.tfrecord", "validation": "part-*.tfrecord"},
        "may_overlap": True,
        "inputs": {"number": {"prepare": [{"name": "scale", "by": 1.0}]}},
        "targets": {"half": {}, "number": {}},
        "feed": "streaming",
        "window": window,
        **settings,
    }
    return data.build(schema.record(DatasetConfig)(tree, "dataset"))


@functools.cache
def _splits(folder, window: int = 16) -> dict[str, Streamed]:
    """Built once for all tests that only read them."""
    found = _data(folder, window).splits
    assert all(isinstance(split, Streamed) for split in found.values())
    return found


def _split(folder, window: int = 16) -> Streamed:
    return _splits(folder, window)["train"]


def _global(
    split: splits.Split,
    first_step: int,
    steps: int,
    *,
    workers: int = 1,
    replicas: int = 1,
    seed: int = 0,
    batch_size: int = BATCH,
):
    """The numbers of some steps' global batches, put together from the shares of all workers' replicas."""
    local, shares = replicas // workers, []
    for worker in range(workers):
        ends = splits.ends(tf.distribute.InputContext(workers, worker, replicas), batch_size)
        dataset = split.training(batch_size=batch_size, seed=seed, first_step=first_step, ends=ends)
        elements = list(dataset.take(steps * local).as_numpy_iterator())
        for element in elements:
            np.testing.assert_array_equal(element["targets"]["half"] * 2, element["targets"]["number"])
        shares.append([element["targets"]["number"] for element in elements])
    return [
        np.concatenate([share for own in shares for share in own[step * local : (step + 1) * local]])
        for step in range(steps)
    ]


def _always(*cases: tuple, others: Iterable[tuple]) -> list:
    """Parameters of a test: cases that hold values of every kind of each of them, and for CI all others."""
    return [*cases, *(pytest.param(*other, marks=pytest.mark.ci_only) for other in others if other not in cases)]


@pytest.mark.parametrize(
    ("window", "batch_size"),
    _always((1, 53), (4, 10), (1000, 1), others=itertools.product((1, 4, 16, 40, 1000), (1, 10, 53))),
)
def test_every_epoch_visits_every_example_once(folder, window, batch_size):
    steps = -(-3 * COUNT // batch_size)
    numbers = np.concatenate(_global(_split(folder, window=window), 0, steps, batch_size=batch_size))
    epochs = [numbers[epoch * COUNT : (epoch + 1) * COUNT] for epoch in range(3)]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(COUNT))
        assert not np.array_equal(epoch, np.arange(COUNT))
    assert not np.array_equal(epochs[0], epochs[1])


@pytest.mark.parametrize(("workers", "replicas"), _always((1, 3), (2, 4), others=[(1, 2), (3, 3)]))
def test_batches_do_not_depend_on_replicas_or_workers(folder, workers, replicas):
    split = _split(folder)
    np.testing.assert_array_equal(_global(split, 0, 12), _global(split, 0, 12, workers=workers, replicas=replicas))


@pytest.mark.parametrize("window", [16, *(pytest.param(window, marks=pytest.mark.ci_only) for window in (4, 1000))])
def test_starting_later_gives_the_same_batches(folder, window):
    split = _split(folder, window=window)
    for before, first_steps in ((0, (1, 2, 5, 6, 11)), (1_000_000_006, (1_000_000_007,))):
        expected = _global(split, before, first_steps[-1] - before + 7)
        for first_step in first_steps:
            at = first_step - before
            np.testing.assert_array_equal(_global(split, first_step, 7), expected[at : at + 7], str(first_step))


def test_seeds_differ_and_repeat(folder):
    split = _split(folder)
    one = _global(split, 0, 5, seed=1)
    np.testing.assert_array_equal(one, _global(split, 0, 5, seed=1))
    assert not np.array_equal(one, _global(split, 0, 5, seed=2))


def test_a_window_is_of_records_from_all_over(folder):
    """The first 16 of an epoch are not neighbours: blocks of a window are drawn from all files."""
    spread = [np.ptp(_global(_split(folder), 0, 2, seed=seed)) for seed in range(5)]
    assert min(spread) > 25


class _Counted:
    """A source that remembers which blocks were read."""

    def __init__(self, source):
        self._source, self.read = source, []
        records = source.records

        def read(block: tf.Tensor) -> tf.data.Dataset:
            seen = tf.numpy_function(lambda number: (self.read.append(int(number)), number)[1], [block], tf.int64)
            return records.read(tf.ensure_shape(seen, []))

        self.records = dataclasses.replace(records, read=read)

    def __getattr__(self, name):
        return getattr(self._source, name)

    def __len__(self):
        return len(self._source)


def test_a_start_reads_one_window_before_its_first_batch(folder):
    """Later windows are read ahead only as far as the pipeline's buffers reach."""
    split = _split(folder, window=2)  # blocks of one record, windows of two
    assert (len(split.source.records.sizes), split.source.records.mixed_blocks) == (COUNT, 2)
    counted = _Counted(split.source)
    late = dataclasses.replace(split, source=counted)
    ends = splits.ends(tf.distribute.InputContext(1, 0, 1), 2)
    first = next(iter(late.training(batch_size=2, seed=0, first_step=1_000_000, ends=ends)))
    np.testing.assert_array_equal(first["targets"]["number"], _global(split, 1_000_000, 1, batch_size=2)[0])
    ahead = streaming._PREFETCHED + streaming._CORES + 2 * streaming._PARALLEL_READS
    assert len(counted.read) <= 2 * (1 + ahead) < COUNT


@pytest.mark.parametrize(
    ("batch_size", "workers", "replicas"),
    _always(
        (4, 1, 2),
        (10, 1, 1),
        (10, 3, 2),
        (60, 1, 3),
        (60, 3, 3),
        others=itertools.product((4, 10, 60), (1, 3), (1, 2, 3)),
    ),
)
def test_evaluation_sees_every_example_once_in_order(folder, replicas, workers, batch_size):
    split, everything = _splits(folder)["validation"], replicas * workers
    elements = [
        list(
            split.evaluation(
                batch_size=batch_size, context=tf.distribute.InputContext(workers, worker, everything)
            ).as_numpy_iterator()
        )
        for worker in range(workers)
    ]
    steps = split.evaluation_steps(batch_size, everything)
    assert [len(own) for own in elements] == [steps * replicas] * workers
    in_order = [
        elements[worker][step * replicas + replica]
        for step in range(steps)
        for worker in range(workers)
        for replica in range(replicas)
    ]
    np.testing.assert_array_equal(np.concatenate([each["targets"]["number"] for each in in_order]), np.arange(COUNT))
    assert min(len(each["targets"]["number"]) for each in in_order) >= 1


def test_prepared_as_in_memory(folder):
    """The same examples with the same statistics, whatever way they are fed."""
    settings = {"targets": {"half": {"prepare": ["standardise"]}, "number": {}}}
    streamed, held = _data(folder, **settings), _data(folder, feed="memory", **settings)
    assert streamed.saved.statistics == held.saved.statistics
    assert streamed.saved.fingerprints == held.saved.fingerprints
    ours, theirs = streamed.splits["train"].first(COUNT), held.splits["train"].first(COUNT)
    np.testing.assert_array_equal(ours["targets"]["half"], theirs["targets"]["half"])
    np.testing.assert_array_equal(ours["inputs"], theirs["inputs"])


def test_what_is_larger_than_the_limit_streams(folder):
    example = 4 + 4 + 8 + 4  # input, two targets, the weight of `half`
    for limit, kind in ((2 * COUNT * example, "InMemory"), (2 * COUNT * example - 1, "Streamed")):
        split = _data(folder, feed="auto", memory_limit=limit).splits["train"]
        assert type(split).__name__ == kind


def test_augmentation_is_of_the_position(folder):
    split = _data(folder, augment=[{"name": "noise", "deviation": 1.0}]).splits["train"]

    def inputs(first: int, steps: int, replicas: int) -> np.ndarray:
        ends = splits.ends(tf.distribute.InputContext(1, 0, replicas), BATCH)
        dataset = split.training(batch_size=BATCH, seed=3, first_step=first, ends=ends)
        return np.concatenate([batch["inputs"] for batch in dataset.take(steps * replicas).as_numpy_iterator()])

    one = inputs(0, 12, 1)
    np.testing.assert_array_equal(inputs(0, 12, 3), one)
    np.testing.assert_array_equal(inputs(7, 5, 2), one[7 * BATCH :])
    assert len(np.unique(one)) == 12 * BATCH
