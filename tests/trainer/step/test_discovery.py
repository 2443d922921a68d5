"""The losses' reach, variable by variable, and losses and models that cannot be used."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import eager, problems
from trainer.common.errors import ConfigError
from trainer.config import loading
from trainer.run import experiment


def _reach(**changes) -> dict[str, tuple[str, ...]]:
    built = experiment.build(problems.config(**changes), problems.strategy(2))
    reach = built.step.reach
    return {name: tuple(problems.LOSSES[k] for k in by) for name, by in zip(reach.names, reach.losses, strict=True)}


def test_trunk_private_layers_and_heads():
    reach = _reach()
    assert reach["trunk_0_dense/kernel"] == problems.LOSSES
    assert reach["head_label_0_dense/kernel"] == ("label",)
    assert reach["head_vector_0_dense/bias"] == ("vector", "vector_l1")


def test_any_architecture():
    reach = _reach(model={"name": "tests.problems:two_towers", "options": {"width": 3}})
    assert reach["left/kernel"] == ("label",)
    assert reach["right/kernel"] == ("number", "vector", "vector_l1")


def test_patterns_match_names_by_place():
    """Layers of nested models and layers that Keras names, however many it has named before, go by their place."""
    model = {"name": "tests.properties.test_resume:unnamed_layers"}
    everything = _reach(model=model)
    assert everything["encoder/dense_1/kernel"] == problems.LOSSES
    reach = _reach(model=model, losses__label__variables=["dense/*"], losses__number__variables=["encoder/dense/k*"])
    assert reach["dense/kernel"] == ("label",)
    assert reach["encoder/dense/kernel"] == ("number", "vector", "vector_l1")
    assert reach["encoder/dense_1/kernel"] == ("vector", "vector_l1")
    assert "dense_1/kernel" not in reach


def _with_layer(layer: dict) -> dict:
    return {"model__trunk": [{"layer": "Dense", "units": 4}, layer]}


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        (
            {
                "model__trunk": [],
                "model__heads": {k: [{"layer": "Dense", "units": 4}] for k in ("label", "vector")} | {"number": []},
            },
            "losses.number.target",
            "shape",
        ),
        ({"losses__number__loss": "tests.problems:scalar_loss"}, "losses.number.loss", "scalar"),
        ({"losses__number__loss": {"name": "dice"}}, "losses.number.loss", "scalar"),
        *[
            ({"losses__number__loss": f"tests.trainer.step.test_discovery:{name}"}, "losses.number.loss", words)
            for name in ("numpy_loss", "argmax_loss", "indexing_loss", "value_loss")
            for words in (name, "must use TensorFlow or Keras operations (tf.argmax, tf.gather) instead of NumPy")
        ],
        (
            {"losses__number__loss": "tests.trainer.step.test_discovery:averaged_loss"},
            "losses.number.loss",
            "one value per example",
        ),
        (
            {"losses__number__loss": "tests.trainer.step.test_discovery:broadcasting_loss"},
            "losses.number.loss",
            "one value per example",
        ),
        (_with_layer({"layer": "LSTM", "units": 2}), "model.trunk.1", "does not fit an input of shape (None, 4)"),
        (
            {"model": {"name": "tests.trainer.step.test_discovery:training_fails"}},
            "model",
            "fails with training=True: no luck",
        ),
        ({"model": {"name": "tests.trainer.step.test_discovery:wide_model"}}, "model.name", "does not take the inputs"),
        (
            {"model": {"name": "tests.trainer.step.test_discovery:list_model"}},
            "model.name",
            "dictionary from head names",
        ),
        (
            {"model": {"name": "tests.trainer.step.test_discovery:disconnected_model"}},
            "model.name",
            "raised ValueError: Output with path `label` is not connected to `inputs` (" + __file__,
        ),
        (
            {"model": {"name": "tests.trainer.step.test_discovery:sequential_model"}},
            "model.name",
            "dictionary from head",
        ),
        (
            {"model": {"name": "tests.problems:two_towers"}, "losses__number__head": "numbers"},
            "losses.number.head",
            "did you mean 'number'",
        ),
        ({"model": {"name": "math:pi"}}, "model.name", "must be a class or a function"),
        (
            {"losses__number__loss": "tests.trainer.step.test_discovery:stopped_loss"},
            "losses.number",
            "reaches no trainable variable",
        ),
        (_with_layer({"layer": "ActivityRegularization", "l2": 0.1}), "model", "add_loss"),
        (_with_layer({"layer": "Dense", "units": 4, "activity_regularizer": "l2"}), "model", "activity_regularizer"),
    ],
)
def test_what_cannot_be_used_is_named(changes, field, words):
    with pytest.raises(ConfigError) as caught:
        _reach(**changes)
    assert caught.value.field == field
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def numpy_loss(target, prediction):
    return np.square(np.asarray(target) - np.asarray(prediction))


def argmax_loss(target, prediction):
    weights = np.array([0.1, 0.9])[np.argmax(target, axis=-1)]
    return weights * keras.losses.binary_crossentropy(target, prediction)


def indexing_loss(target, prediction):
    weights = np.array([0.1, 0.9])[tf.argmax(prediction, axis=-1)]
    return weights * keras.losses.binary_crossentropy(target, prediction[:, 0])


def value_loss(target, prediction):
    return np.abs(target.numpy() - prediction.numpy())


def averaged_loss(target, prediction):
    return keras.ops.reshape(keras.ops.mean(keras.ops.square(target - prediction[:, 0])), (1,))


def broadcasting_loss(target, prediction):
    return keras.ops.square(target - prediction)  # (n,) - (n, 1)


class _FailsInTraining(keras.layers.Layer):
    def call(self, inputs, training=False):
        if training:
            raise RuntimeError("no luck")
        return inputs


class _Nested(keras.layers.Layer):
    """Computes in a function of its own."""

    def __init__(self, units, **arguments):
        super().__init__(**arguments)
        self.units = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")

    def call(self, inputs):
        return tf.function(lambda x: tf.matmul(x, self.kernel))(inputs)


def _heads(shared) -> dict:
    sizes = {"label": 4, "number": 1, "vector": 3}
    return {name: keras.layers.Dense(size, name=name)(shared) for name, size in sizes.items()}


def training_fails() -> keras.Model:
    inputs = keras.Input((6,))
    return keras.Model(inputs, _heads(_FailsInTraining()(inputs)))


def wide_model() -> keras.Model:
    inputs = keras.Input((9,))
    return keras.Model(inputs, _heads(inputs))


def disconnected_model() -> keras.Model:
    """Its heads start from inputs of their own."""
    return keras.Model(keras.Input((6,)), _heads(keras.Input((6,))))


def sequential_model() -> keras.Model:
    """Layers with the names of heads, one after another: a single output."""
    layers = [keras.layers.Dense(size, name=name) for name, size in (("number", 1), ("label", 4))]
    return keras.Sequential([keras.Input((6,)), *layers])


def list_model() -> keras.Model:
    inputs = keras.Input((6,))
    return keras.Model(inputs, list(_heads(inputs).values()))


def nested_model() -> keras.Model:
    inputs = keras.Input((6,))
    return keras.Model(inputs, _heads(_Nested(3, name="shared")(inputs)) | {"label": _Nested(4, name="alone")(inputs)})


def test_functions_within_the_model_hide_nothing():
    """Gradients through a nested tf.function are zeros, not None, for variables that a loss does not reach."""
    reach = _reach(model={"name": "tests.trainer.step.test_discovery:nested_model"})
    assert reach["alone/kernel"] == ("label",)
    assert reach["shared/kernel"] == ("number", "vector", "vector_l1")


def stopped_loss(target, prediction):
    return keras.ops.square(target - keras.ops.stop_gradient(prediction)[:, 0])


def test_a_head_without_variables_is_named():
    tree = problems.tree(model__trunk=[])
    tree["model"]["heads"]["number"] = [{"layer": "Lambda", "function": "x"}]
    tree["model"] = {"name": "tests.trainer.step.test_discovery:bare_model"}
    with pytest.raises(ConfigError, match="losses.number: reaches no trainable variable through head 'number'"):
        experiment.build(loading.resolve(tree), problems.strategy(1))


def bare_model() -> keras.Model:
    """The number's head is a column of the input."""
    inputs = keras.Input((6,))
    outputs = {"number": inputs[:, :1], "label": keras.layers.Dense(4)(inputs), "vector": keras.layers.Dense(3)(inputs)}
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize("replicas", [2, pytest.param(3, marks=pytest.mark.ci_only)])
def test_embeddings_train(replicas):
    """As on one: sparse gradients are made dense and combined like others; rows looked up twice count twice."""
    tree = {
        "batch_size": 6,
        "precision": "float64",
        "dataset": {"name": "tests.trainer.step.test_discovery:words"},
        "model": {
            "trunk": [{"layer": "Embedding", "input_dim": 5, "output_dim": 3}, {"layer": "Flatten"}],
            "heads": {"a": [{"layer": "Dense", "units": 1}], "b": [{"layer": "Dense", "units": 1}]},
        },
        "losses": {k: {"head": k, "target": k, "loss": "mse"} for k in ("a", "b")},
        "combine": {"name": "pcgrad"},
    }
    result = problems.train(experiment.build(loading.resolve(tree), problems.strategy(replicas)), 5)
    with eager.functions():
        reference = problems.train(experiment.build(loading.resolve(tree), problems.strategy(1)), 5)
    for name, value in reference.variables.items():
        np.testing.assert_allclose(result.variables[name], value, atol=1e-9)


def words():
    random = np.random.RandomState(0)
    inputs = random.randint(5, size=(12, 4))
    split = problems.Examples(inputs, {"a": inputs.sum(1, keepdims=True) * 1.0, "b": (inputs == 2).sum(1) * 1.0})
    return {"train": split, "validation": split}
