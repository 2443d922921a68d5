"""Steps of this process as they stand, without a trace: a few of them take a fraction of the time of tracing one."""

import contextlib
import warnings
from collections.abc import Iterator

import tensorflow as tf


@contextlib.contextmanager
def functions() -> Iterator[None]:
    """Functions of TensorFlow run as Python within this context, all but those of `tf.data`."""
    tf.config.run_functions_eagerly(True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Even though the .*run_functions_eagerly", UserWarning)
            yield
    finally:
        tf.config.run_functions_eagerly(False)
