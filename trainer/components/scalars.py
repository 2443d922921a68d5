"""Numbers of a running training as tensors.

TensorFlow keeps a tensor for every Python number that it makes one of, for the life of the process; of arrays it keeps
none. What is made anew in every step or report goes through here, so that memory does not grow with their number.
"""

import numpy as np
import tensorflow as tf


def int64(number: int) -> tf.Tensor:
    """Returns a scalar int64 tensor."""
    return tf.constant(np.array(number, np.int64))


def float64(number: float) -> tf.Tensor:
    """Returns a scalar float64 tensor."""
    return tf.constant(np.array(number, np.float64))
