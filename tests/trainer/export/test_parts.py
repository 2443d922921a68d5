"""Parts of exports: what a graph must not have, models of Keras' own layers, names of inputs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from input_pipelines import raw_features
from input_pipelines.configuration import InputConfig
from input_pipelines.preparation import building
from input_pipelines.preparation.preparation import Preparation
from input_pipelines.sources.source import Arrays
from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.export import foreign_operations, keras_file
from trainer.export.trained import Trained
from trainer.models import plain_layers
from trainer.models.embeddings import CategoricalEmbedding
from trainer.models.recomputation import in_segments


def doubled(values: tf.Tensor) -> tf.Tensor:
    """Twice the values, by Python."""
    result = tf.py_function(lambda each: 2 * each, [values], values.dtype)
    result.set_shape(values.shape)
    return result


class Foreign(keras.layers.Layer):
    """Calls Python, or draws, as `what` says."""

    def __init__(self, what: str, **kwargs):
        super().__init__(**kwargs)
        self.what, self.seeds = what, keras.random.SeedGenerator(0)

    def call(self, inputs):
        if self.what == "draws":
            return inputs + keras.random.normal(tf.shape(inputs), seed=self.seeds)
        if self.what == "loop":
            return tf.map_fn(lambda row: tf.numpy_function(np.negative, [row], tf.float32), inputs)
        return tf.numpy_function(np.negative, [inputs], tf.float32)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (
            "python",
            "^--format='onnx': .*its model calls Python .*foreign.*; use operations of TensorFlow or Keras there",
        ),
        ("loop", "^--format='onnx': .*its model calls Python .*; use operations of TensorFlow or Keras there"),
        ("draws", "^--format='onnx': .*its model draws random numbers when it predicts, in .*foreign"),
    ],
)
def test_a_model_that_no_other_process_can_run_is_refused(what, reason):
    layer = Foreign(what, name="foreign")
    traced = tf.function(layer, autograph=False).get_concrete_function(tf.TensorSpec((None, 3)))
    with pytest.raises(ConfigError, match=reason):
        foreign_operations.refuse(traced, "onnx")


def test_what_calls_python_in_the_preparation_is_named():
    source = Arrays({"x": np.arange(4.0), "y": np.arange(4.0)}, row=str)
    read = schema.record(InputConfig)
    names = {
        name: [{"name": "scale", "by": 2.0}, *own]
        for name, own in (("x", []), ("y", [{"name": f"{__name__}:doubled"}]))
    }
    chains = {
        name: building._chain(read({"prepare": prepare}, name), f"dataset.inputs.{name}", name, source)
        for name, prepare in names.items()
    }
    learned = {chain.field: [{}] * len(chain.operations) for chain in chains.values()}
    foreign_operations.refuse_in_preparation(Preparation({"x": chains["x"]}, {}, learned, source.features))
    with pytest.raises(ConfigError, match=r"^dataset\.inputs\.y\.prepare\.1='doubled': calls Python"):
        foreign_operations.refuse_in_preparation(Preparation(chains, {}, learned, source.features))


def _model() -> keras.Model:
    """Embedded categories beside numbers, then layers that are computed again, one of them of random draws."""
    numbers, categories = keras.Input((3,), name="numbers"), keras.Input((2,), dtype="int64", name="categories")
    embedded = CategoricalEmbedding((3, 4), 5, name="embedding_categories")(categories)
    tensor = keras.layers.Concatenate()([numbers, embedded])
    layers, source = [keras.layers.Dense(6, activation="tanh"), keras.layers.BatchNormalization()], tensor
    layers += [keras.layers.Dropout(0.5), keras.layers.Dense(4)]
    for layer in layers:
        tensor = layer(tensor)
    shared = keras.Model({"numbers": numbers, "categories": categories}, in_segments(layers, source), name="inner")
    return keras.Model(shared.input, {"head": keras.layers.Dense(2)(shared(shared.input))})


def test_layers_of_this_project_become_keras_own(tmp_path):
    """Also within a model in the model; Keras loads the file, which names nothing else, and gives the same bits."""
    model = _model()
    random = np.random.RandomState(0)
    model.set_weights([random.uniform(0.5, 1, each.shape) for each in model.get_weights()])
    assert plain_layers.others(model) == [
        "trainer.models.embeddings:CategoricalEmbedding",
        "trainer.models.recomputation:Recomputed",
    ]
    spec = {each.name: tf.TensorSpec((None, *each.shape[1:]), each.dtype) for each in model.inputs}
    keras_file.write(Trained("run", 1, "float32", model, spec, {}, None, ()), tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert plain_layers.others(loaded) == []
    given = {"numbers": random.normal(size=(7, 3)).astype("float32"), "categories": random.randint(0, 3, (7, 2))}
    np.testing.assert_array_equal(loaded(given)["head"], model(given)["head"])


def test_a_layer_that_no_module_holds_is_refused_for_keras(tmp_path):
    class Local(keras.layers.Layer):
        def call(self, inputs):
            return inputs

    inputs = keras.Input((3,))
    model = keras.Model(inputs, {"head": Local()(inputs)})
    made = Trained("run", 1, "float32", model, tf.TensorSpec((None, 3)), {}, None, ())
    with pytest.raises(ConfigError, match="^--format='keras': .* a class of your own that no module holds"):
        keras_file.write(made, tmp_path / "model.keras")
    assert not list(tmp_path.iterdir())


def test_inputs_have_names_that_a_signature_can_have():
    names = raw_features.names(["a b", "a/b", "a_b", "größe", "1st", "%", "_", "feature_class", "feature_self", "x"])
    assert list(names.values()) == [
        "a_b",
        "a_b_2",
        "a_b_3",
        "gr__e",
        "feature_1st",
        "feature",
        "feature_2",
        "feature_class",
        "feature_self",
        "x",
    ]
    specs = {name: tf.TensorSpec((None,)) for name in names.values()}
    module = tf.Module()
    module.function = tf.function(lambda **given: dict(given), autograph=False).get_concrete_function(**specs)
    assert set(module.function.structured_input_signature[1]) == set(specs)
