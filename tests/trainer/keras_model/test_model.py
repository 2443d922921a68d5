"""`MultiLossModel` is made as a `keras.Model` is, in every way, by any number of classes in one process."""

import copy
import pickle

import keras
import numpy as np
import pytest

from trainer import ConfigError, MultiLossModel

INPUTS = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)


def graph():
    """Symbolic inputs, and outputs in a dictionary."""
    inputs = keras.Input((4,), name="x")
    hidden = keras.layers.Dense(5, activation="relu", name="hidden")(inputs)
    return inputs, {"a": keras.layers.Dense(2, name="a")(hidden), "b": keras.layers.Dense(1, name="b")(hidden)}


class Subclassed(MultiLossModel):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = keras.layers.Dense(units), keras.layers.Dense(1)

    def call(self, inputs):
        return [self.first(inputs), self.second(inputs)]


class MakesItsGraph(MultiLossModel):
    def __init__(self, units, classes):  # two arguments, which are not inputs and outputs
        inputs = keras.Input((4,))
        super().__init__(inputs=inputs, outputs=keras.layers.Dense(classes)(keras.layers.Dense(units)(inputs)))
        self.units = units


class Passes(MultiLossModel):
    """A class without a constructor, used functionally and as the base of others."""


def kinds():
    class Below(Passes):
        def call(self, inputs):
            return 2 * inputs

    return [MultiLossModel(*graph()), Subclassed(3), MakesItsGraph(3, 2), Passes(*graph()), Below()]


def test_all_kinds_in_one_process_in_any_order():
    bases = [cls.__bases__ for cls in (MultiLossModel, Subclassed, MakesItsGraph, Passes)]
    for models in (kinds(), kinds()[::-1], kinds()):
        outputs = {type(model).__name__: model(INPUTS) for model in models}
        assert all(isinstance(model, MultiLossModel) for model in models)
        assert {name: [each.shape[-1] for each in keras.tree.flatten(each)] for name, each in outputs.items()} == {
            "MultiLossModel": [2, 1],
            "Subclassed": [3, 1],
            "MakesItsGraph": [2],
            "Passes": [2, 1],
            "Below": [4],
        }
    assert [cls.__bases__ for cls in (MultiLossModel, Subclassed, MakesItsGraph, Passes)] == bases


def test_layers_clones_and_copies():
    model = MultiLossModel(*graph())
    assert [layer.name for layer in model.layers] == ["x", "hidden", "a", "b"]
    assert model.get_layer("hidden") is model.layers[1]
    lines = []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    assert "hidden" in "".join(lines)
    again = [keras.models.clone_model(model), type(model).from_config(model.get_config())]
    again += [pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
    for each in again:
        assert (type(each), each.output_names) == (type(model), ["a", "b"])
        assert not {id(variable) for variable in each.variables} & {id(variable) for variable in model.variables}
    np.testing.assert_array_equal(again[-1](INPUTS)["a"], model(INPUTS)["a"])


def _nested():
    inputs = {name: keras.Input((4,), name=name) for name in ("x", "y")}
    hidden = keras.layers.Dense(3)(inputs["x"] + inputs["y"])
    heads = [keras.layers.Dense(1, name=name)(hidden) for name in "abc"]
    return keras.Model(inputs, {"one": heads[0], "more": (heads[1], [heads[2]])}), {"x": INPUTS, "y": INPUTS}


def _sequential():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)]), INPUTS


class OfKeras(keras.Model):
    def __init__(self):
        super().__init__()
        self.drop, self.dense = keras.layers.Dropout(0.5), keras.layers.Dense(2)

    def call(self, inputs, training=False):
        return self.dense(self.drop(inputs, training=training)), inputs


@pytest.mark.parametrize("make", [_nested, _sequential, lambda: (keras.Model(*graph()), INPUTS)])
def test_of_a_model_with_a_graph(make):
    model, inputs = make()
    model.layers[-1].trainable = False
    made = MultiLossModel.of(model)
    assert made.name == model.name
    assert made.output_names == getattr(model, "output_names", made.output_names)
    for of_made, of_model in ((made.variables, model.variables), (made.trainable_variables, model.trainable_variables)):
        assert [id(variable) for variable in of_made] == [id(variable) for variable in of_model]
    assert set(model.layers) <= set(made.layers)
    keras.tree.assert_same_structure(made(inputs), model(inputs))
    keras.tree.map_structure(np.testing.assert_array_equal, made(inputs), model(inputs))


class OwnCall(keras.Model):
    def call(self, inputs):
        return {name: output + 1 for name, output in super().call(inputs).items()}


@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize(
    "make", [OfKeras, lambda: keras.Sequential([keras.layers.Dense(2)]), lambda: OwnCall(*graph())]
)
def test_of_a_model_without_a_graph(make, built):
    model = make()
    if built and not isinstance(model, keras.Sequential):
        model(INPUTS)
    made = MultiLossModel.of(model)
    keras.tree.map_structure(np.testing.assert_array_equal, made(INPUTS), model(INPUTS))
    assert made.wrapped is model
    assert (made.layers, made.name) == (model.layers, model.name)
    assert [id(variable) for variable in made.variables] == [id(variable) for variable in model.variables]
    if isinstance(model, OfKeras):  # dropout learns of training
        assert np.ptp([made(np.ones((1, 4)), training=True)[0].numpy() for _ in range(9)]) > 0


def test_of_what_cannot_be():
    class OwnStep(keras.Model):
        def train_step(self, data):
            return {}

    with pytest.raises(ConfigError, match=r"^model='adam': must be a keras.Model$"):
        MultiLossModel.of("adam")
    with pytest.raises(ConfigError, match=r"^train_step='OwnStep': must be left as it is"):
        MultiLossModel.of(OwnStep())
