"""An autoencoder with losses of several heads, inputs, layers, derivatives and of what layers add."""

import copy
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from input_pipelines.examples import Examples
from tests import problems

HERE = "tests.properties.reading_losses"
STEPS, RATE = 30, 1 / 16


def load() -> dict[str, Examples]:
    """Pictures, times and noise; a class of which some are missing, and a number of which others are."""
    return {"train": _split(40, 1), "validation": _split(17, 2)}


def _split(count: int, seed: int) -> Examples:
    random = np.random.RandomState(seed)
    inputs = {"image": random.normal(size=(count, 6)), "time": random.uniform(size=(count, 1))}
    inputs["noise"] = random.normal(size=(count, 2))
    targets = {"digit": np.argmax(inputs["image"][:, :3], 1), "number": inputs["image"].sum(1)}
    weights = {"digit": random.uniform(0.5, 2, count) * (random.uniform(size=count) < 0.6)}
    weights["number"] = (random.uniform(size=count) < 0.7).astype(np.float64)
    return Examples(inputs, targets, weights)


class Adding(keras.layers.Layer):
    """Adds a loss in every call, and nothing to what it is given."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        self.add_loss(tf.reduce_mean(tf.square(inputs - 1.0)))
        return inputs


def autoencoder() -> keras.Model:
    """An autoencoder with a classifier on its code, and a field over time; noise is an input, so that it is known."""
    image, time, noise = (keras.Input((size,), name=name) for name, size in SIZES.items())
    hidden = keras.layers.Dense(
        5, activation="tanh", activity_regularizer=keras.regularizers.L2(0.125), name="encoder"
    )(image)
    mu, log_sigma = (keras.layers.Dense(2, name=name)(hidden) for name in ("mu", "log_sigma"))
    adding = Adding(name="adding")
    code = adding(adding(mu) + keras.ops.exp(log_sigma) * noise)
    field = keras.layers.Dense(4, activation="tanh", name="field_hidden")(keras.layers.Concatenate()([hidden, time]))
    heads = {
        "mu": mu,
        "log_sigma": log_sigma,
        "reconstruction": keras.layers.Dense(6, name="reconstruction")(code),
        "digit": keras.layers.Dense(3, name="digit")(mu),
        "field": keras.layers.Dense(1, name="field")(field),
        "untrained": keras.layers.Softmax(name="untrained")(hidden),
    }
    return keras.Model({"image": image, "time": time, "noise": noise}, heads, name="autoencoder")


SIZES = {"image": 6, "time": 1, "noise": 2}


def kl(mu: tf.Tensor, log_sigma: tf.Tensor, scale: float = 1.0) -> tf.Tensor:
    """The divergence of a normal distribution from the standard one, of each example."""
    return scale * 0.5 * tf.reduce_sum(mu**2 + tf.exp(2 * log_sigma) - 1 - 2 * log_sigma, -1)


def agreement(mu: tf.Tensor, logits: tf.Tensor, digit: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    """Compares two heads, of examples that have both labels."""
    chosen = tf.gather(logits, digit, batch_dims=1)
    return (chosen - mu[:, 0] - 0.1 * number) ** 2


def residual(u: tf.Tensor, time: tf.Tensor, derivative: Any) -> tf.Tensor:
    """The differential equation u'' + u' + u = sin(t)."""
    first = derivative(u, time)
    return tf.reduce_sum(derivative(first, time) + first + u - tf.sin(time), -1) ** 2


def sparsity(code: tf.Tensor) -> tf.Tensor:
    """The sum of a layer's output, without signs."""
    return tf.reduce_sum(tf.abs(code), -1)


LOSSES = {
    "digit": {"loss": {"name": "sparse_categorical_crossentropy", "from_logits": True}, "metrics": ["accuracy"]},
    "kl": {
        "loss": {"name": f"{HERE}:kl", "scale": 0.5},
        "reads": {"mu": "heads.mu", "log_sigma": "heads.log_sigma"},
        "weight": 0.25,
    },
    "reconstruction": {
        "loss": "mse",
        "reads": {"y_true": "inputs.image", "y_pred": "heads.reconstruction"},
        "weight": 2.0,
    },
    "agreement": {
        "loss": f"{HERE}:agreement",
        "reads": {"mu": "heads.mu", "logits": "heads.digit", "digit": "targets.digit", "number": "targets.number"},
        "weight": 0.75,
    },
    "residual": {"loss": f"{HERE}:residual", "reads": {"u": "heads.field", "time": "inputs.time"}, "weight": 0.125},
    "sparsity": {"loss": f"{HERE}:sparsity", "reads": {"code": "layers.encoder"}, "weight": 0.0625},
    "adding": {"from": "adding", "weight": 0.5},
    "others": {"from": "model", "weight": 0.625},
}


def tree(**changes: Any) -> dict[str, Any]:
    """The configuration as a nested dictionary; `a__b=value` sets `a.b`."""
    result = {
        "precision": "float64",
        "batch_size": 12,
        "steps": STEPS,
        "dataset": {"name": f"{HERE}:load"},
        "model": {"name": f"{HERE}:autoencoder"},
        "losses": copy.deepcopy(LOSSES),
        "metrics": {"sum": {"head": "field", "target": "number", "metrics": ["mae"], "weighted_metrics": ["mse"]}},
        "optimizer": {"name": "sgd", "learning_rate": RATE},
    }
    return problems.changed(result, changes)
