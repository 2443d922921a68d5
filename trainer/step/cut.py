"""Cuts a model at the last representation that all of its heads share."""

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
      ConfigError: there is no such tensor but the input, or the model is not a functional one.
    """
    try:
        inputs, outputs = model.input, model.output
    except AttributeError as error:
        raise ConfigError(
            "reduction", "features", f"needs a functional Keras model, which {model.name!r} is not"
        ) from error
    finals = {id(output) for output in tf.nest.flatten(outputs)}
    for layer in reversed(model.layers):
        if isinstance(layer, keras.layers.InputLayer):
            continue
        try:
            features = layer.output
            if isinstance(features, keras.KerasTensor) and id(features) not in finals:
                mask = mask_of(features)
                cut = [features] if mask is None else [features, mask]  # heads take it as one more of their inputs
                return CutModel(keras.Model(inputs, cut), let_through(keras.Model(cut, outputs)))
        except (AttributeError, ValueError):  # a layer used more than once; outputs that need more than these features
            continue
    raise ConfigError(
        "reduction", "features", f"needs a trunk: the heads of {model.name!r} share nothing but the input"
    )
