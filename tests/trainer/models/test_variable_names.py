"""Names of variables: the same in every build, whatever was built before.

`python -m tests.trainer.models.test_variable_names` rewrites the golden file.
"""

import json
import pathlib
from collections.abc import Iterator

import keras
import numpy as np
import pytest

from tests import problems
from trainer.common.errors import ConfigError
from trainer.models import names, trunk_and_heads
from trainer.models.recomputation import Recomputed
from trainer.output import checkpoint

GOLDEN = pathlib.Path(__file__).with_name("variable_names.json")
layers = keras.layers


def of_trunk_and_heads(**changes) -> keras.Model:
    return trunk_and_heads.build(problems.config(**changes).model, keras.KerasTensor((None, 6), "float32"))


def _encoder(inputs: keras.KerasTensor, name: str | None) -> keras.Model:
    inside = keras.Input(inputs.shape[1:])
    hidden = layers.Dense(3, name="first")(inside)
    return keras.Model(inside, layers.Dense(3)(layers.Dense(3)(hidden)), name=name)


def functional_nested() -> keras.Model:
    """A named model and two that Keras names; all have layers of the same names, which Keras' paths confuse."""
    inputs = keras.Input((4,))
    outputs = inputs
    for name in ("encoder", None, None):
        outputs = _encoder(outputs, name)(outputs)
    return keras.Model(inputs, keras.Sequential([layers.Dense(2), layers.Dense(1)])(outputs))


@pytest.fixture(autouse=True)
def float32() -> Iterator[None]:
    """Whatever precision an experiment of another test has left behind."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[1])


def _built(model: keras.Model, width: int = 4) -> keras.Model:
    model(np.zeros((1, width)))
    return model


class _Lists(keras.Model):
    """Layers in a list, in lists within one, in a tuple, in a private one, and one beside them."""

    def __init__(self):
        super().__init__()
        self.blocks = [layers.Dense(4), layers.Dense(4, name="second"), layers.Dense(4)]
        self.grid = [[layers.Dense(4)], [layers.Dense(4), layers.LayerNormalization()]]
        self.pair = (layers.Dense(4), self.blocks[0])
        self._later = []
        for _ in range(2):
            self._later.append(layers.Dense(4))
        self.last = layers.Dense(1)

    def call(self, inputs):
        for layer in (*self.blocks, *self.grid[0], *self.grid[1], *self.pair, *self._later, self.last):
            inputs = layer(inputs)
        return inputs


class _Dictionaries(keras.Model):
    """Heads by name: by keys, by a layer's own name, and a list for a key."""

    def __init__(self):
        super().__init__()
        self.heads = {"b": layers.Dense(1), "a": layers.Dense(1, name="own"), 3: layers.Dense(1)}
        self.deep = {"number": [layers.Dense(4), layers.Dense(1)]}

    def call(self, inputs):
        hidden = self.deep["number"][0](inputs)
        outputs = {str(key): head(inputs) for key, head in self.heads.items()}
        return outputs | {"number": self.deep["number"][1](hidden)}


def shared_twice() -> keras.Model:
    """One layer used twice by the model itself, and by a model within it."""
    inputs = keras.Input((3,))
    shared = layers.Dense(3)
    inside = keras.Input((3,))
    inner = keras.Model(inside, layers.Dense(3)(shared(inside)))
    return keras.Model(inputs, layers.Dense(1)(inner(shared(shared(inputs)))))


def recurrent() -> keras.Model:
    """LSTM and Bidirectional, whose layers Keras names for those that it was given; cells in a list."""
    inputs = keras.Input((5, 2))
    outputs = layers.LSTM(2, return_sequences=True)(inputs)
    outputs = layers.Bidirectional(layers.LSTM(2, return_sequences=True))(outputs)
    outputs = layers.Bidirectional(layers.GRU(2, return_sequences=True, name="reader"))(outputs)
    outputs = layers.TimeDistributed(layers.Dense(2))(outputs)
    outputs = layers.Bidirectional(layers.LSTM(2, return_sequences=True), backward_layer=_backward())(outputs)
    return keras.Model(inputs, layers.RNN([layers.GRUCell(2), layers.GRUCell(2)])(outputs))


def _backward() -> keras.layers.Layer:
    return layers.LSTM(2, return_sequences=True, go_backwards=True)


def embeddings() -> keras.Model:
    inputs = keras.Input((4,), dtype="int32")
    both = [layers.Embedding(5, 2)(inputs), layers.Embedding(7, 2, name="words")(inputs)]
    outputs = layers.MultiHeadAttention(2, 2)(*both)
    return keras.Model(inputs, layers.Dropout(0.5)(outputs))


def batch_normalization() -> keras.Model:
    inputs = keras.Input((8, 8, 1))
    outputs = inputs
    for _ in range(2):
        outputs = layers.BatchNormalization()(layers.Conv2D(2, 3)(outputs))
    return keras.Model(inputs, layers.GroupNormalization(2)(layers.Conv2DTranspose(2, 3)(outputs)))


def named_and_not() -> keras.Model:
    """A name that looks like one of Keras' for its layer counts as one; for another layer it does not."""
    inputs = keras.Input((4,))
    outputs = inputs
    for name in ("first", None, "dense_7777777", None, "embedding_3", "dense_last"):
        outputs = layers.Dense(4, name=name)(outputs)
    return keras.Model(inputs, outputs)


class _Own(keras.Model):
    """Variables of its own, with names and without, tracked or added; a layer with two that have none."""

    def __init__(self):
        super().__init__()
        self.scale = keras.Variable(1.0)
        self.offset = keras.Variable(0.0, name="offset")
        self.list = [keras.Variable(0.0), keras.Variable(0.0, trainable=False)]
        self.layer = _Unnamed()

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 1), name="kernel")
        self.layer.build(shape)

    def call(self, inputs):
        return self.layer(inputs) @ self.kernel * self.scale + self.offset


class _Unnamed(layers.Layer):
    def build(self, shape):
        self.one = self.add_weight(shape=(shape[-1],))
        self.two = self.add_weight(shape=(shape[-1],))
        self.random = layers.Dropout(0.5)

    def call(self, inputs):
        return self.random(inputs) * self.one + self.two


MODELS = {
    "trunk_and_heads": of_trunk_and_heads,
    "functional_nested": functional_nested,
    "lists": lambda: _built(_Lists()),
    "dictionaries": lambda: _built(_Dictionaries()),
    "shared_twice": shared_twice,
    "recurrent": recurrent,
    "embeddings": embeddings,
    "batch_normalization": batch_normalization,
    "named_and_not": named_and_not,
    "own_variables": lambda: _built(_Own()),
}


def _names(model: keras.Model) -> dict[str, str]:
    return {name: str(tuple(variable.shape)) for name, variable in names.variables_by_name(model).items()}


@pytest.mark.parametrize("name", MODELS)
def test_names_are_those_of_the_golden_file(name):
    """Whatever this process has built before, and in the model's order."""
    layers.Dense(1), layers.LSTM(1), keras.Variable(1.0)
    model = MODELS[name]()
    found = names.variables_by_name(model)
    assert list(_names(model).items()) == list(json.loads(GOLDEN.read_text())[name].items())
    ours = [variable for variable in model.variables if not variable.path.endswith("seed_generator_state")]
    assert [id(variable) for variable in found.values()] == [id(variable) for variable in ours]


def _state(model: keras.Model) -> checkpoint.State:
    return {"model": {name: variable.value for name, variable in names.variables_by_name(model).items()}}


@pytest.mark.parametrize("name", MODELS)
def test_a_second_build_reads_the_checkpoint_of_the_first(name, tmp_path):
    first, second = MODELS[name](), MODELS[name]()
    for count, variable in enumerate(first.variables):
        variable.assign(np.full(variable.shape, count))
    checkpoint.save(tmp_path, 1, checkpoint.snapshot(_state(first)))
    checkpoint.restore(tmp_path / "step_00000001", _state(second))
    found = names.variables_by_name(second)
    for own, variable in names.variables_by_name(first).items():
        np.testing.assert_array_equal(found[own].numpy(), variable.numpy(), err_msg=own)


def test_recomputed_layers_go_by_the_names_that_they_have_without():
    trunk = [{"layer": "Dense", "units": 7} for _ in range(5)]
    plain, recomputed = (of_trunk_and_heads(model__trunk=trunk, model__recompute=again) for again in (False, True))
    assert any(isinstance(layer, Recomputed) for layer in recomputed.layers)
    assert _names(recomputed).items() == _names(plain).items()


class _Twins(layers.Layer):
    def build(self, shape):
        self.one = self.add_weight(shape=(1,), name="twin")
        self.two = self.add_weight(shape=(1,), name="twin")

    def call(self, inputs):
        return inputs * self.one + self.two


def test_two_variables_of_one_name_are_refused_in_one_line():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, _Twins(name="pair")(inputs))
    with pytest.raises(ConfigError) as caught:
        names.variables_by_name(model)
    assert str(caught.value) == ("model='pair/twin': is the name of two variables; name them or their layers apart")


def test_names_that_keras_chooses_are_known():
    """Every layer of Keras is known by its class in the words of Keras' own counter, alone or with a count."""
    from keras.src.utils.naming import to_snake_case

    for kind in [kind for kind in vars(layers).values() if isinstance(kind, type)]:
        words = to_snake_case(kind.__name__)
        for name, expected in ((words, words), (f"{words}_12", words), (f"{words}_a", None), (f"own_{words}", None)):
            assert names._automatic(type(kind.__name__, (), {"name": name})()) == expected


@pytest.mark.parametrize("name", ["Adafactor", "Adam", "Nadam", "Muon", "SGD", "Ftrl", "ScheduleFreeAdamW"])
def test_slots_are_named_for_their_variables(name):
    def slots(model: keras.Model) -> dict[str, keras.Variable]:
        optimizer = getattr(keras.optimizers, name)()
        variables = {own: each for own, each in names.variables_by_name(model).items() if each.trainable}
        optimizer.build(list(variables.values()))
        found = names.slots_by_name(optimizer, variables)
        assert [id(slot) for slot in found.values()] == [id(slot) for slot in optimizer.variables]
        for own, slot in found.items():
            if own.endswith(("momentums", "velocities")):
                assert slot.shape == variables[own.rpartition("/")[0]].shape
        return found

    first, second = slots(functional_nested()), slots(functional_nested())
    assert list(first) == list(second)
    assert {"iterations", "learning_rate"} <= first.keys()
    if name == "Adafactor":
        assert {"encoder/first/kernel/r", "functional_1/dense_1/bias/v"} <= first.keys()
    if name == "Nadam":
        assert {"encoder/first/kernel/momentums", "u_product"} <= first.keys()


class _Elsewhere(keras.optimizers.SGD):
    """Keeps a variable for each of the model's in a dictionary, and one more."""

    def build(self, variables):
        super().build(variables)
        self.mine = {v.name: self.add_variable_from_reference(v, name="mine") for v in variables}
        self.one = self.add_variable((), name="one")


def test_slots_kept_elsewhere_go_by_their_own_names():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(1, name="a")(layers.Dense(1, name="b")(inputs)))
    optimizer = _Elsewhere()
    optimizer.build(model.trainable_variables)
    found = names.slots_by_name(optimizer, names.variables_by_name(model))
    kept = {f"{variable}_mine" for variable in ("b_kernel", "b_bias", "a_kernel", "a_bias")}
    assert found.keys() == {"iterations", "learning_rate", "one", *kept}


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({name: _names(build()) for name, build in MODELS.items()}, indent=1) + "\n")
