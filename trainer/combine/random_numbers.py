"""Random numbers of a step, the same whether XLA compiles the step or not.

XLA's `tf.random.stateless_*` give others than TensorFlow's kernels do. Within a compiled loop they are computed here,
by integer arithmetic, as those kernels do it: Philox 4x32 of ten rounds, keyed by the seed as TensorFlow keys it.
https://www.thesalmons.org/john/random123/papers/random123sc11.pdf
"""

from __future__ import annotations

import functools
import math

from trainer.combine import lazy_tensorflow as tf
from trainer.combine.problem import Problem

_WORD = 2**32 - 1
_ROUNDS, _FACTORS, _STEPS_OF_KEY = 10, (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
_KEY_OF_SEED = (0x3EC8F720, 0x02461E29)
_LEAST = 1e-7  # whose logarithm is taken


def uniform(problem: Problem, shape: tf.TensorShape, dtype: tf.DType) -> tf.Tensor:
    """Numbers of [0, 1), float32 or float64, of a known shape, drawn from the problem's seed."""
    if not problem.compiled or dtype not in (tf.float32, tf.float64):
        return tf.random.stateless_uniform(shape, problem.seed, dtype=dtype, alg="philox")
    words = _words(problem.seed, math.prod(shape) * dtype.size // 4)
    numbers = _float32(words) if dtype == tf.float32 else _float64(words)
    return tf.reshape(tf.reshape(numbers, [-1])[: math.prod(shape)], shape)


def normal(problem: Problem, count: int) -> tf.Tensor:
    """(count,) float64 numbers of the standard normal distribution, drawn from the problem's seed."""
    if not problem.compiled:
        return tf.random.stateless_normal([count], problem.seed, dtype=tf.float64, alg="philox")
    first, second = tf.unstack(_float64(_words(problem.seed, 2 * count)), axis=1)  # Box and Muller make two of two
    lengths, angles = tf.sqrt(-2.0 * tf.math.log(tf.maximum(first, _LEAST))), 2 * math.pi * second
    return tf.reshape(tf.stack([lengths * tf.sin(angles), lengths * tf.cos(angles)], axis=1), [-1])[:count]


def seed_of(problem: Problem, variable: int) -> tf.Tensor:
    """A seed as the problem's, (2,) int32, for what is drawn for a single variable, by its number."""
    if not problem.compiled:
        return tf.random.experimental.stateless_fold_in(problem.seed, variable)
    word = tf.cast(_words(problem.seed, 1)[0, 0], tf.uint32)
    return tf.stack([tf.bitcast(word, tf.int32), variable])


def _float32(words: tf.Tensor) -> tf.Tensor:
    return tf.bitcast(tf.cast(words & 0x7FFFFF | 127 << 23, tf.uint32), tf.float32) - 1.0


def _float64(words: tf.Tensor) -> tf.Tensor:
    """(n, 2) numbers of (n, 4) words."""
    pairs = tf.reshape(words, [-1, 2, 2])
    high = pairs[..., 0] & 0xFFFFF | 1023 << 20
    return tf.bitcast(high * 2**32 | pairs[..., 1], tf.float64) - 1.0


def _words(seed: tf.Tensor, count: int) -> tf.Tensor:
    """(n, 4) uint64, at least `count` random words of 32 bits, from a (2,) int32 seed."""
    mixed = _philox(
        [word for part in tf.unstack(tf.bitcast(tf.cast(seed, tf.int64), tf.uint64)) for word in _halves(part)],
        [tf.constant(word, tf.uint64) for word in _KEY_OF_SEED],
    )
    places = tf.cast(tf.range(-(-count // 4), dtype=tf.int64), tf.uint64)
    zeros = tf.zeros_like(places)
    return tf.stack(_philox([places, zeros, zeros + mixed[2], zeros + mixed[3]], mixed[:2]), axis=1)


def _philox(counter: list[tf.Tensor], key: list[tf.Tensor]) -> list[tf.Tensor]:
    """Four words for every counter, which has four words, too; all are uint64 below 2³²."""
    for _ in range(_ROUNDS):
        (low0, high0), (low1, high1) = (
            _halves(factor * word) for factor, word in zip(_FACTORS, counter[::2], strict=True)
        )
        counter = [_xor(high1, counter[1], key[0]), low1, _xor(high0, counter[3], key[1]), low0]
        key = [(word + step) & _WORD for word, step in zip(key, _STEPS_OF_KEY, strict=True)]
    return counter


def _halves(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The low and the high 32 bits of uint64."""
    return number & _WORD, number // 2**32


def _xor(*words: tf.Tensor) -> tf.Tensor:
    return functools.reduce(tf.bitwise.bitwise_xor, words)
