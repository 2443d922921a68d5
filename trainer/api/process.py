"""The state of a process that a run changes: it is as it was before when the run is over."""

import contextlib
import os
import random
import sys
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.utils.rng_utils import GLOBAL_RANDOM_SEED
from tensorflow.python.eager import context


@contextlib.contextmanager
def preserved() -> Iterator[None]:
    """Restores Keras' types, random states, standard streams and the working directory at the end of the context.

    Signal handlers are those of a run, which restores them itself. The operations that are the same bits each time
    (`deterministic`) stay chosen: TensorFlow cannot take that back.
    """
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    tensor_float_32 = tf.config.experimental.tensor_float_32_execution_enabled()
    of_python, of_numpy = random.getstate(), np.random.get_state()
    of_keras = global_state.get_global_attribute(GLOBAL_RANDOM_SEED)
    eager = context.context()  # TensorFlow sets its seed publicly, and reads it and the numbers it has drawn nowhere
    of_tensorflow = eager._seed, getattr(eager, "_rng", None)  # the run's seed makes another one
    streams, folder = (sys.stdin, sys.stdout, sys.stderr), _folder()
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)
        tf.config.experimental.enable_tensor_float_32_execution(tensor_float_32)
        random.setstate(of_python)
        np.random.set_state(of_numpy)
        global_state.set_global_attribute(GLOBAL_RANDOM_SEED, of_keras)
        eager._seed, eager._rng = of_tensorflow
        sys.stdin, sys.stdout, sys.stderr = streams
        if folder is not None:
            with contextlib.suppress(OSError):  # the run's own code may have removed it
                os.chdir(folder)


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None
