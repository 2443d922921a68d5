"""Losses of `compile` get the outputs, targets and weights that Keras gives them, and have the values of Keras'."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.common.errors import ConfigError
from trainer.components import losses as losses_lib
from trainer.components import predictions
from trainer.keras_model import losses
from trainer.keras_model.outputs import Matching


def spec(*shape, dtype="float32"):
    return tf.TensorSpec((None, *shape), dtype)


A, B = "mse", keras.losses.Huber(name="own")
Y_A, Y_B, W_A, W_B = (tf.constant([float(number)]) for number in range(4))


# What the model returns, `loss`, targets, sample weights, the names of outputs, and for each loss its name, its output,
# its target and its weight.
@pytest.mark.parametrize(
    ("y_pred", "loss", "y", "weights", "names", "expected"),
    [
        pytest.param(
            {"a": spec(1), "b": spec(1)},
            {"b": B, "a": A},
            {"a": Y_A, "b": Y_B},
            {"b": W_B},
            ["a", "b"],
            [("b", "b", Y_B, W_B), ("a", "a", Y_A, None)],
            id="dictionaries",
        ),
        pytest.param(
            [spec(1), spec(1)],
            [A, A],
            [Y_A, Y_B],
            W_A,
            None,
            [("mse", "0", Y_A, W_A), ("mse_1", "1", Y_B, W_A)],
            id="lists without names, of one loss",
        ),
        pytest.param(
            (spec(1), spec(1)),
            {"b": B},
            {"a": Y_A, "b": Y_B},
            None,
            ["a", "b"],
            [("b", "1", Y_B, None)],
            id="a tuple by names, one of its outputs",
        ),
        pytest.param(
            {"x": [spec(1), spec(1)], "y": spec(1)},
            {"x": [A, None], "y": B},
            {"x": [Y_A, Y_A], "y": Y_B},
            None,
            ["p", "q", "r"],
            [("x/p", "x/0", Y_A, None), ("y", "y", Y_B, None)],
            id="nested",
        ),
        pytest.param(spec(1), A, Y_A, W_A, ["p"], [("p", "output", Y_A, W_A)], id="one output"),
    ],
)
def test_matches_as_keras(y_pred, loss, y, weights, names, expected):
    y_spec = keras.tree.map_structure(lambda each: tf.TensorSpec(each.shape, each.dtype), y)
    matching = Matching(loss, None, names, y_pred, y_spec)
    batch = matching.batch(Y_A, y, weights)
    found = [
        (each.name, each.head, batch["targets"][each.head], batch.get("weights", {}).get(each.head))
        for each in matching.losses
    ]
    assert [each[:2] for each in found] == [each[:2] for each in expected]
    for (*_, target, weight), (*_, its_target, its_weight) in zip(found, expected, strict=True):
        assert target is its_target
        assert weight is its_weight
    assert batch["inputs"] is Y_A


def test_weights_of_some_losses_only():
    matching = Matching({"a": A, "b": B}, {"b": 10.0}, None, {"a": spec(1), "b": spec(1)}, {"a": spec(1), "b": spec(1)})
    assert [(each.name, each.weight) for each in matching.losses] == [("a", 1.0), ("b", 10.0)]


@pytest.mark.parametrize(
    ("loss", "y_pred", "y", "message"),
    [
        ({"c": A}, {"a": spec(1)}, {"a": spec(1)}, "loss=.*'c'"),
        ({"a": A}, {"a": [spec(1), spec(1)]}, {"a": [spec(1), spec(1)]}, "several outputs together"),
        ({"a": A, "b": A}, {"a": spec(1), "b": spec(1)}, {"a": spec(1)}, "cannot be matched"),
        (
            {"a": A, "b": B},
            {"a": spec(1), "b": spec(1)},
            {"a": spec(1), "B": spec(1)},
            r"y=\['a', 'B'\]: .*: a, b$",
        ),
        ({"a": A}, {"a": spec(1)}, None, r"y: there are losses, but the data hold no targets"),
    ],
    ids=["no such output", "two outputs", "no such target", "other targets", "no targets"],
)
def test_refuses_what_does_not_match(loss, y_pred, y, message):
    with pytest.raises(ConfigError, match=message):
        Matching(loss, None, None, y_pred, y)


def value(function, target, prediction, weights=None):
    """The loss of a batch, with the sums that replicas would add up."""
    matching = Matching(
        function, None, None, tf.TensorSpec(prediction.shape), tf.TensorSpec(target.shape, target.dtype)
    )
    (loss,) = losses.build(matching.losses)
    batch = matching.batch(None, tf.constant(target), None if weights is None else tf.constant(weights))
    sums = losses_lib.sums(loss, predictions.of(tf.constant(prediction)), batch)
    count = sums.left if sums.left is not None else sums.values_per_example * len(prediction)
    divisor = {"examples": count, "weights": sums.weight_sum, "sum": 1.0}[loss.normalizer]
    return float(sums.loss_sum / divisor)


RANDOM = np.random.RandomState(0)
PREDICTION, TARGET = RANDOM.normal(size=(2, 6, 3)).astype(np.float32)
WEIGHTS = RANDOM.uniform(size=6).astype(np.float32)


class CalledItsOwnWay(keras.losses.MeanSquaredError):  # registered nowhere
    def __call__(self, y_true, y_pred, sample_weight=None):
        return 3 * super().__call__(y_true, y_pred, sample_weight)


@pytest.mark.parametrize(
    "function",
    [
        "mse",
        keras.losses.mean_absolute_error,
        keras.losses.Huber(delta=0.3),
        keras.losses.CosineSimilarity(),
        CalledItsOwnWay(),
        keras.losses.MeanSquaredError(reduction="sum"),
        keras.losses.MeanSquaredError(reduction="mean_with_sample_weight"),
        lambda target, prediction: keras.ops.square(target - prediction),
        lambda target, prediction: keras.ops.mean(keras.ops.abs(target - prediction)),
        lambda target, prediction: keras.ops.mean(keras.ops.abs(target - prediction), axis=0),
    ],
    ids=[
        "name",
        "function",
        "object",
        "not of single numbers",
        "own call",
        "sum",
        "weighted mean",
        "per number",
        "scalar",
        "axis 0",
    ],
)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
def test_values_are_those_of_keras(function, weights):
    loss = keras.losses.get(function)
    if not isinstance(loss, keras.losses.Loss):
        loss = keras.src.losses.losses.LossFunctionWrapper(loss)
    if weights is not None and loss.call(TARGET, PREDICTION).shape != (6,):
        pytest.skip("Keras weighs no single value of several examples")
    expected = loss(TARGET, PREDICTION, weights)
    np.testing.assert_allclose(value(function, TARGET, PREDICTION, weights), expected, rtol=1e-6)


def test_nan_says_that_there_is_no_label():
    target = TARGET.copy()
    target[1] = np.nan
    target[4, 2] = np.nan
    there = ~np.isnan(target)
    squares = (PREDICTION - np.where(there, target, 0)) ** 2
    np.testing.assert_allclose(value("mse", target, PREDICTION), squares[there].mean(), rtol=1e-6)
    weighted = (squares * WEIGHTS[:, np.newaxis])[there].sum() / there.sum()
    np.testing.assert_allclose(value("mse", target, PREDICTION, WEIGHTS), weighted, rtol=1e-6)
    # A loss of all numbers of an example together has a label only where all of them are there.
    whole = there.all(axis=-1)
    expected = keras.losses.cosine_similarity(TARGET[whole], PREDICTION[whole]).numpy().mean()
    np.testing.assert_allclose(value(keras.losses.cosine_similarity, target, PREDICTION), expected, rtol=1e-5)
