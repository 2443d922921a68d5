"""A model's answer as losses and metrics read it: in full precision, with the masks that Keras attaches."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

_ATTRIBUTE = "_keras_mask"  # where Keras keeps the mask of a tensor


class Predictions(NamedTuple):
    """The outputs of a model for some examples, and their masks; and of its layers and inputs what losses read.

    Attributes:
      outputs: head name → output, batch first; half-precision ones as float32.
      masks: head name → bool tensor of the first axes of its output, False where a step is masked; only of heads that
        have a mask.
      layers: layer name → its output, as `outputs`; only of layers that a loss reads.
      layer_masks: layer name → mask, as `masks`.
      inputs: input name → what the model was called with; of one without a name, the name "".
      added: layer name in `losses.<name>.from` → scalar, the sum of what these layers added; only of those that did.
      unnamed: the names of layers that added what no loss names.
      tape: records the call, where a loss asks for derivatives; persistent, not recording now.
    """

    outputs: Mapping[str, tf.Tensor]
    masks: Mapping[str, tf.Tensor]
    layers: Mapping[str, tf.Tensor] = {}
    layer_masks: Mapping[str, tf.Tensor] = {}
    inputs: Mapping[str, tf.Tensor] = {}
    added: Mapping[str, tf.Tensor] = {}
    unnamed: tuple[str, ...] = ()
    tape: tf.GradientTape | None = None


def of(outputs: Any, inputs: Any = None) -> Predictions:
    """Takes each output and its mask apart, so that no function applies the mask a second time.

    Args:
      outputs: head name → what the model returned for it; or what `by_head` takes.
      inputs: a tensor or a dictionary of tensors, what the model was called with; None: no loss reads it.
    """
    return Predictions(*apart(by_head(outputs)), inputs=named_inputs(inputs))


def named_inputs(inputs: Any) -> dict[str, Any]:
    """The inputs of a model by name; one that has none, by the name ""; several that have none by their places."""
    if inputs is None or isinstance(inputs, Mapping):
        return dict(inputs or {})
    return {"/".join(map(str, path)): each for path, each in keras.tree.flatten_with_path(inputs)}


def apart(outputs: Mapping[str, Any]) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """Returns name → output and name → mask, as `Predictions` has them."""
    masks = {head: mask for head, output in outputs.items() if (mask := mask_of(output)) is not None}
    full = {}
    for head, output in outputs.items():
        if output.dtype in (tf.float16, tf.bfloat16):  # `precision: mixed_...`; losses need more
            full[head] = tf.cast(output, tf.float32)
        else:
            full[head] = tf.identity(output) if head in masks else output
    return full, {head: tf.cast(mask, tf.bool) for head, mask in masks.items()}


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
