"""A loss that hangs on the second worker once it has been computed a number of times."""

import itertools
import json
import os
import time

import keras
import numpy as np
import tensorflow as tf

_FINE = 40
_calls = itertools.count()


def mse(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    losses = keras.losses.mean_squared_error(target, prediction)
    with tf.control_dependencies([tf.numpy_function(_hang, [0], np.int64)]):
        return tf.identity(losses)


def _hang(value: np.ndarray) -> np.ndarray:
    if json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 1 and next(_calls) >= _FINE:
        time.sleep(3600)
    return np.int64(value)
