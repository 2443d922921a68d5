"""Metrics of `compile` count labels as the command line does, and are those of Keras where nothing is missing."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.common.errors import ConfigError
from trainer.components import predictions
from trainer.keras_model import losses
from trainer.keras_model.metrics import Metrics
from trainer.keras_model.outputs import Matching

RANDOM = np.random.RandomState(0)
CLASSES, LOGITS = RANDOM.randint(0, 3, 20), RANDOM.normal(size=(20, 3)).astype(np.float32)
LABELS, LOGIT = RANDOM.randint(0, 2, (20, 1)).astype(np.float32), RANDOM.normal(size=(20, 1)).astype(np.float32)
NUMBERS, FOUND = RANDOM.normal(size=(2, 20, 4)).astype(np.float32)
OUTPUTS = {"kind": LOGITS, "flag": LOGIT, "numbers": FOUND}
TARGETS = {"kind": CLASSES, "flag": LABELS, "numbers": NUMBERS}
LOSSES = {
    "kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "flag": keras.losses.BinaryCrossentropy(from_logits=True),
}


def result(metrics, targets=TARGETS, weights=None, weighted=None, losses_given=LOSSES):
    outputs = {name: tf.TensorSpec((None, *each.shape[1:]), each.dtype) for name, each in OUTPUTS.items()}
    specs = {name: tf.TensorSpec((None, *each.shape[1:]), each.dtype) for name, each in targets.items()}
    matching = Matching(losses_given, None, list(outputs), outputs, specs)
    built = Metrics(metrics, weighted, list(outputs), outputs, specs, losses.build(matching.losses), sorted(outputs))
    batch = matching.batch(None, {name: tf.constant(each) for name, each in targets.items()}, weights)
    for metrics_of_output in built.of_outputs:
        metrics_of_output.update(predictions.of({name: tf.constant(each) for name, each in OUTPUTS.items()}), batch)
    return {name: float(each) for name, each in built.result().items()}


def test_a_head_of_logits_is_judged_by_probabilities():
    found = result(
        {"kind": ["accuracy", keras.metrics.SparseCategoricalCrossentropy(name="ce")], "flag": ["accuracy", "AUC"]}
    )
    log_softmax = LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True))
    positive, negative = LOGIT[LABELS == 1], LOGIT[LABELS == 0]
    assert found["kind_accuracy"] == pytest.approx((LOGITS.argmax(axis=1) == CLASSES).mean())
    assert found["kind_ce"] == pytest.approx(-log_softmax[np.arange(20), CLASSES].mean(), rel=1e-5)
    assert found["flag_accuracy"] == pytest.approx(((LOGIT > 0) == LABELS).mean())
    assert found["flag_AUC"] == pytest.approx((positive[:, None] > negative).mean(), abs=0.01)


def test_labels_that_are_missing_do_not_count():
    numbers = NUMBERS.copy()
    numbers[RANDOM.uniform(size=numbers.shape) < 0.3] = np.nan
    there = RANDOM.uniform(size=20) < 0.5
    weights = {"kind": tf.constant(2.0 * there, tf.float32), "numbers": tf.linspace(0.5, 2.0, 20)}
    metrics = {"kind": ["accuracy"], "numbers": ["mae"]}
    found = result(metrics, TARGETS | {"numbers": numbers}, weights, weighted={"numbers": ["mse"]})
    assert found["kind_accuracy"] == pytest.approx((LOGITS.argmax(axis=1) == CLASSES)[there].mean())
    # An output without a loss: examples of which any number is missing have no label.
    whole = ~np.isnan(numbers).any(axis=1)
    errors = (FOUND - NUMBERS)[whole]
    assert found["numbers_mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-5)
    assert found["numbers_mse"] == pytest.approx(
        np.average((errors**2).mean(axis=1), weights=np.linspace(0.5, 2.0, 20)[whole]), rel=1e-5
    )


def test_functions_may_return_anything():
    """One number for all examples, for each or for each number, or a loss; an example counts where it is whole."""
    numbers = NUMBERS.copy()
    numbers[::3, 1] = np.nan
    functions = {
        "scalar": lambda target, output: keras.ops.mean(keras.ops.abs(target - output)),
        "of_examples": lambda target, output: keras.ops.mean(keras.ops.square(target - output), axis=-1),
        "of_numbers": lambda target, output: keras.ops.abs(target - output),
    }
    for name, function in functions.items():
        function.__name__ = name
    given = {"numbers": [*functions.values(), keras.losses.MeanSquaredError(name="loss")]}
    flags = {"flag": [lambda target, output: target == keras.ops.cast(output > 0, target.dtype)]}
    with_loss = LOSSES | {"numbers": "mse"}
    found = result(given | flags, TARGETS | {"numbers": numbers}, losses_given=with_loss)
    there = ~np.isnan(numbers)
    errors, whole = FOUND - np.where(there, numbers, 0), there.all(axis=1)
    assert found["numbers_scalar"] == pytest.approx(np.abs(errors).mean(), rel=1e-5)
    assert found["numbers_of_examples"] == pytest.approx((errors[whole] ** 2).mean(), rel=1e-5)
    assert found["numbers_of_numbers"] == pytest.approx(np.abs(errors[there]).mean(), rel=1e-5)
    assert found["numbers_loss"] == found["numbers_of_examples"]
    assert found["flag_lambda"] == pytest.approx(((LOGIT > 0) == LABELS).mean())


def test_metrics_of_an_output_without_a_target_are_refused():
    targets = {name: TARGETS[name] for name in ("kind", "flag")}
    with pytest.raises(ConfigError, match="'numbers', for which there is no target"):
        result({"numbers": ["mae"]}, targets)
