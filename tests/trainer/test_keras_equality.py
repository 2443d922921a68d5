"""Joint weighted training is Keras' `compile` and `fit`; independent training is a loop with a tape per loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from trainer import configuration, experiment
from trainer.experiment import Experiment

STEPS = 50
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
    for name, loss in tree["losses"].items():
        loss["optimizer"] = optimizers[name]
    return experiment.build(configuration.resolve(tree), tf.distribute.get_strategy())


def _batches(built: Experiment) -> list[dict]:
    return [tf.nest.map_structure(lambda x: x.numpy(), batch) for batch in built.batches(0).take(STEPS)]


def _keras_optimizer(spec: dict) -> keras.optimizers.Optimizer:
    return keras.optimizers.get({"class_name": spec["name"], "config": {k: v for k, v in spec.items() if k != "name"}})


def _assert_same_variables(built: Experiment, other: keras.Model) -> None:
    for ours, theirs in zip(built.model.trainable_variables, other.trainable_variables, strict=True):
        assert ours.dtype == "float64"
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-9, atol=1e-9, err_msg=ours.path)


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_weighted_is_compile_and_fit(optimizer):
    """The same variables after 50 steps on the same batches; the mean loss of the last epoch is the same, too."""
    spec = OPTIMIZERS[optimizer]
    built = _build(dict.fromkeys(KERAS_LOSSES, spec), spec)
    other = keras.models.clone_model(built.model)
    other.set_weights(built.model.get_weights())
    start = [variable.numpy() for variable in other.trainable_variables]
    weights = {loss.name: loss.weight for loss in built.losses}
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


def test_independent_is_a_loop_with_a_tape_and_an_optimizer_for_each_loss():
    """Every gradient at the same point, applied to all variables that a loss reaches, in the losses' order."""
    specs = {"label": OPTIMIZERS["adam"], "number": OPTIMIZERS["momentum"], "vector": OPTIMIZERS["rmsprop"]}
    built = _build(specs, OPTIMIZERS["adam"], combine__name="independent")
    other = keras.models.clone_model(built.model)
    other.set_weights(built.model.get_weights())
    variables = other.trainable_variables
    optimizers = {name: _keras_optimizer(spec) for name, spec in specs.items()}
    functions = {name: make() for name, make in KERAS_LOSSES.items()}
    for batch in _batches(built):
        gradients = {}
        for loss in built.losses:
            with tf.GradientTape() as tape:
                outputs = other(batch["inputs"], training=True)
                value = loss.weight * functions[loss.name](batch["targets"][loss.target], outputs[loss.head])
            gradients[loss.name] = tape.gradient(value, [variable.value for variable in variables])
        for name, own in gradients.items():
            reached = [(gradient, v) for gradient, v in zip(own, variables, strict=True) if gradient is not None]
            optimizers[name].apply_gradients(reached)
    problems.train(built, STEPS)
    _assert_same_variables(built, other)
