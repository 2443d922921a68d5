"""Optimizers whose updates are one operation of TensorFlow, beside Keras' own formulas."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from trainer.components import optimizers

SIZES = (7, 8 * 16, 500, 2**14 + 1)  # on both sides of where one operation takes longer than several
SPECS = [
    {"class_name": "Adam", "config": {"learning_rate": 0.1, "beta_1": 0.8, "epsilon": 1e-3}},
    {"class_name": "AdamW", "config": {"learning_rate": 0.1, "weight_decay": 0.3, "clipnorm": 1.0}},
    {"class_name": "SGD", "config": {"learning_rate": 0.1}},
    {"class_name": "SGD", "config": {"learning_rate": 0.1, "momentum": 0.7}},
    {"class_name": "SGD", "config": {"learning_rate": 0.1, "momentum": 0.7, "nesterov": True}},
    {"class_name": "RMSprop", "config": {"learning_rate": 0.1, "rho": 0.8, "epsilon": 1e-3}},
    {"class_name": "RMSprop", "config": {"learning_rate": 0.1, "centered": True}},
    {"class_name": "RMSprop", "config": {"learning_rate": 0.1, "rho": 0.7, "momentum": 0.6}},
    {"class_name": "RMSprop", "config": {"learning_rate": 0.1, "momentum": 0.6, "centered": True}},
    {"class_name": "Adam", "config": {"learning_rate": 0.1, "amsgrad": True}},  # Keras' own
]


def _gradients(step: int) -> list[np.ndarray]:
    random = np.random.default_rng(step)
    return [random.normal(size=size) for size in SIZES]


def _own(spec: dict) -> keras.optimizers.Optimizer:
    return keras.optimizers.deserialize(spec)


def _variables() -> list[keras.Variable]:
    return [keras.Variable(np.linspace(-1, 1, size), dtype="float64", name=f"of_{size}") for size in SIZES]


def _state(optimizer: keras.optimizers.Optimizer) -> dict[str, np.ndarray]:
    return {variable.path.partition("/")[2]: variable.numpy() for variable in optimizer.variables}


@pytest.fixture(scope="module", params=SPECS, ids=lambda spec: "-".join([spec["class_name"], *spec["config"]]))
def by_keras(request):
    """A specification with the variables and the optimizer's after three of Keras' own updates."""
    optimizer, variables = _own(request.param), _variables()
    optimizer.build(variables)
    for step in range(3):
        optimizer.apply([tf.constant(each) for each in _gradients(step)], variables)
    return request.param, [variable.numpy() for variable in variables], _state(optimizer)


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_same_as_keras(by_keras, replicas):
    spec, expected, state = by_keras
    strategy = problems.strategy(replicas)
    with strategy.scope():
        variables, optimizer = _variables(), _own(spec)
        optimizer.build(variables)
        optimizers.adopt(optimizer, "optimizer")

    @tf.function(autograph=False)
    def update(*gradients: tf.Tensor) -> None:
        strategy.run(lambda *own: optimizer.apply(list(own), variables), args=gradients)

    for step in range(3):
        update(*map(tf.constant, _gradients(step)))
    for variable, wanted in zip(variables, expected, strict=True):
        for local in strategy.experimental_local_results(variable.value):
            np.testing.assert_allclose(local.numpy(), wanted, rtol=1e-12, atol=1e-13)
    found = _state(optimizer)
    assert list(found) == list(state)
    for name, value in state.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12, atol=1e-13, err_msg=name)
    traced = update.get_concrete_function(*map(tf.constant, _gradients(0)))
    types = {operation.type for operation in traced.graph.get_operations()}
    assert any(each.startswith("ResourceApply") for each in types) == (not spec["config"].get("amsgrad", False))


def test_an_update_of_the_users_own_stays():
    class Halving(keras.optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            self.assign(variable, variable / 2)

    variables, optimizer = _variables(), Halving()
    optimizer.build(variables)
    optimizers.adopt(optimizer, "optimizer")
    optimizer.apply([tf.constant(each) for each in _gradients(0)], variables)
    np.testing.assert_allclose(variables[0].numpy(), np.linspace(-1, 1, SIZES[0]) / 2)
