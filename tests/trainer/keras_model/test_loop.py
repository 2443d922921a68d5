"""Several batches in one call of TensorFlow: those that it takes, in order, and when they are fetched."""

import threading

import pytest
import tensorflow as tf

from trainer.keras_model import loop


def taking(on_batch, steps: int):
    """A function of an iterator that calls `on_batch(batch)` for at most `steps` batches."""
    return loop.test_function(
        lambda batch, _: on_batch(batch["number"]),
        lambda number: {"number": number},
        lambda: {},
        None,
        steps=steps,
        eagerly=False,
    )


def test_every_call_takes_its_batches_and_leaves_the_others():
    seen = tf.Variable(tf.zeros([0], tf.int64), shape=[None])
    take = taking(lambda number: seen.assign(tf.concat([seen, [number]], axis=0)), steps=3)
    iterator = iter(tf.data.Dataset.range(7))
    for expected in ([0, 1, 2], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 6]):
        take(iterator)
        assert [*seen.numpy()] == expected
    with pytest.raises(StopIteration):
        take(iterator)


def test_the_next_batch_is_fetched_while_a_step_is_taken():
    fetched = [threading.Event() for _ in range(3)]
    in_time = []

    def fetch(number: tf.Tensor) -> tf.Tensor:
        fetched[int(number)].set()
        return number

    def wait(number: tf.Tensor) -> tf.Tensor:
        following = int(number) + 1
        in_time.append(following == len(fetched) or fetched[following].wait(timeout=10))
        return number

    data = tf.data.Dataset.range(3).map(lambda number: tf.py_function(fetch, [number], tf.int64))
    taking(lambda number: tf.py_function(wait, [number], tf.int64), steps=3)(iter(data))
    assert in_time == [True, True, True]
