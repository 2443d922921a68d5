"""The default configuration made small, as flags: for tests of how workers start and end, whatever they train.

Its model is traced in a third of the time, and without a schedule a run may go on for another number of steps.
"""

import time

import keras
import numpy as np
import tensorflow as tf

_LOSSES = ("digit", "redraw", "ink")
SMALL = (
    "--config.model.trunk=[{'layer':'Flatten'},{'layer':'Dense','units':4}]",
    "--config.shared_optimizer={'name':'adam','learning_rate':0.01}",
    *(f"--config.losses.{loss}.optimizer={{'name':'sgd','learning_rate':0.01}}" for loss in _LOSSES),
)
# So that a signal finds the run before its end.
SLOW = "--config.losses.ink.loss=tests.launch.small:slow_mse"
_SECONDS = 0.08  # that a step takes at least


def slow_mse(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    losses = keras.losses.mean_squared_error(target, prediction)
    with tf.control_dependencies([tf.numpy_function(_wait, [0], np.int64)]):
        return tf.identity(losses)


def _wait(value: np.ndarray) -> np.ndarray:
    time.sleep(_SECONDS)
    return np.int64(value)
