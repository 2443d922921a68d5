"""Variables that stay as they are, by patterns of their names."""

import keras
import pytest

from trainer.common.errors import ConfigError
from trainer.models import freezing
from trainer.models.names import variables_by_name


def _model() -> keras.Model:
    inputs = keras.Input((3,))
    hidden = keras.layers.BatchNormalization(name="scale")(keras.layers.Dense(4, name="dense")(inputs))
    backbone = keras.Model(inputs, keras.layers.Dropout(0.5, name="drop")(hidden), name="backbone")
    outer = keras.Input((3,))
    return keras.Model(outer, {"a": keras.layers.Dense(1, name="a")(backbone(outer))})


@pytest.mark.parametrize(
    ("chosen", "trained", "layers"),
    [
        ([], {"dense/kernel", "dense/bias", "scale/gamma", "scale/beta", "a/kernel", "a/bias"}, set()),
        (["backbone/*"], {"a/kernel", "a/bias"}, {"backbone", "dense", "scale", "drop"}),
        (["*/dense/*", "a/bias"], {"scale/gamma", "scale/beta", "a/kernel"}, {"dense"}),
        (["*/kernel", "*/gamma"], {"dense/bias", "scale/beta", "a/bias"}, set()),
        (["backbone/scale/*"], {"dense/kernel", "dense/bias", "a/kernel", "a/bias"}, {"scale"}),
    ],
)
def test_frozen_variables_and_layers(chosen, trained, layers):
    """A layer is frozen, and batch normalization in inference mode with it, where all its variables match."""
    model = _model()
    freezing.freeze(model, chosen)
    ours = {id(variable): name.removeprefix("backbone/") for name, variable in variables_by_name(model).items()}
    assert {ours[id(variable)] for variable in model.trainable_variables} == trained
    parts = [layer for layer in model._flatten_layers() if not isinstance(layer, keras.layers.InputLayer)]
    assert {layer.name for layer in parts if not layer.trainable} == layers
    assert model.trainable


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (["a/*", "nothing*"], r"freeze.1='nothing\*': matches none of the variables: a/bias, a/kernel, backbone/"),
        (["*/moving_mean"], "freeze='backbone/scale/moving_mean': is changed by its layer itself"),
    ],
)
def test_what_cannot_be_frozen(chosen, message):
    with pytest.raises(ConfigError, match=message):
        freezing.freeze(_model(), chosen)
