"""Equality to 1e-9 with code by hand: `weighted` is Keras' `compile` and `fit`, the others are loops with tapes."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from trainer.config import loading
from trainer.run import experiment
from trainer.run.experiment import Experiment

STEPS = 50 if os.environ.get("CI") == "true" else 20
OPTIMIZERS = {
    "adam": {"name": "adam", "learning_rate": 0.01},
    "momentum": {"name": "sgd", "learning_rate": 0.02, "momentum": 0.9},
    "nadam": {"name": "nadam", "learning_rate": 0.003},
    "rmsprop": {"name": "rmsprop", "learning_rate": 0.002, "rho": 0.8},
}
KERAS_LOSSES = {
    "label": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "number": lambda: keras.losses.MeanSquaredError(),
    "vector": lambda: keras.losses.Huber(delta=0.5),
}


def _build(optimizers: dict[str, dict], shared: dict, **changes) -> Experiment:
    """Three heads on a trunk, each with one loss, in float64 on one replica, no labels missing."""
    tree = problems.tree(**changes, shared_optimizer=shared)
    del tree["losses"]["vector_l1"]
    tree["losses"]["vector"]["loss"] = {"name": "huber", "delta": 0.5}
    tree["losses"]["number"]["weight"] = 0.3  # which float32 does not hold
    for name, loss in tree["losses"].items():
        loss["optimizer"] = optimizers[name]
    return experiment.build(loading.resolve(tree), tf.distribute.get_strategy())


def _batches(built: Experiment) -> list[dict]:
    return [tf.nest.map_structure(lambda x: x.numpy(), batch) for batch in built.batches(0).take(STEPS)]


def _keras_optimizer(spec: dict) -> keras.optimizers.Optimizer:
    return keras.optimizers.get({"class_name": spec["name"], "config": {k: v for k, v in spec.items() if k != "name"}})


def _assert_same_variables(built: Experiment, other: keras.Model) -> None:
    for ours, theirs in zip(built.model.trainable_variables, other.trainable_variables, strict=True):
        assert ours.dtype == "float64"
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-9, atol=1e-9, err_msg=ours.path)


@pytest.mark.parametrize(
    "optimizer",
    [pytest.param(each, marks=[pytest.mark.ci_only] if each != "adam" else []) for each in OPTIMIZERS],
)
def test_weighted_is_compile_and_fit(optimizer):
    """The same variables after all steps on the same batches; the mean loss of the last epoch is the same, too."""
    spec = OPTIMIZERS[optimizer]
    built = _build(dict.fromkeys(KERAS_LOSSES, spec), spec)
    other = keras.models.clone_model(built.model)
    other.set_weights(built.model.get_weights())
    start = [variable.numpy() for variable in other.trainable_variables]
    weights = {name: loss.weight for name, loss in built.config.losses.items()}
    assert len(set(weights.values())) == 3
    other.compile(_keras_optimizer(spec), {name: make() for name, make in KERAS_LOSSES.items()}, loss_weights=weights)
    batches = _batches(built)
    size = len(batches[0]["inputs"])
    inputs = np.concatenate([batch["inputs"] for batch in batches])
    targets = {name: np.concatenate([batch["targets"][name] for batch in batches]) for name in KERAS_LOSSES}
    history = other.fit(inputs, targets, batch_size=size, shuffle=False, verbose=0).history

    losses = problems.train(built, STEPS).losses
    _assert_same_variables(built, other)
    assert all(np.abs(a - b.numpy()).max() > 1e-3 for a, b in zip(start, other.trainable_variables, strict=True))
    for k, loss in enumerate(built.losses):
        assert np.mean(losses[:, k]) == pytest.approx(history[f"{loss.name}_loss"][0], rel=1e-6)


def _loop(built: Experiment, apply) -> keras.Model:
    """Trains a copy by hand: for every batch a tape for each loss, then `apply(gradients by loss, variables)`."""
    other = keras.models.clone_model(built.model)
    other.set_weights(built.model.get_weights())
    variables = other.trainable_variables
    functions = {name: make() for name, make in KERAS_LOSSES.items()}
    for batch in _batches(built):
        gradients = {}
        for loss in built.losses:
            with tf.GradientTape() as tape:
                outputs = other(batch["inputs"], training=True)
                value = functions[loss.name](batch["targets"][loss.target], outputs[loss.head])
            gradients[loss.name] = tape.gradient(value, [variable.value for variable in variables])
        apply(gradients, variables)
    return other


def test_independent_is_a_loop_with_a_tape_and_an_optimizer_for_each_loss():
    """Every gradient at the same point, applied to all variables that a loss reaches, in the losses' order."""
    specs = {"label": OPTIMIZERS["adam"], "number": OPTIMIZERS["momentum"], "vector": OPTIMIZERS["rmsprop"]}
    built = _build(specs, OPTIMIZERS["adam"], combine__name="independent")
    optimizers = {name: _keras_optimizer(spec) for name, spec in specs.items()}
    weights = {name: loss.weight for name, loss in built.config.losses.items()}

    def apply(gradients, variables):
        for name, own in gradients.items():
            reached = zip(own, variables, strict=True)
            optimizers[name].apply_gradients([(weights[name] * g, v) for g, v in reached if g is not None])

    other = _loop(built, apply)
    problems.train(built, STEPS)
    _assert_same_variables(built, other)


MEAN = ({"name": "mean"}, tf.identity)
NORMALIZED = ({"name": "normalized", "normalized": {"per_variable": True}}, tf.nn.l2_normalize)


@pytest.mark.parametrize(
    ("combine", "treat", "optimizer"),
    [
        (*MEAN, "momentum"),
        pytest.param(*NORMALIZED, "adam", marks=pytest.mark.ci_only),
        pytest.param(*MEAN, "adam", marks=pytest.mark.ci_only),
        pytest.param(*NORMALIZED, "momentum", marks=pytest.mark.ci_only),
    ],
)
def test_separate_gradients_are_averaged_where_they_exist(combine, treat, optimizer):
    """As they are, or each brought to unit length for each variable; one optimizer applies the average."""
    spec = OPTIMIZERS[optimizer]
    built = _build(dict.fromkeys(KERAS_LOSSES, spec), spec, combine=combine)
    one = _keras_optimizer(spec)

    def apply(gradients, variables):
        existing = [[treat(g) for g in own if g is not None] for own in zip(*gradients.values(), strict=True)]
        one.apply_gradients([(sum(own) / len(own), v) for own, v in zip(existing, variables, strict=True)])

    other = _loop(built, apply)
    problems.train(built, STEPS)
    _assert_same_variables(built, other)
