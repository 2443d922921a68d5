"""Models cut at the last representation that all heads share."""

import keras
import numpy as np
import pytest

from trainer.common.errors import ConfigError
from trainer.step import cut


def _nested(inputs):
    """A backbone that is one layer of the model, and its output."""
    within = keras.Input((3,))
    backbone = keras.Model(within, keras.layers.Dense(4, activation="tanh")(within))
    return backbone(inputs)


def _called_twice(inputs):
    """A layer that comes twice, with another between."""
    shared = keras.layers.Dense(3, activation="tanh")
    return shared(keras.layers.Dense(3)(shared(inputs)))


@pytest.mark.parametrize("trunk", [_nested, _called_twice])
def test_cut_at_what_the_heads_share(trunk):
    inputs = keras.Input((3,))
    features = trunk(inputs)
    model = keras.Model(inputs, {"a": keras.layers.Dense(2)(features), "b": keras.layers.Dense(1)(features)})
    parts = cut.split(model)
    values = np.random.RandomState(0).normal(size=(5, 3))
    (given,) = keras.tree.flatten(parts.trunk(values))
    np.testing.assert_array_equal(given, keras.Model(inputs, features)(values))
    outputs = parts.heads(given)
    for head, expected in model(values).items():
        np.testing.assert_array_equal(outputs[head], expected)


class _Doubled(keras.Model):
    def call(self, inputs, training=None, mask=None):
        return {head: 2 * output for head, output in super().call(inputs, training=training, mask=mask).items()}


def test_a_model_with_a_call_of_its_own_is_not_cut():
    inputs = keras.Input((3,))
    features = _nested(inputs)
    model = _Doubled(inputs, {"a": keras.layers.Dense(2)(features), "b": keras.layers.Dense(1)(features)})
    assert type(model).call is not type(keras.Model(inputs, features)).call
    with pytest.raises(ConfigError, match="has a `call` of its own"):
        cut.split(model)
