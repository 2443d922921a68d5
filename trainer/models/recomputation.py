"""Layers that keep nothing of their inner activations and compute them again in the backward pass."""

import contextlib
import contextvars
import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.components import predictions

_enabled = contextvars.ContextVar("recomputation_enabled", default=True)


class Recomputed(keras.layers.Layer):
    """Layers one after another that keep only their input for the backward pass, and compute the rest again there.

    Each backward pass costs one more forward pass of these layers. What is computed again is exactly what was: random
    layers draw the same masks, and moving statistics are updated once. https://arxiv.org/abs/1604.06174

    Args:
      layers: the layers, built; each takes and gives one tensor.
      shape: of their input, batch first.
    """

    def __init__(self, layers: Sequence[keras.layers.Layer], shape: tuple[int | None, ...], **kwargs: Any):
        super().__init__(**kwargs)
        self.inner = predictions.let_through(keras.Sequential(layers))
        self.inner.build(shape)
        self.supports_masking = True

    def call(self, inputs: Any, training: bool | None = None, mask: Any | None = None) -> Any:
        """The last layer's output, with the mask that it has then."""
        if not training or not _enabled.get() or isinstance(inputs, keras.KerasTensor):
            return self.inner(inputs, training=training, mask=mask)
        parameters = [tf.convert_to_tensor(variable.value) for variable in self.inner.trainable_variables]
        state = self.inner.non_trainable_variables
        before = [tf.identity(variable.value) for variable in state]
        updated, masks = [], []

        def pure(inputs: tf.Tensor, *parameters: tf.Tensor) -> tf.Tensor:
            outputs, after = self.inner.stateless_call(list(parameters), before, inputs, training=training, mask=mask)
            updated.append(after)
            masks.append(predictions.mask_of(outputs))
            return outputs

        outputs = tf.recompute_grad(pure)(inputs, *parameters)
        for variable, value in zip(state, updated[0], strict=True):
            if not variable.value.trainable:  # as it was made: what the layers change, not frozen weights
                variable.assign(value)
        return predictions.with_mask(outputs, masks[0])

    def compute_mask(self, inputs: Any, previous_mask: Any | None) -> Any | None:
        """None: the output has its mask already."""
        del inputs, previous_mask

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The last layer's."""
        return self.inner.compute_output_shape(input_shape)


def in_segments(layers: Sequence[keras.layers.Layer], source: Any) -> Any:
    """Applies built layers to a symbolic tensor in about √n segments: what is kept then grows as √n, not n."""
    size = math.isqrt(max(len(layers) - 1, 0)) + 1
    tensor = source
    for first in range(0, len(layers), size):
        part = Recomputed(layers[first : first + size], tuple(tensor.shape), name=f"recomputed_{first // size}")
        tensor = part(tensor)
    return tensor


@contextlib.contextmanager
def disabled() -> Iterator[None]:
    """Everything is kept within this context, so that gradients which do not exist are None instead of zeros."""
    token = _enabled.set(False)
    try:
        yield
    finally:
        _enabled.reset(token)
