"""Keras' files of weights: their values have the names that a run gives to the same layers."""

import zipfile

import h5py
import keras
import numpy as np
import pytest

from trainer.common.errors import ConfigError
from trainer.models import names, weight_files
from trainer.models.recomputation import Recomputed


class Blocks(keras.layers.Layer):
    """Layers in lists, a dictionary and attributes that come in another order by their names, and a weight."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.steps = [keras.layers.Dense(3), keras.layers.Dense(3, name="given"), keras.layers.Dense(3)]
        self.second = keras.layers.Dense(3)
        self.first = keras.layers.Dense(3)
        self.by_key = {"b": keras.layers.Dense(3), "a": [keras.layers.Dense(3)]}
        self.cell = keras.layers.LSTMCell(2)
        self.scale = keras.layers.LayerNormalization(name="scale_7")

    def build(self, shape):
        self.bias = self.add_weight(shape=(3,), name="bias")
        self.cell.build((None, 3))
        self.scale.build((None, 3))
        for step in self._all():
            step.build((None, 3))

    def call(self, inputs):
        for step in self._all():
            inputs = step(inputs)
        return self.scale(inputs) + self.bias

    def _all(self):
        return (*self.steps, self.second, self.first, self.by_key["b"], *self.by_key["a"])


def _model(recomputed: bool = False) -> keras.Model:
    picture = keras.Input((4, 4, 3))
    hidden = keras.layers.Conv2DTranspose(3, 3, padding="same")(picture)
    hidden = keras.layers.BatchNormalization()(keras.layers.Conv2D(3, 3, name="first")(hidden))
    hidden = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(hidden))
    for _ in range(11):  # dense_10 comes before dense_2 in the file
        hidden = keras.layers.Dense(3, use_bias=False)(hidden)
    encoder = keras.Model(picture, hidden, name="encoder")
    inputs = keras.Input((4, 4, 3))
    code = Blocks()(encoder(inputs))
    rows = keras.layers.Reshape((3, 1))(code)
    both = keras.layers.Bidirectional(keras.layers.GRU(2))(rows)
    attended = keras.layers.MultiHeadAttention(2, 2)(rows, rows)
    shared, three = keras.layers.Dense(3), [keras.layers.Dense(3), keras.layers.Dense(3), keras.layers.Dense(3)]
    nested = keras.Sequential([shared, *three])  # the file has the shared layer outside alone
    if recomputed:
        nested(shared(code))
        nested = keras.Sequential([shared, Recomputed(three[:2], (None, 3)), three[2]])
    return keras.Model(inputs, {"a": keras.layers.Dense(1)(both), "b": nested(shared(code)), "c": attended})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model with different values everywhere, compiled and saved as both kinds of file."""
    folder, model = tmp_path_factory.mktemp("saved"), _model()
    random = np.random.RandomState(1)
    model.set_weights([random.normal(size=value.shape) for value in model.get_weights()])
    model.compile("adam", "mse", metrics={"b": ["mae"]})
    model.optimizer.build(model.trainable_variables)
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    return model, folder


@pytest.mark.parametrize("suffix", [weight_files.ARCHIVE, weight_files.WEIGHTS])
def test_values_have_the_names_of_a_run(saved, suffix):
    model, folder = saved
    values = weight_files.read(folder / f"model{suffix}", "init_from", "x")
    other = _model()  # whose layers Keras counts on
    there = weight_files.names_in_files(other)
    assert set(values) <= set(there)
    expected = {name: variable.numpy() for name, variable in names.variables_by_name(model).items()}
    assert {there[key] for key in values} == set(expected) == set(names.variables_by_name(other))
    for key, value in values.items():
        np.testing.assert_array_equal(value, expected[there[key]], err_msg=key)
    known = {"encoder/dense_10/0", "blocks/steps/given/1", "blocks/steps/dense_1/1", "blocks/cell/2"}
    assert known | {"sequential/dense_1/0", "blocks/by_key/dense/0"} <= set(values)
    assert there["blocks/by_key/b/0"] == there["blocks/by_key/dense/0"]  # a run's path stands for it, too


def test_layers_that_are_computed_again_have_the_same_names(saved):
    model, _ = saved
    assert weight_files.names_in_files(_model(recomputed=True)) == weight_files.names_in_files(model)


def test_half_precision_is_read(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, dtype="bfloat16")])
    model.save_weights(tmp_path / "a.weights.h5")
    read = weight_files.read(tmp_path / "a.weights.h5", "init_from", "x")
    assert read["dense/0"].dtype.name == "bfloat16"
    np.testing.assert_array_equal(read["dense/0"].astype(float), model.get_weights()[0].astype(float))


def _elsewhere(file, secret):
    with h5py.File(file, "w") as opened:
        group = opened.create_group("layers/dense/vars")
        group.create_dataset("0", (2,), "f4", external=[(str(secret), 0, 8)])


def _without_values(file, secret):
    with h5py.File(file, "w") as opened:
        opened["layers/dense/vars/0"] = h5py.ExternalLink(str(secret), "x")


def _torn(file, secret):
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]).save_weights(file)
    file.write_bytes(file.read_bytes()[:900])


def _no_weights(file, secret):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", "{}")


@pytest.mark.parametrize(
    ("name", "write", "reason"),
    [
        ("a.weights.h5", _elsewhere, "lies in another file"),
        ("a.weights.h5", _without_values, "no variables"),
        ("a.weights.h5", _torn, "truncated file"),
        ("a.keras", _no_weights, "no item named 'model.weights.h5'"),
        ("a.keras", lambda file, secret: file.write_text("no archive"), "not a zip file"),
    ],
)
def test_other_files_are_refused(tmp_path, name, write, reason):
    (tmp_path / "secret").write_bytes(b"abcdefgh")
    write(tmp_path / name, tmp_path / "secret")
    with pytest.raises(ConfigError, match=f"init_from.path='x': is no .*file that can be read: .*{reason}"):
        weight_files.read(tmp_path / name, "init_from.path", "x")
