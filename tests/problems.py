"""A small problem with every way of sharing, given to the trainer by import path, and ways to run it."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from input_pipelines.examples import Examples
from tests import eager
from trainer.combine.registry import METHODS
from trainer.config import loading, settings
from trainer.run import experiment
from trainer.run.experiment import Experiment
from trainer.step.values import State, Totals

LOSSES = ("label", "number", "vector", "vector_l1")
# One method of each kind, for tests that are too slow to take them all; CI does.
REPRESENTATIVES = ("independent", "famo", "pcgrad", "modo", "moco", "graddrop")

_SGD = {"name": "sgd", "learning_rate": 0.05}
# Changes that a method does not see: variables are still reached by four losses, by two and by one. With fewer of them
# and without the optimizers' own numbers a step is traced in half the time.
SIMPLE = {
    "model__trunk": [{"layer": "Dense", "units": 7, "activation": "tanh", "use_bias": False}],
    "model__heads": {
        head: [{"layer": "Dense", "units": units, "use_bias": False}]
        for head, units in {"label": 4, "number": 1, "vector": 3}.items()
    },
    **{f"losses__{name}__optimizer": _SGD for name in LOSSES},
    "shared_optimizer": _SGD,
}


def methods(names: Iterable[str] = METHODS) -> list[Any]:
    """Parameters of a test for each of these methods, most of them for CI only."""
    return [pytest.param(name, marks=[] if name in REPRESENTATIVES else [pytest.mark.ci_only]) for name in names]


def load(examples: int = 64, missing: bool = False) -> dict[str, Examples]:
    """Classes, a number and a vector of six inputs; with `missing`, most numbers and many classes are unknown."""
    return {"train": _split(examples, 1, missing), "validation": _split(29, 2, missing)}


def _split(count: int, seed: int, missing: bool) -> Examples:
    random = np.random.RandomState(seed)
    inputs = random.normal(size=(count, 6))
    hidden = np.tanh(inputs @ random.normal(size=(6, 5)))
    targets = {
        "label": np.argmax(hidden[:, :4], axis=1),
        "number": hidden @ random.normal(size=5),
        "vector": hidden @ random.normal(size=(5, 3)),
    }
    weights = {}
    if missing:
        # Few numbers, so that some batches have none; labels missing or weighted, more of them among the later
        # examples.
        weights["number"] = (random.uniform(size=count) < 0.12).astype(np.float64)
        weights["number"][0] = 1.0
        weights["label"] = np.where(
            random.uniform(size=count) < np.linspace(0.9, 0.2, count), random.uniform(0.5, 2, count), 0
        )
    return Examples(inputs, targets, weights)


def tree(**changes: Any) -> dict[str, Any]:
    """The configuration as a nested dictionary; `a__b=value` sets `a.b`."""
    adam = {"name": "adam", "learning_rate": 0.01}
    result = {
        "precision": "float64",
        "reduction": "per_loss",  # whatever a method looks at; tests of other ways say so
        "batch_size": 11,
        "steps": 20,
        "dataset": {"name": "tests.problems:load", "options": {}},
        "model": {
            "trunk": [{"layer": "Dense", "units": 7, "activation": "tanh"}],
            "heads": {
                "label": [{"layer": "Dense", "units": 4}],
                "number": [{"layer": "Dense", "units": 1}],
                "vector": [{"layer": "Dense", "units": 5, "activation": "tanh"}, {"layer": "Dense", "units": 3}],
            },
        },
        "losses": {
            "label": {
                "head": "label",
                "target": "label",
                "loss": {"name": "sparse_categorical_crossentropy", "from_logits": True},
                "metrics": ["accuracy"],
                "optimizer": adam,
            },
            "number": {
                "head": "number",
                "target": "number",
                "loss": "mse",
                "weight": 0.5,
                "metrics": ["mae"],
                "optimizer": {"name": "sgd", "learning_rate": 0.02, "momentum": 0.9},
            },
            # Two losses share a head, so its variables are reached by two losses of four.
            "vector": {"head": "vector", "target": "vector", "loss": "mse", "weight": 2.0, "optimizer": adam},
            "vector_l1": {
                "head": "vector",
                "target": "vector",
                "loss": "mae",
                "normalizer": "examples",
                "optimizer": {"name": "rmsprop", "learning_rate": 0.003},
            },
        },
        "shared_optimizer": adam,
    }
    return changed(result, changes)


def changed(tree: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The nested dictionary, with `a.b` set in place to the value of `a__b`."""
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = value
    return tree


def config(**changes: Any) -> settings.Config:
    """The resolved configuration, changed as `tree` does."""
    return loading.resolve(tree(**changes))


@functools.cache
def strategy(replicas: int) -> tf.distribute.Strategy:
    """`replicas` logical CPU devices."""

    class Strategy(tf.distribute.MirroredStrategy):
        # TensorFlow's own hook for tests: groups of different sizes in one process must not share a collective's key.
        _collective_key_base = 100_000 * replicas

    return Strategy([f"/device:CPU:{index}" for index in range(replicas)])


@dataclasses.dataclass(frozen=True)
class Result:
    """The results of a short training.

    Attributes:
      losses: (steps, K), the means of each call of the loop; NaN where a loss was inactive.
      variables: path → trainable variable.
      optimizers: `<optimizer>/<path>` → variable of an optimizer.
      validation: the final evaluation; empty where there was none.
      grad_norms: (K,), of the last step.
      cosines: (K, K), of the last step.
    """

    losses: np.ndarray
    variables: dict[str, np.ndarray]
    optimizers: dict[str, np.ndarray]
    validation: dict[str, float | None]
    grad_norms: np.ndarray
    cosines: np.ndarray


def train(
    built: Experiment,
    steps: int,
    *,
    first_step: int = 0,
    calls: int | None = None,
    evaluate: bool = False,
    loop: Callable[..., tuple[State, Totals]] | None = None,
) -> Result:
    """Trains for `steps` steps in `calls` calls of the in-graph loop (default: one step each), perhaps evaluates.

    `loop`: the experiment's own from an earlier call of `built.step.build`, so that it is not traced again.
    """
    loop, iterator = loop or built.step.build(), built.source(first_step)
    per_call = steps // (calls or steps)
    losses, state = [], built.step.initial_state()
    for first in range(first_step, first_step + steps, per_call):
        numbers = (tf.constant(value, tf.int64) for value in (first, per_call))
        state, totals = loop(iterator, *numbers, tf.constant(True), state, built.step.initial_totals())
        assert int(totals.failed_step) == -1
        counts = totals.counts.numpy()
        losses.append(np.where(counts > 0, totals.losses.numpy() / np.maximum(counts, 1), np.nan))
    return Result(
        losses=np.array(losses),
        variables={variable.path: variable.numpy() for variable in built.model.trainable_variables},
        optimizers={
            f"{group.name}/{variable.path.partition('/')[2]}": np.array(variable)
            for group in built.optimizer_groups
            for variable in group.optimizer.variables
        },
        validation=built.evaluator.build()() if evaluate else {},
        grad_norms=totals.measured.grad_norms.numpy(),
        cosines=totals.measured.cosines.numpy(),
    )


def run(replicas: int, steps: int, *, calls: int | None = None, evaluate: bool = False, **changes: Any) -> Result:
    """Builds the problem on `replicas` replicas and trains it."""
    return train(experiment.build(config(**changes), strategy(replicas)), steps, calls=calls, evaluate=evaluate)


def reference(steps: int, **changes: Any) -> Result:
    """The result of `run` on one replica, its steps taken as they stand: few of them take less time than a trace."""
    with eager.functions():
        return run(1, steps, **changes)


def assert_same(result: Result, expected: Result, *, tolerance: float = 1e-9, reports: bool = True) -> None:
    """Both trainings gave the same; `reports`: also the same norms and cosines."""
    close = functools.partial(np.testing.assert_allclose, rtol=0, atol=tolerance)
    close(result.losses, expected.losses)
    for name, value in expected.variables.items():
        close(result.variables[name], value, err_msg=name)
    for name, value in expected.optimizers.items():
        close(result.optimizers[name], value, err_msg=name)
    assert result.validation == pytest.approx(expected.validation, rel=0, abs=tolerance)
    if reports:
        close(result.grad_norms, expected.grad_norms)
        close(result.cosines, expected.cosines)


def scalar_loss(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    """A loss as many write it, and as it cannot be used here."""
    return tf.reduce_mean(tf.square(target - prediction))


def exploding_loss(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    """Rewards large predictions, so that it overflows some steps in."""
    del target
    return -tf.reduce_sum(tf.exp(tf.square(prediction)), axis=-1)


def triplet(target: tf.Tensor, prediction: tf.Tensor, margin: float = 1.0) -> tf.Tensor:
    """A loss that compares the examples of a batch: of each the mean over the triplets of which it is the anchor."""
    labels = tf.reshape(target, [-1])
    distance = tf.reduce_sum(tf.square(prediction[:, None] - prediction[None]), -1)
    same = tf.equal(labels[:, None], labels[None])
    positive = same & ~tf.eye(tf.shape(labels)[0], dtype=tf.bool)
    counted = tf.cast(positive[:, :, None] & ~same[:, None, :], distance.dtype)
    values = tf.nn.relu(distance[:, :, None] - distance[:, None, :] + margin)
    return tf.math.divide_no_nan(tf.reduce_sum(values * counted, [1, 2]), tf.reduce_sum(counted, [1, 2]))


def two_towers(width: int = 4) -> keras.Model:
    """A model of the user's own: two towers, the second a middle layer shared by two heads."""
    inputs = keras.Input((6,), name="inputs")
    left = keras.layers.Dense(width, activation="tanh", name="left")(inputs)
    right = keras.layers.Dense(width, activation="tanh", name="right")(inputs)
    outputs = {
        "label": keras.layers.Dense(4, name="label")(left),
        "number": keras.layers.Dense(1, name="number")(right),
        "vector": keras.layers.Dense(3, name="vector")(right),
    }
    return keras.Model(inputs, outputs, name="two_towers")


def linear_rows(seed: int = 0) -> dict[str, Examples]:
    """Two examples; as linear losses of one shared vector of two numbers their gradients are the inputs themselves."""
    del seed
    inputs = np.array([[[1.0, 0.0], [-1.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]]])
    split = Examples(inputs, {"none": np.zeros(2)})
    return {"train": split, "validation": split}


def linear_rows_model() -> keras.Model:
    """Heads `a` and `b`: the products of a shared vector with the first and the second row of an example."""
    inputs = keras.Input((2, 2), name="inputs")
    shared = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="shared")
    outputs = shared(inputs)
    heads = {
        "a": keras.layers.Lambda(lambda x: x[:, 0, 0])(outputs),
        "b": keras.layers.Lambda(lambda x: x[:, 1, 0])(outputs),
    }
    return keras.Model(inputs, heads)


def output_itself(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    """The prediction as the loss."""
    del target
    return prediction
