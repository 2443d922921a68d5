"""Cuts a model at the last representation that all of its heads share."""

from collections.abc import Iterator
from typing import NamedTuple

import keras
import tensorflow as tf

from trainer.common.errors import ConfigError
from trainer.components.predictions import let_through, mask_of


class CutModel(NamedTuple):
    """A model in two parts.

    Attributes:
      trunk: inputs → the features, and after them their mask where they have one.
      heads: features and mask, as the trunk gives them → outputs by head.
    """

    trunk: keras.Model
    heads: keras.Model


def split(model: keras.Model) -> CutModel:
    """Cuts a functional model at the last tensor that every output depends on through it alone.

    Raises:
      ConfigError: there is no such tensor but the input, or the model is not a functional one, or has a `call` of its
        own.
    """
    try:
        inputs, outputs = model.input, model.output
    except AttributeError as error:
        raise ConfigError(
            "reduction", "features", f"needs a functional Keras model, which {model.name!r} is not"
        ) from error
    if type(model).call not in (type(keras.Model(inputs, inputs)).call, keras.Sequential.call):
        reason = f"needs a functional Keras model, and {model.name!r} has a `call` of its own"
        raise ConfigError("reduction", "features", reason)
    finals = {id(output) for output in tf.nest.flatten(outputs)}
    for features in _outputs_of_layers(model):
        if id(features) in finals:
            continue
        try:
            mask = mask_of(features)
            cut = [features] if mask is None else [features, mask]  # heads take it as one more of their inputs
            return CutModel(keras.Model(inputs, cut), let_through(keras.Model(cut, outputs)))
        except (AttributeError, ValueError):  # outputs that need more than these features
            continue
    raise ConfigError(
        "reduction", "features", f"needs a trunk: the heads of {model.name!r} share nothing but the input"
    )


def _outputs_of_layers(model: keras.Model) -> Iterator[keras.KerasTensor]:
    """The outputs of layers that have one, from the model's end; `layer.output` of a nested model is within that."""
    for _, nodes in sorted(model._nodes_by_depth.items()):
        for node in reversed(nodes):
            is_layer = isinstance(node.operation, keras.layers.Layer)
            if is_layer and not node.is_input and len(node.outputs) == 1:
                yield node.outputs[0]
