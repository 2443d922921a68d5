"""The epoch that `fit` counts, where a combination can look at it."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def with_epochs(callbacks: Any, epoch: Callable[[], tf.Variable]) -> Any:
    """Callbacks of `fit`, in any of their forms, with one more that assigns the number of every epoch as it begins.

    Args:
      callbacks: None, one, several or Keras' list of them.
      epoch: gives the int64 variable.
    """
    own = _Epochs(epoch)
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.append(own)
        return callbacks
    return [*keras.tree.flatten(callbacks or []), own]


class _Epochs(keras.callbacks.Callback):
    """Assigns the number of every epoch to a variable."""

    def __init__(self, variable: Callable[[], tf.Variable]):
        super().__init__()
        self._variable = variable

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Assigns the number."""
        del logs
        self._variable().assign(epoch)
