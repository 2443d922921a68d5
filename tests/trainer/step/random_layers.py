"""Layers and losses that draw random numbers, right and wrong, by import path; and a small problem for them."""

from typing import Any

import keras
import tensorflow as tf

_HERE = "tests.trainer.step.random_layers"


class AlwaysNoisy(keras.layers.Layer):
    """Draws in evaluation as in training, from a generator of its own and by dropout."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1)
        self.dropout = keras.layers.Dropout(0.5)

    def call(self, inputs: Any) -> Any:
        noise = keras.random.normal(tf.shape(inputs), seed=self.seed_generator, dtype=inputs.dtype)
        return self.dropout(inputs + 0.1 * noise, training=True)


class Stateful(keras.layers.Layer):
    """Draws from TensorFlow's state."""

    def call(self, inputs: Any) -> Any:
        return inputs + tf.random.normal(tf.shape(inputs), dtype=inputs.dtype)


class Nested(keras.layers.Layer):
    """Draws within a condition within a loop, and in a layer of its own."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.inner = Stateful(name="inner")

    def call(self, inputs: Any) -> Any:
        def one(row: Any) -> Any:
            return tf.cond(tf.reduce_sum(row) > 0, lambda: row * tf.random.uniform([], dtype=row.dtype), lambda: row)

        return self.inner(tf.map_fn(one, inputs))


class OfTensorFlow(keras.layers.Layer):
    """Draws from a generator of TensorFlow, in a function of its own."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.generator = tf.random.Generator.from_seed(1)

    @tf.function
    def call(self, inputs: Any) -> Any:
        return tf.nn.dropout(inputs + self.generator.normal(tf.shape(inputs), dtype=inputs.dtype), 0.5)


class WithoutSeed(keras.layers.Layer):
    """Draws from Keras' own generator."""

    def call(self, inputs: Any) -> Any:
        return inputs + keras.random.normal(tf.shape(inputs), dtype=inputs.dtype)


_of_the_module = []


def noisy_loss(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    """Draws from TensorFlow's state and from a generator that no layer holds."""
    if not _of_the_module:
        with tf.init_scope():
            _of_the_module.append(keras.random.SeedGenerator(2))
    noise = keras.random.normal([1], seed=_of_the_module[0], dtype=target.dtype)
    return tf.reduce_mean(tf.square(tf.random.shuffle(target) + noise - prediction), axis=-1)


def tree(trunk: list[Any], loss: str = "mse", **more: Any) -> dict[str, Any]:
    """A configuration of two losses; a layer of the trunk is one of this module's, or one of Keras'."""
    heads = {name: [{"layer": "Dense", "units": units}] for name, units in {"number": 1, "vector": 3}.items()}
    layers = [{"layer": f"{_HERE}:{layer}"} if isinstance(layer, str) else layer for layer in trunk]
    losses = {name: {"head": name, "target": name, "loss": "mse"} for name in heads}
    losses["vector"]["loss"] = loss
    return {
        "batch_size": 12,
        "dataset": {"name": "tests.problems:load"},
        "model": {"trunk": layers, "heads": heads},
        "losses": losses,
        **more,
    }
