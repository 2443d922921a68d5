"""The speed of this machine, at this moment, against those that the suite's bounds in seconds are for."""

import time

import tensorflow as tf

_SECONDS = 0.015  # that plain TensorFlow takes at most for `passes` on such a machine, with another test beside
_TIMES = 30


def slower() -> float:
    """1 on such a machine or a faster one, 2 where plain TensorFlow takes twice as long for convolutions."""
    images, kernel = tf.random.normal([128, 14, 14, 32]), tf.random.normal([3, 3, 32, 64])

    @tf.function
    def passes() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch([images, kernel])
            total = tf.reduce_sum(tf.nn.relu(tf.nn.conv2d(images, kernel, 1, "SAME")))
        return tape.gradient(total, [images, kernel])

    passes()
    start = time.monotonic()
    for _ in range(_TIMES):
        passes()
    return max(1.0, (time.monotonic() - start) / _TIMES / _SECONDS)
