"""Losses by name, their sums, their weights and their shapes."""

from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import forked, problems
from trainer.common.errors import ConfigError
from trainer.components import loss_checks, losses, predictions
from trainer.config import settings
from trainer.run import experiment


def _config(loss, **more) -> settings.LossConfig:
    return problems.config(
        losses={"l": {"head": "label", "target": "t", "loss": loss, **more}}, model__heads={"label": []}
    ).losses["l"]


class Sums(NamedTuple):
    """The numbers of `LossSums` that exist without masks."""

    loss_sum: float
    weight_sum: float
    values_per_example: float


def _sums(loss, prediction, target, weights=None, **more) -> Sums:
    keras.config.set_floatx("float64")
    named = losses.build("l", _config(loss, **more))
    batch = {"targets": {"t": tf.constant(target)}} | (
        {} if weights is None else {"weights": {"t": tf.constant(weights, tf.float64)}}
    )
    *numbers, left = losses.sums(named, predictions.of({"label": tf.constant(prediction, tf.float64)}), batch)
    assert left is None
    return Sums(*map(float, numbers))


PREDICTION = np.random.RandomState(0).normal(size=(5, 3))
TARGET = np.random.RandomState(1).normal(size=(5, 3))
SQUARES = np.mean((PREDICTION - TARGET) ** 2, axis=1)


@pytest.mark.parametrize("name", ["mse", "MeanSquaredError", "mean_squared_error"])
def test_keras_spellings(name):
    assert _sums(name, PREDICTION, TARGET).loss_sum == pytest.approx(SQUARES.sum())


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


@pytest.mark.parametrize("name", ["mse", "mae", "huber", "log_cosh"])
def test_weights_of_every_number_of_a_mean_over_the_last_axis(name):
    weights = np.random.RandomState(3).uniform(size=PREDICTION.shape)
    single = np.array(
        [
            [_sums(name, p.reshape(1, 1), t.reshape(1, 1)).loss_sum for p, t in zip(*rows, strict=True)]
            for rows in zip(PREDICTION, TARGET, strict=True)
        ]
    )
    assert _sums(name, PREDICTION, TARGET, weights) == pytest.approx(((single * weights).sum(), weights.sum(), 3))


@pytest.mark.parametrize(("name", "shape"), [("mse", (5, 2)), ("cosine_similarity", (5, 3)), ("mse", (5, 1, 2))])
def test_weights_that_do_not_broadcast_are_named(name, shape):
    with pytest.raises(
        ConfigError, match=r"dataset.weights.t=.*do not broadcast to the values of loss 'l', of shape \(5,\)"
    ):
        _sums(name, PREDICTION, TARGET, np.ones(shape))


def test_arguments_and_user_functions():
    assert _sums({"name": "huber", "delta": 0.1}, PREDICTION, TARGET).loss_sum == pytest.approx(
        float(np.sum(keras.losses.Huber(delta=0.1, reduction="none")(TARGET, PREDICTION)))
    )
    user = {"name": "tests.trainer.components.test_losses:scaled", "factor": 3.0}
    assert _sums(user, PREDICTION, TARGET).loss_sum == pytest.approx(3 * SQUARES.sum())


def scaled(target, prediction, factor=1.0):
    """Has a Python condition on a tensor, as `fit` allows."""
    result = tf.reduce_mean(tf.square(target - prediction), axis=-1)
    if tf.reduce_sum(result) > 0:
        result = result * factor
    return result


def test_user_functions_are_converted_for_graphs():
    named = losses.build("l", _config({"name": "tests.trainer.components.test_losses:scaled", "factor": 3.0}))
    traced = tf.function(lambda t, p: named.function(t, p), autograph=False)
    np.testing.assert_allclose(traced(TARGET, PREDICTION), 3 * SQUARES)


@pytest.mark.parametrize(
    ("loss", "field", "words"),
    [
        ("mesa", "losses.l.loss", "unknown loss"),
        ({"name": "huber", "dleta": 1.0}, "losses.l.loss.dleta", "did you mean 'delta'"),
        ({"name": "mse", "reduction": "sum"}, "losses.l.loss.reduction", "one value per example"),
        ("tests.trainer.components.test_losses:nothing", "losses.l.loss", "has no 'nothing'"),
        (
            {"name": "tests.trainer.components.test_losses:scaled", "fctor": 1.0},
            "losses.l.loss.fctor",
            "did you mean 'factor'",
        ),
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
        loss_checks.check_shapes([named], *specs)
    else:
        with pytest.raises(ConfigError) as caught:
            loss_checks.check_shapes([named], *specs)
        assert caught.value.field == "losses.l.target"


def _bce(target, probability, weights=(1.0, 1.0)):
    values = target * np.log(probability) + (1 - target) * np.log(1 - probability)
    return -np.mean(np.where(target == 1, weights[1], weights[0]) * values, axis=-1)


@pytest.mark.parametrize("shape", [(5, 3), (5, 1), (5,)])
@pytest.mark.parametrize("from_logits", [False, True])
def test_class_weighted_binary_crossentropy(shape, from_logits):
    """Each element's term is multiplied by the weight of the class that its target names; the mean is as Keras'."""
    logits = PREDICTION[:, : (*shape, 1)[1]]
    target = np.array([[0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1], [1, 1, 1.0]])[:, : logits.shape[1]]
    probability = 1 / (1 + np.exp(-logits))
    spec = {"name": "class_weighted_binary_crossentropy", "from_logits": from_logits}
    given = logits if from_logits else probability
    weighted = _sums({**spec, "class_weights": [0.1, 0.9]}, given, target.reshape(shape))
    assert weighted == pytest.approx((_bce(target, probability, (0.1, 0.9)).sum(), 5, 1))
    plain = _sums({"name": "binary_crossentropy", "from_logits": from_logits}, given, target.reshape(shape))
    assert _sums({**spec, "class_weights": [1, 1]}, given, target.reshape(shape)) == pytest.approx(plain)


@pytest.mark.parametrize("weights", [None, 0.9, [0.9], [0.1, 0.9, 0], [0.1, "b"], [-1, 1], [0, 0], [1, float("inf")]])
def test_class_weights_that_cannot_be_used_are_named(weights):
    with pytest.raises(ConfigError, match=r"losses.l.loss=.*class_weights must be \[negative, positive\]"):
        losses.build("l", _config({"name": "class_weighted_binary_crossentropy", "class_weights": weights}))


def test_own_losses_are_suggested_and_listed_beside_keras():
    with pytest.raises(ConfigError, match="did you mean 'class_weighted_binary_crossentropy'.*binary_focal") as caught:
        losses.build("l", _config("class_weihted_binary_crossentropy"))
    assert str(caught.value).count("class_weighted_binary_crossentropy") == 2


LOGITS = [{"layer": "Dense", "units": 4}]
SOFTMAX = [{"layer": "Dense", "units": 4, "activation": "softmax"}]
TAKES_LOGITS = {"name": "sparse_categorical_crossentropy", "from_logits": True}


def own_crossentropy(target, prediction, from_logits=False):
    return keras.losses.sparse_categorical_crossentropy(target, prediction, from_logits=from_logits)


@pytest.mark.parametrize(
    ("loss", "head", "warned"),
    [
        ("sparse_categorical_crossentropy", LOGITS, True),
        ("sparse_categorical_crossentropy", SOFTMAX, False),
        (TAKES_LOGITS, LOGITS, False),
        ("tests.trainer.components.test_losses:own_crossentropy", LOGITS, True),
        ("tests.trainer.components.test_losses:own_crossentropy", SOFTMAX, False),
        ({"name": "tests.trainer.components.test_losses:own_crossentropy", "from_logits": True}, LOGITS, False),
    ],
)
@pytest.mark.parametrize("replicas", [pytest.param(1, marks=pytest.mark.ci_only), 2])
def test_logits_taken_for_probabilities_are_a_warning(caplog, loss, head, warned, replicas):
    """One line with the loss, the head, the range seen and what to set; none for a head of probabilities."""
    config = problems.config(losses__label__loss=loss, model__heads__label=head)
    with caplog.at_level("WARNING", logger="absl"):
        experiment.build(config, problems.strategy(replicas))
    lines = [record.getMessage() for record in caplog.records if "probabilities" in record.getMessage()]
    assert len(lines) == warned
    for line in lines:
        assert line.startswith("losses.label: head 'label' gives values from -")
        assert "set losses.label.loss.from_logits=True, or end the head with a softmax or sigmoid" in line


@pytest.mark.parametrize(
    ("loss", "warned"),
    [
        ("binary_crossentropy", True),
        ({"name": "binary_crossentropy", "from_logits": True}, False),
        ("categorical_crossentropy", True),
        ({"name": "class_weighted_binary_crossentropy", "class_weights": [1, 2]}, True),
        ({"name": "class_weighted_binary_crossentropy", "class_weights": [1, 2], "from_logits": True}, False),
        ("mse", False),
    ],
)
def test_every_crossentropy_is_looked_at(loss, warned):
    outputs = {"label": tf.constant([[0.2, 1.5], [0.0, 1.0]])}
    named = losses.build("l", _config(loss))
    assert len(loss_checks.logits_taken_for_probabilities([named], outputs, {"l": []})) == warned
    probabilities = {"label": tf.constant([[0.2, 0.8], [0.0, 1.0]])}
    assert not loss_checks.logits_taken_for_probabilities([named], probabilities, {"l": ["auc"]})
    lines = loss_checks.logits_taken_for_probabilities([named], outputs, {"l": ["auc"]})
    assert len(lines) == 1
    assert ("its metrics take probabilities (0 to 1): auc" in lines[0]) != warned


def test_the_command_line_shows_the_warning(tmp_path, root):
    """One line on stderr, and the run continues."""
    flags = ["--config.losses.classification.loss=sparse_categorical_crossentropy", "--config.steps=1"]
    command = ["trainer.main", "--config=configs/weighted_slices.py", *flags]
    result = forked.run(*command, f"--workdir={tmp_path / 'run'}", cwd=root)
    assert result.returncode == 0
    (line,) = result.stderr.splitlines()
    assert "losses.classification: head 'combined' from 64 to 74 gives values from -" in line
