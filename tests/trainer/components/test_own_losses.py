"""The trainer's own losses by themselves: NumPy's numbers, gradients of finite differences, extreme numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.components.losses_in_numpy import (
    contrastive,
    distillation,
    focal,
    gaussian_nll,
    pairwise_logistic,
    quantile,
    softmax,
    softmax_ranking,
    triplet_semihard,
)
from trainer.common.errors import ConfigError
from trainer.components import focal_losses, loss_functions, predictions

COUNT = 7
NAN = float("nan")
RANDOM = np.random.RandomState(0)
CLASSES = np.array([0, 1, 2, 0, 1, 0, 3])  # the last one has no other of its kind
LISTS = np.array([[2.0, 0, 1], [0, 0, 0], [1, 1, 3], [0.5, NAN, 0], [NAN, 1, 4], [3, 2, 1], [1, 0, 0]])
# Name and arguments → target, numbers of the head, the same in NumPy.
CASES = [
    ({"name": "gaussian_nll"}, RANDOM.normal(size=COUNT), 2, gaussian_nll),
    ({"name": "gaussian_nll", "min_variance": 0.3}, RANDOM.normal(size=(COUNT, 2)), 4, gaussian_nll),
    ({"name": "quantile"}, RANDOM.normal(size=(COUNT, 2)), 2, quantile),
    ({"name": "quantile", "quantiles": [0.1, 0.5, 0.95]}, RANDOM.normal(size=(COUNT, 1)), 3, quantile),
    ({"name": "quantile", "quantiles": [0.2, 0.9]}, RANDOM.normal(size=(COUNT, 2)), 4, quantile),
    ({"name": "pairwise_logistic"}, LISTS, 3, pairwise_logistic),
    ({"name": "pairwise_logistic"}, LISTS[:, 0], 1, pairwise_logistic),
    ({"name": "softmax_ranking"}, np.where(LISTS == 4, -1, LISTS), 3, softmax_ranking),
    ({"name": "sparse_categorical_focal_crossentropy", "from_logits": True}, CLASSES, 4, focal),
    (
        {
            "name": "sparse_categorical_focal_crossentropy",
            "from_logits": True,
            "alpha": [0.1, 0.5, 2, 1],
            "gamma": 0.5,
        },
        CLASSES[:, None],
        4,
        focal,
    ),
    ({"name": "contrastive"}, CLASSES, 3, contrastive),
    ({"name": "contrastive", "temperature": 0.5}, CLASSES % 2, 3, contrastive),
    ({"name": "triplet_semihard"}, CLASSES, 3, triplet_semihard),
    ({"name": "triplet_semihard", "margin": 0.2}, CLASSES[:, None] % 2, 2, triplet_semihard),
    ({"name": "distillation"}, RANDOM.normal(size=(COUNT, 3)), 3, distillation),
    ({"name": "distillation", "temperature": 5.0}, RANDOM.normal(size=(COUNT, 4)), 4, distillation),
]


IDS = [f"{index} {case[0]['name']}" for index, case in enumerate(CASES)]


@pytest.mark.parametrize(("spec", "target", "size", "reference"), CASES, ids=IDS)
def test_values_and_gradients(spec, target, size, reference):
    """NumPy's values, and a gradient as central differences of them give it; saved by Keras, the loss is the same."""
    keras.config.set_floatx("float64")
    function = loss_functions.build(spec, "losses.x.loss").function
    prediction = np.random.RandomState(1).normal(size=(COUNT, size))
    given = {key: value for key, value in spec.items() if key not in ("name", "from_logits")}
    upstream = np.random.RandomState(2).normal(size=COUNT)

    def total(at: np.ndarray) -> float:
        return float(upstream @ reference(target, at, **given))

    variable = tf.Variable(prediction)
    with tf.GradientTape() as tape:
        values = function(target, variable)
        weighted = tf.reduce_sum(values * upstream)
    np.testing.assert_allclose(values, reference(target, prediction, **given), rtol=0, atol=1e-12)
    steps = 1e-6 * np.eye(prediction.size).reshape(-1, *prediction.shape)
    expected = [(total(prediction + step) - total(prediction - step)) / 2e-6 for step in steps]
    np.testing.assert_allclose(tape.gradient(weighted, variable).numpy().ravel(), expected, rtol=0, atol=1e-7)
    again = keras.losses.deserialize(keras.losses.serialize(function))
    np.testing.assert_array_equal(again(target, prediction), values)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e4, 1e15])
@pytest.mark.parametrize("spec", [case[:3] for case in CASES[1::2]], ids=str)
def test_extreme_numbers_are_finite(spec, scale):
    """In float32, which is also what half precision is computed in; values and gradients."""
    spec, target, size = spec
    function = loss_functions.build(spec, "losses.x.loss").function
    prediction = tf.Variable(scale * np.random.RandomState(3).normal(size=(COUNT, size)), dtype=tf.float32)
    with tf.GradientTape() as tape:
        values = function(target, prediction)
    assert np.isfinite(values).all()
    assert np.isfinite(tape.gradient(values, prediction)).all()
    if scale == 1e4:
        half = tf.cast(prediction, tf.bfloat16)
        np.testing.assert_array_equal(function(target, half), function(target, tf.cast(half, tf.float32)))


def test_focal_losses_agree():
    """Of probabilities, with one-hot targets in Keras; an ignored class has a mask and nothing else."""
    probabilities = np.array([softmax(row) for row in RANDOM.normal(size=(COUNT, 4))], np.float32)
    own = focal_losses.SparseCategoricalFocalCrossentropy
    keras_values = keras.losses.CategoricalFocalCrossentropy(reduction="none")(np.eye(4)[CLASSES], probabilities)
    np.testing.assert_allclose(own(reduction="none")(CLASSES, probabilities), keras_values, rtol=1e-5)
    ignoring = _focal(ignore_class=-1)
    values = ignoring.call(tf.constant(np.where(CLASSES == 1, -1, CLASSES)), tf.constant(probabilities))
    mask = predictions.mask_of(values)
    np.testing.assert_array_equal(mask, CLASSES != 1)
    np.testing.assert_allclose(values[mask], keras_values[CLASSES != 1], rtol=1e-5)


def _focal(**arguments):
    return loss_functions.build({"name": "sparse_categorical_focal_crossentropy", **arguments}, "x").function


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "gaussian_nll", "min_variance": 0}, r"loss\.min_variance=0: must be a finite number above 0"),
        (
            {"name": "quantile", "quantiles": [0.5, 1]},
            r"loss\.quantiles=\[0.5, 1\]: must be a number above 0 and below 1",
        ),
        ({"name": "quantile", "quantiles": []}, r"loss\.quantiles=\[\]: must be"),
        ({"name": "contrastive", "temperature": "warm"}, r"loss\.temperature='warm': must be a finite number above 0"),
        ({"name": "triplet_semihard", "margin": -1}, r"loss\.margin=-1: must be a finite number of at least 0"),
        ({"name": "distillation", "temperature": True}, r"loss\.temperature=True: must be"),
        ({"name": "sparse_categorical_focal_crossentropy", "alpha": [0.5, "x"]}, r"loss\.alpha\.1='x': must be"),
        ({"name": "softmax_ranking", "margin": 1}, r"loss\.margin=1: unknown argument"),
        ({"name": "gausian_nll"}, "did you mean 'gaussian_nll'"),
    ],
)
def test_arguments_that_cannot_be(spec, words):
    with pytest.raises(ConfigError, match=words):
        loss_functions.build(spec, "losses.x.loss")
