"""Models of the tests' own with layers within layers, as a user writes them."""

import keras
from keras import layers


class Block(layers.Layer):
    """Two layers and a variable of its own."""

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = layers.Dense(units)
        self.norm = layers.BatchNormalization(synchronized=True)

    def build(self, shape):
        self.dense.build(shape)
        self.norm.build((None, self.units))
        self.scale = self.add_weight(shape=(self.units,), name="scale")

    def call(self, inputs, training=None):
        return self.norm(self.dense(inputs), training=training) * self.scale


class Code(keras.Model):
    """A model that is code: an encoder within it, heads in a dictionary, a block in a list."""

    def __init__(self):
        super().__init__(name="code")
        self.encoder = keras.Sequential([Block(5), layers.Dropout(0.1)], name="encoder")
        self.outputs_by_head = {"label": layers.Dense(4), "number": layers.Dense(1)}
        self.blocks = [Block(3)]

    def call(self, inputs, training=None):
        encoded = self.encoder(inputs, training=training)
        heads = {head: layer(encoded) for head, layer in self.outputs_by_head.items()}
        return heads | {"vector": self.blocks[0](encoded, training=training)}


def code() -> keras.Model:
    model = Code()
    model(keras.Input((6,)))
    return model


def graph() -> keras.Model:
    """Layers as a graph: an encoder for all heads, a layer for two of three, one that is not trained."""
    inputs, inside = keras.Input((6,), name="features"), keras.Input((6,))
    encoder = keras.Model(inside, layers.Dense(5)(layers.Dense(4)(inside)), name="encoder")
    encoded = encoder(inputs)
    frozen = layers.Dense(3, trainable=False, name="frozen")(encoded)
    between = layers.Dense(2, name="between")(frozen)
    heads = {"label": layers.Dense(4)(between), "number": layers.Dense(1)(between), "vector": layers.Dense(3)(encoded)}
    return keras.Model(inputs, heads, name="graph")


def graph_with_a_spare_input() -> keras.Model:
    """Two inputs, of which no head needs the second."""
    inputs = {"features": keras.Input((6,), name="features"), "spare": keras.Input((2,), name="spare")}
    encoded = layers.Dense(5, name="encoder")(inputs["features"])
    heads = {"label": layers.Dense(4)(encoded), "number": layers.Dense(1)(encoded)}
    return keras.Model(inputs, heads, name="graph")
