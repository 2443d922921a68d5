"""Observes a model's layers while it is called: what they give, and the losses that they add themselves.

Keras keeps what `add_loss` adds in lists of the layers, which all replicas of a process share and which every call
clears. Here each call has lists of its own, also where replicas take turns within it.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras


class Observed(NamedTuple):
    """The layers' part in one call of a model, in the order of what happened.

    Attributes:
      outputs: pairs of a layer and what it gave.
      added: pairs of a layer and a tensor that it added by `add_loss` or its `activity_regularizer`.
    """

    outputs: list[tuple[keras.layers.Layer, Any]]
    added: list[tuple[keras.layers.Layer, Any]]


class _OfThread(threading.local):
    """The calls that are observed in a thread (each replica has one), the innermost last."""

    def __init__(self) -> None:
        self.calls: list[Observed] = []


_of_thread = _OfThread()
_lock = threading.Lock()
_observers = 0
_KERAS_CALL, _KERAS_ADD_LOSS = keras.layers.Layer.__call__, keras.layers.Layer.add_loss


@contextlib.contextmanager
def observed() -> Iterator[Observed]:
    """Observes the layers that this thread calls within this context."""
    found = Observed([], [])
    _of_thread.calls.append(found)
    _change_observers(1)
    try:
        yield found
    finally:
        _change_observers(-1)
        _of_thread.calls.pop()


def _change_observers(by: int) -> None:
    """Keras' own methods come back when the last observer of all threads is gone."""
    global _observers
    with _lock:
        _observers += by
        keras.layers.Layer.__call__ = _call if _observers else _KERAS_CALL
        keras.layers.Layer.add_loss = _add_loss if _observers else _KERAS_ADD_LOSS


def _call(self: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
    result = _KERAS_CALL(self, *args, **kwargs)
    if _of_thread.calls:
        _of_thread.calls[-1].outputs.append((self, result))
    return result


def _add_loss(self: keras.layers.Layer, loss: Any) -> None:
    _KERAS_ADD_LOSS(self, loss)
    if _of_thread.calls:
        _of_thread.calls[-1].added.extend((self, each) for each in keras.tree.flatten(loss))
