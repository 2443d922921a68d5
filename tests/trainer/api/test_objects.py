"""Objects in a configuration: the plain values by which a run's files name them, and splits of several kinds."""

import keras
import ml_collections
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from input_pipelines.examples import Examples
from trainer.api import arrays, objects
from trainer.common.errors import ConfigError


class _Own(keras.losses.Loss):
    def __init__(self, power=1.0, name="own"):
        super().__init__(name=name)
        self.power = power

    def call(self, target, prediction):
        return abs(target - prediction) ** self.power

    def get_config(self):
        return {**super().get_config(), "power": self.power}


class _Silent(keras.losses.Loss):
    def __init__(self, power):
        super().__init__()
        self._exponent = power


def _own(target, prediction):
    return target - prediction


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (keras.optimizers.SGD(0.1, momentum=0.9), {"name": "SGD", "learning_rate": 0.1, "momentum": 0.9}),
        (
            keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.5, 10)),
            {"name": "Adam", "learning_rate": {"name": "CosineDecay", "initial_learning_rate": 0.5, "decay_steps": 10}},
        ),
        (keras.losses.Huber(delta=2.0), {"name": "Huber", "delta": 2.0}),
        (keras.losses.Huber, "Huber"),
        (keras.losses.huber, "huber"),
        (keras.metrics.TopKCategoricalAccuracy(k=3, name="k"), {"name": "TopKCategoricalAccuracy", "k": 3, "as": "k"}),
        (keras.metrics.AUC(curve="PR", name="pr"), {"name": "AUC", "curve": "PR", "as": "pr"}),
        (keras.metrics.MeanMetricWrapper(_own, name="m"), {"name": "object:own", "as": "m"}),
        (_Own(2.0), {"name": "object:Own", "power": 2.0}),
        (keras.layers.Dense(3, activation="relu"), {"layer": "Dense", "units": 3, "activation": "relu"}),
        (
            keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.5)),
            {"layer": "Dense", "units": 3, "activation": "linear"}
            | {"kernel_regularizer": {"class_name": "L2", "config": {"l2": 0.5}}},
        ),
        (_own, "object:own"),
        (np.float32(0.5), 0.5),
        ([lambda x: x, _own], ["object:lambda", "object:own"]),
    ],
)
def test_plain_values(value, plain):
    tree, found = objects.take_out({"a": value})
    assert tree == {"a": plain}
    assert set(found) == {each for each in ("own", "Own", "lambda") if f"object:{each}" in str(plain)}


def test_an_argument_that_cannot_be_saved():
    reason = r"losses.x.loss='_Silent': its get_config\(\) must give the argument 'power'"
    with pytest.raises(ConfigError, match=reason):
        objects.take_out({"losses": {"x": {"loss": _Silent(2.0)}}})


def test_a_function_or_a_name_alone():
    tree, _ = objects.take_out({"model": _own, "dataset": _own, "combine": "pcgrad"})
    assert tree == {"model": {"name": "object:own"}, "dataset": {"name": "object:own"}, "combine": {"name": "pcgrad"}}


def test_two_objects_of_one_name():
    one, other = (lambda x: x), (lambda x: -x)
    tree, found = objects.take_out(ml_collections.ConfigDict({"b": one, "a": [other, one]}))
    assert tree == {"b": "object:lambda", "a": ["object:lambda_2", "object:lambda"]}
    assert found == {"lambda": one, "lambda_2": other}


def test_models_of_one_kind_have_one_name():
    """Whatever values they hold and whatever number Keras adds to their names; a model stays as it is."""

    def build(units: int) -> keras.Model:
        return keras.Sequential([keras.Input((2,)), keras.layers.Dense(units)])

    first, second, wider = build(3), build(3), build(4)
    names = [objects.take_out({"model": model})[0]["model"]["name"] for model in (first, second, wider)]
    assert names[0] == names[1] != names[2]
    tree, found = objects.take_out({"model": first})
    copy = found[tree["model"]["name"].partition(":")[2]]()
    assert copy is not first
    assert all((one == other).all() for one, other in zip(first.get_weights(), copy.get_weights(), strict=True))


INPUTS = np.arange(12.0).reshape(6, 2)
TARGETS = {"sum": INPUTS.sum(1), "first": INPUTS[:, 0]}


def _frames():
    return pd.DataFrame(INPUTS, columns=["a", "b"]), pd.DataFrame(TARGETS)


@pytest.mark.parametrize(
    "given",
    [
        Examples(INPUTS, TARGETS),
        (INPUTS, TARGETS),
        (INPUTS.tolist(), {name: array.tolist() for name, array in TARGETS.items()}, None),
        _frames(),
        tf.data.Dataset.from_tensor_slices((INPUTS, TARGETS)).batch(4),
        tf.data.Dataset.from_tensor_slices((INPUTS, TARGETS)),
    ],
)
def test_splits(given):
    tree, found = objects.take_out({"dataset": {"train": given, "validation": given, "augment": []}})
    assert tree == {"dataset": {"augment": [], "name": "object:arrays"}}
    splits = found["arrays"]()
    assert list(splits) == ["train", "validation"]
    split = splits["validation"]
    np.testing.assert_array_equal(split.inputs, INPUTS)
    assert sorted(split.targets) == ["first", "sum"]
    for name, array in TARGETS.items():
        np.testing.assert_array_equal(split.targets[name], array)
    assert not split.weights


def test_a_series_and_weights():
    series, weights = pd.Series(TARGETS["sum"], name="sum"), {"sum": np.arange(6)}
    _, load = arrays.of_splits({"train": ({"x": INPUTS}, series, weights)})
    split = load()["train"]
    assert list(split.inputs) == ["x"]
    np.testing.assert_array_equal(split.targets["sum"], TARGETS["sum"])
    np.testing.assert_array_equal(split.weights["sum"], np.arange(6))


_DATASET = tf.data.Dataset.from_tensor_slices((INPUTS, TARGETS))


@pytest.mark.parametrize(
    ("split", "dataset", "reason"),
    [
        ("validation", _DATASET.batch(2).repeat(), "='tf.data.Dataset': never ends"),
        ("train", _DATASET.take(0).batch(2), "='tf.data.Dataset': gives no example"),
        ("train", tf.data.Dataset.from_tensor_slices(INPUTS), "='tf.data.Dataset': must give tuples (inputs, targets)"),
        ("train", tf.data.Dataset.from_tensor_slices((INPUTS, INPUTS)), ".targets='tf.data.Dataset': must be a dict"),
        (
            "train",
            _DATASET.map(lambda x, y: (tf.RaggedTensor.from_row_lengths(x, [2]), y)),
            "must give dense tensors of known shapes",
        ),
        ("train", _DATASET.map(lambda x, y: (x[: tf.cast(y["sum"], tf.int32)], y)), "first axis of batches"),
        ("train", _DATASET.map(lambda x, y: (tf.debugging.check_numerics(x / 0, "x"), y)), "cannot be read: "),
    ],
)
def test_datasets_that_cannot_be_read(split, dataset, reason):
    _, load = arrays.of_splits({split: dataset})
    with pytest.raises(ConfigError, match=f"dataset.{split}") as caught:
        load()
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
