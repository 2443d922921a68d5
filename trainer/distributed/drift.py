"""Notices replicas whose variables are no longer the same: a checksum of each variable, in one collective.

Every replica computes the same update of the same variables, so that nothing that is trained ever has to be copied
between them; and where one of them has once computed something else, no later step puts it right.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from trainer.distributed.all_reduce import Reduction

_WORD = 8  # bytes
_AT_ONCE = 2**20  # values that are looked at together, in new memory for each operation
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
        own = _checksums([_flat(value) for value in (*variables.values(), *tensors)])
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


def _flat(value: tf.Tensor | tf.Variable) -> tf.Tensor:
    """The values as a vector, of a dtype whose bits TensorFlow gives."""
    flat = tf.reshape(value, [-1])
    if flat.dtype == tf.string:
        return tf.strings.to_hash_bucket_fast(flat, 2**63 - 1)
    return tf.cast(flat, tf.uint8) if flat.dtype == tf.bool else flat


def _checksums(vectors: Sequence[tf.Tensor]) -> tf.Tensor:
    """For each of the vectors an int64 that depends on all its bits and on their places."""
    sums: dict[int, tf.Tensor] = {}
    for group in _groups(vectors):
        if vectors[group[0]].shape[0] > _AT_ONCE:
            sums[group[0]] = _of_large(vectors[group[0]])
            continue
        padded = [_whole_words(vectors[place]) for place in group]
        counts = [vector.shape[0] * vector.dtype.size // _WORD for vector in padded]
        mixed = tf.split(_mixed(tf.concat(padded, 0), tf.constant(0, tf.int64)), counts)
        sums |= zip(group, map(tf.reduce_sum, mixed), strict=True)
    return tf.stack([sums[place] for place in range(len(vectors))])


def _groups(vectors: Sequence[tf.Tensor]) -> list[list[int]]:
    """Places of vectors of one dtype, of which few are taken at once, and of each larger one alone."""
    groups: list[list[int]] = []
    for dtype in dict.fromkeys(vector.dtype for vector in vectors):
        size = _AT_ONCE
        for place, vector in enumerate(vectors):
            if vector.dtype == dtype:
                if size + vector.shape[0] > _AT_ONCE:
                    groups.append([])
                    size = 0
                groups[-1].append(place)
                size += vector.shape[0]
    return groups


def _of_large(vector: tf.Tensor) -> tf.Tensor:
    """The checksum of a vector, a part at a time."""
    whole = vector.shape[0] // _AT_ONCE * _AT_ONCE

    def add(first: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return first + _AT_ONCE, total + tf.reduce_sum(_mixed(tf.slice(vector, [first], [_AT_ONCE]), first))

    start, rest = tf.constant(0, tf.int64), _mixed(_whole_words(vector[whole:]), tf.constant(whole, tf.int64))
    end = (start, tf.reduce_sum(rest))
    return tf.while_loop(lambda first, _: first < whole, add, end, parallel_iterations=1)[1]


def _whole_words(vector: tf.Tensor) -> tf.Tensor:
    """The vector, with zeros behind it that fill its last word."""
    per_word = max(1, _WORD // vector.dtype.size)
    missing = -vector.shape[0] % per_word
    return tf.pad(vector, [[0, missing]]) if missing else vector


def _mixed(vector: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
    """The words of a vector as int64, each mixed with its place; `first` is the place of the first value.

    Sums of the numbers alone would not notice two that are exchanged, nor many that are off by the last bit in either
    direction.
    """
    per_word = max(1, _WORD // vector.dtype.size)
    if per_word > 1:
        vector = tf.reshape(vector, [-1, per_word])
    words = tf.reshape(tf.bitcast(vector, tf.int64), [-1])
    places = first + tf.range(tf.size(words, tf.int64))
    mixed = (words + places * _POSITION) * _FACTOR
    return tf.bitwise.bitwise_xor(mixed, tf.bitwise.right_shift(mixed, 32))
