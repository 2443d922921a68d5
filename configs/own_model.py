"""A model of your own, by import path: any Keras model that returns a dictionary of heads.

The data and the losses are those of `configs/own_arrays.py`.

python -m trainer.main --config=configs/own_model.py
"""

import keras
import ml_collections

from configs import own_arrays


def build(units: int) -> keras.Model:
    """One hidden layer beside the inputs themselves, and two heads by name."""
    inputs = keras.Input((12,), name="features")
    hidden = keras.layers.Dense(units, activation="relu")(inputs)
    trunk = keras.layers.Concatenate()([inputs, hidden])
    heads = {"cultivar": 3, "alcohol": 1}
    return keras.Model(inputs, {name: keras.layers.Dense(size, name=name)(trunk) for name, size in heads.items()})


def get_config() -> ml_collections.ConfigDict:
    """The wine with the model above."""
    config = own_arrays.get_config()
    config.model = {"name": "configs.own_model:build", "options": {"units": 32}}  # in a copy: my_file:build
    return config
