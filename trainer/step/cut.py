"""Cuts a model at the last representation that all of its heads share."""

from typing import NamedTuple

import keras
import tensorflow as tf

from trainer.common.errors import ConfigError


class CutModel(NamedTuple):
    """A model in two parts: inputs → features, and features → outputs by head."""

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
                return CutModel(keras.Model(inputs, features), keras.Model(features, outputs))
        except (AttributeError, ValueError):  # a layer used more than once; outputs that need more than these features
            continue
    raise ConfigError(
        "reduction", "features", f"needs a trunk: the heads of {model.name!r} share nothing but the input"
    )
