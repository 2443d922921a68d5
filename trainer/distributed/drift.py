"""Notices replicas whose variables are no longer the same: a checksum of each variable, in one collective.

Every replica computes the same update of the same variables, so that nothing that is trained ever has to be copied
between them; and where one of them has once computed something else, no later step puts it right.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from trainer.distributed import bits
from trainer.distributed.all_reduce import Reduction

_AT_ONCE = 2**20  # values of which a checksum is computed at once: their copies as int64 take memory
# Odd factors of SplitMix64, as signed integers. https://doi.org/10.1145/2714064.2660195
_POSITION, _FACTOR = 0x9E3779B97F4A7C15 - 2**64, 0xBF58476D1CE4E5B9 - 2**64


class Drift(NamedTuple):
    """A variable that is not the same on all replicas.

    Attributes:
      variable: its name.
      replica: the first replica whose value is not that of replica 0, counted over all workers.
      count: the number of variables that are not the same.
    """

    variable: str
    replica: int
    count: int


def build_check(
    strategy: tf.distribute.Strategy, variables: Mapping[str, tf.Variable]
) -> Callable[[Mapping[str, tf.Tensor]], Drift | None]:
    """A function that compares these variables on all replicas, bit for bit, and tensors that every worker holds once.

    It takes the tensors by their names, of the same shapes in every call, and returns the first difference, the same
    one on every worker; None where there is none. All workers must call it, in cross-replica context. On one replica it
    does nothing.
    """
    if strategy.num_replicas_in_sync == 1:
        return lambda tensors: None

    def on_replica(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        own = tf.stack([_checksum(value) for value in (*map(tf.identity, variables.values()), *tensors)])
        place = tf.one_hot(context.replica_id_in_sync_group, context.num_replicas_in_sync, dtype=tf.int64)
        return Reduction().sum((), place[:, None] * own)[1]

    @tf.function(autograph=False)
    def checksums(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
        return strategy.experimental_local_results(strategy.run(on_replica, args=(tensors,)))[0]

    def check(tensors: Mapping[str, tf.Tensor]) -> Drift | None:
        found = checksums(list(tensors.values())).numpy()
        different = found != found[0]
        columns = different.any(axis=0).nonzero()[0]
        if not len(columns):
            return None
        name = [*variables, *tensors][columns[0]]
        return Drift(name, int(different[:, columns[0]].argmax()), len(columns))

    return check


def _checksum(value: tf.Tensor) -> tf.Tensor:
    """A scalar int64 that depends on all bits of a tensor and on their places."""
    flat = tf.reshape(value, [-1])
    whole = flat.shape[0] // _AT_ONCE * _AT_ONCE

    def add(first: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return first + _AT_ONCE, total + _of_part(flat[first : first + _AT_ONCE], first)

    start, rest = tf.constant(0, tf.int64), _of_part(flat[whole:], tf.constant(whole, tf.int64))
    if not whole:
        return rest
    return tf.while_loop(lambda first, _: first < whole, add, (start, rest), parallel_iterations=1)[1]


def _of_part(values: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
    """The checksum of some values of a tensor, of which the first stands at place `first`."""
    if values.dtype == tf.string:
        values = tf.strings.to_hash_bucket_fast(values, 2**63 - 1)
    words = tf.reshape(bits.as_integers(values), [-1])
    places = tf.range(first, first + tf.size(words, tf.int64))
    # Mixed before they are added: sums of the numbers alone would not notice two that are exchanged, nor many that are
    # off by the last bit in either direction.
    mixed = (words + places * _POSITION) * _FACTOR
    return tf.reduce_sum(tf.bitwise.bitwise_xor(mixed, tf.bitwise.right_shift(mixed, 32)))
