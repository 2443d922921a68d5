"""Losses by name, their sums, their weights and their shapes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from trainer import configuration, losses
from trainer.errors import ConfigError


def _config(loss, **more) -> configuration.LossConfig:
    return problems.config(
        losses={"l": {"head": "label", "target": "t", "loss": loss, **more}}, model__heads={"label": []}
    ).losses["l"]


def _sums(loss, prediction, target, weights=None, **more) -> losses.LossSums:
    keras.config.set_floatx("float64")
    named = losses.build("l", _config(loss, **more))
    batch = {"targets": {"t": tf.constant(target)}} | (
        {} if weights is None else {"weights": {"t": tf.constant(weights, tf.float64)}}
    )
    return losses.LossSums(
        *(float(value) for value in losses.sums(named, {"label": tf.constant(prediction, tf.float64)}, batch))
    )


PREDICTION = np.random.RandomState(0).normal(size=(5, 3))
TARGET = np.random.RandomState(1).normal(size=(5, 3))
SQUARES = np.mean((PREDICTION - TARGET) ** 2, axis=1)


@pytest.mark.parametrize("name", ["mse", "MeanSquaredError", "mean_squared_error"])
def test_keras_spellings(name):
    assert _sums(name, PREDICTION, TARGET).weighted == pytest.approx(SQUARES.sum())


@pytest.mark.parametrize("shape", [(5,), (5, 1)])
def test_one_number_per_example_with_or_without_an_axis(shape):
    """A target of shape (batch,) beside a prediction of (batch, 1) must not broadcast to (batch, batch)."""
    target = TARGET[:, 0]
    result = _sums("mse", PREDICTION[:, :1], target.reshape(shape))
    assert result == pytest.approx((((PREDICTION[:, 0] - target) ** 2).sum(), 5, 1))


@pytest.mark.parametrize("shape", [(5,), (5, 1)])
def test_weights_of_examples(shape):
    weights = np.array([0.0, 1.0, 2.0, 0.5, 0.0])
    result = _sums("mse", PREDICTION, TARGET, weights.reshape(shape))
    assert result == pytest.approx(((SQUARES * weights).sum(), 3.5, 1))


@pytest.mark.parametrize("shape", [(2, 4), (2, 1), (1, 4), (2,)])
def test_weights_of_elements_broadcast(shape):
    """An 8 x 8 style target: one loss value for each row of each example."""
    prediction, target = np.random.RandomState(2).normal(size=(2, 2, 4, 3))
    weights = np.random.RandomState(3).uniform(size=shape)
    values = np.mean((prediction - target) ** 2, axis=-1)
    full = np.broadcast_to(weights if weights.ndim == 2 else weights[:, None], values.shape)
    assert _sums("mse", prediction, target, weights) == pytest.approx(((values * full).sum(), full.sum(), 4))


@pytest.mark.parametrize("shape", [(5, 3), (5, 1, 2), (5, 1, 1, 2)])
def test_weights_that_do_not_broadcast_are_named(shape):
    with pytest.raises(
        ConfigError, match=r"dataset.weights.t=.*do not broadcast to the values of loss 'l', of shape \(5,\)"
    ):
        _sums("mse", PREDICTION, TARGET, np.ones(shape))


def test_arguments_and_user_functions():
    assert _sums({"name": "huber", "delta": 0.1}, PREDICTION, TARGET).weighted == pytest.approx(
        float(np.sum(keras.losses.Huber(delta=0.1, reduction="none")(TARGET, PREDICTION)))
    )
    user = {"name": "tests.trainer.test_losses:scaled", "factor": 3.0}
    assert _sums(user, PREDICTION, TARGET).weighted == pytest.approx(3 * SQUARES.sum())


def scaled(target, prediction, factor=1.0):
    """Has a Python condition on a tensor, as `fit` allows."""
    result = tf.reduce_mean(tf.square(target - prediction), axis=-1)
    if tf.reduce_sum(result) > 0:
        result = result * factor
    return result


def test_user_functions_are_converted_for_graphs():
    named = losses.build("l", _config({"name": "tests.trainer.test_losses:scaled", "factor": 3.0}))
    traced = tf.function(lambda t, p: named.function(t, p), autograph=False)
    np.testing.assert_allclose(traced(TARGET, PREDICTION), 3 * SQUARES)


@pytest.mark.parametrize(
    ("loss", "field", "words"),
    [
        ("mesa", "losses.l.loss", "unknown loss"),
        ({"name": "huber", "dleta": 1.0}, "losses.l.loss.dleta", "did you mean 'delta'"),
        ({"name": "mse", "reduction": "sum"}, "losses.l.loss.reduction", "one value per example"),
        ("tests.trainer.test_losses:nothing", "losses.l.loss", "has no 'nothing'"),
        ({"name": "tests.trainer.test_losses:scaled", "fctor": 1.0}, "losses.l.loss.fctor", "did you mean 'factor'"),
    ],
)
def test_what_does_not_exist_is_named(loss, field, words):
    with pytest.raises(ConfigError) as caught:
        losses.build("l", _config(loss))
    assert caught.value.field == field
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("loss", "prediction", "target", "fits"),
    [
        ("mse", (3,), (3,), True),
        ("mse", (3,), (3, 1), True),
        ("mse", (1,), (), True),
        ("mse", (3,), (), False),
        ("mse", (3,), (1,), False),
        ("mse", (3,), (4,), False),
        ("mse", (8, 8), (8, 8, 1), True),
        ("mse", (8, 8), (64,), False),
        ("sparse_categorical_crossentropy", (10,), (), True),
        ("sparse_categorical_crossentropy", (10,), (1,), True),
        ("sparse_categorical_crossentropy", (10,), (10,), False),
        ("sparse_categorical_crossentropy", (4, 4, 10), (4, 4), True),
        ("categorical_crossentropy", (10,), (10,), True),
        ("categorical_crossentropy", (10,), (), False),
        ("binary_crossentropy", (1,), (), True),
    ],
)
def test_shapes_of_target_and_head(loss, prediction, target, fits):
    named = losses.build("l", _config(loss))
    specs = {"label": tf.TensorSpec((None, *prediction))}, {"t": tf.TensorSpec((None, *target))}
    if fits:
        losses.check_shapes([named], *specs)
    else:
        with pytest.raises(ConfigError) as caught:
            losses.check_shapes([named], *specs)
        assert caught.value.field == "losses.l.target"
