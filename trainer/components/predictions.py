"""The outputs of a model as losses and metrics read them: in full precision, with the masks that Keras attaches."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

_ATTRIBUTE = "_keras_mask"  # where Keras keeps the mask of a tensor


class Predictions(NamedTuple):
    """The outputs of a model for some examples, and their masks.

    Attributes:
      outputs: head name → output, batch first; half-precision ones as float32.
      masks: head name → bool tensor of the first axes of its output, False where a step is masked; only of heads that
        have a mask.
    """

    outputs: Mapping[str, tf.Tensor]
    masks: Mapping[str, tf.Tensor]


def of(outputs: Any) -> Predictions:
    """Takes each output and its mask apart, so that no function applies the mask a second time.

    Args:
      outputs: head name → what the model returned for it; or what `by_head` takes.
    """
    outputs = by_head(outputs)
    masks = {head: mask for head, output in outputs.items() if (mask := mask_of(output)) is not None}
    full = {}
    for head, output in outputs.items():
        if output.dtype in (tf.float16, tf.bfloat16):  # `precision: mixed_...`; losses need more
            full[head] = tf.cast(output, tf.float32)
        else:
            full[head] = tf.identity(output) if head in masks else output
    return Predictions(full, {head: tf.cast(mask, tf.bool) for head, mask in masks.items()})


def by_head(outputs: Any) -> Mapping[str, Any]:
    """A model's outputs by head: of a dictionary by its keys, of other structures by the way to each (`0`, `pose/1`).

    A single output is called `output`.
    """
    if isinstance(outputs, Mapping) and not any(keras.tree.is_nested(output) for output in outputs.values()):
        return outputs
    paths = keras.tree.flatten_with_path(outputs)
    return {"/".join(map(str, path)) or "output": output for path, output in paths}


def mask_of(tensor: Any) -> Any | None:
    """Returns the mask that Keras has attached to a tensor; None where there is none."""
    return getattr(tensor, _ATTRIBUTE, None)


def let_through(model: keras.Model) -> keras.Model:
    """Returns a model set to leave masks to its layers, where it is called on tensors that have one.

    Keras would warn that such a model drops masks; of one that says it supports them, it would put the input's mask on
    outputs whose layer has ended it.
    """
    model.supports_masking = True
    model.compute_mask = lambda inputs, previous_mask=None: None
    return model


def with_mask(tensor: Any, mask: Any | None) -> Any:
    """Returns the tensor with a mask attached as Keras' layers do, which those after it read."""
    if mask is not None:
        setattr(tensor, _ATTRIBUTE, mask)
    return tensor
