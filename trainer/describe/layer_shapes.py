"""The shapes of layers' outputs, taken while a model is traced."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

Shape = tuple[int | None, ...]


@contextlib.contextmanager
def recorded() -> Iterator[Mapping[int, list[Shape]]]:
    """Collects, by the layer's id, the different shapes of outputs of every layer that is called within this context.

    Layers are called whether a model is a graph of layers or code of the user's own, so this holds for both.
    """
    found: dict[int, list[Shape]] = {}
    original = keras.layers.Layer.__call__

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        outputs = original(layer, *args, **kwargs)
        shapes = found.setdefault(id(layer), [])
        for output in tf.nest.flatten(outputs):
            shape = tuple(getattr(output, "shape", ()))
            if hasattr(output, "shape") and shape not in shapes:
                shapes.append(shape)
        return outputs

    keras.layers.Layer.__call__ = call
    try:
        yield found
    finally:
        keras.layers.Layer.__call__ = original
