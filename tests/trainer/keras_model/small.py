"""A small Keras model with two outputs and its data, as arrays."""

from typing import Any

import keras
import numpy as np

BATCH = 12
EXAMPLES = 50  # four batches and two examples
CLASSES = 4
LOSSES = {"kind": "sparse_categorical_crossentropy", "size": "mse"}


def arrays(examples: int = EXAMPLES) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Inputs (examples, 6) and targets: classes, and two numbers."""
    random = np.random.RandomState(7)
    inputs = random.normal(size=(examples, 6))
    return inputs, {"kind": np.argmax(inputs[:, :CLASSES], 1), "size": inputs[:, :2] * inputs[:, 2:4]}


def weights(examples: int = EXAMPLES) -> dict[str, np.ndarray]:
    """A positive weight for each example and target."""
    random = np.random.RandomState(8)
    return {name: random.uniform(0.1, 2, examples) for name in LOSSES}


def model(model_class: type[keras.Model], *layers: keras.layers.Layer) -> keras.Model:
    """Returns a model that begins with the same variables each time; further layers stand before the outputs."""
    keras.utils.set_random_seed(9)
    inputs = keras.Input((6,), name="inputs")
    hidden = keras.layers.Dense(8, activation="tanh", name="hidden")(inputs)
    for layer in layers:
        hidden = layer(hidden)
    outputs = {
        "kind": keras.layers.Dense(CLASSES, activation="softmax", name="kind")(hidden),
        "size": keras.layers.Dense(2, name="size")(hidden),
    }
    return model_class(inputs, outputs)


def compiled(model_class: type[keras.Model], *layers: keras.layers.Layer, **more: Any) -> keras.Model:
    """The same, compiled; `more` are further arguments of `compile`, or others in place of these."""
    built = model(model_class, *layers)
    built.compile(**{"optimizer": keras.optimizers.Adam(0.01), "loss": LOSSES, "metrics": {"kind": "accuracy"}} | more)
    return built


def assert_same_variables(ours: keras.Model, theirs: keras.Model, tolerance: float = 1e-9) -> None:
    """All variables are equal to a tolerance; 0: to the bit."""
    for own, other in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(own, other, rtol=0, atol=tolerance, err_msg=own.path)
