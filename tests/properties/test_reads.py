"""Losses of several heads, inputs, layers, derivatives and of what layers add equal a loop written by hand."""

import functools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from input_pipelines.examples import Examples
from tests import eager, problems
from tests.properties.reading_losses import LOSSES, RATE, SIZES, STEPS, agreement, autoencoder, load, tree
from trainer.components import losses, predictions
from trainer.config import loading
from trainer.run import experiment

HERE = "tests.properties.test_reads"


def _by_hand(model: keras.Model, batch: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """Every loss of a batch as a mean over its labels, written out."""
    inputs, targets, weights = (batch[kind] for kind in ("inputs", "targets", "weights"))
    layers = {layer.name: layer for layer in model.layers}
    with tf.GradientTape() as outer:
        outer.watch(inputs["time"])
        with tf.GradientTape() as inner:
            inner.watch(inputs["time"])
            heads = model(inputs, training=True)
        first = inner.gradient(heads["field"], inputs["time"])
    second = outer.gradient(first, inputs["time"])
    hidden = layers["encoder"](inputs["image"])
    mu, log_sigma = heads["mu"], heads["log_sigma"]
    code = mu + tf.exp(log_sigma) * inputs["noise"]

    def mean(values: tf.Tensor, weight: tf.Tensor | float = 1.0) -> tf.Tensor:
        weight = tf.broadcast_to(tf.cast(weight, tf.float64), tf.shape(values))
        return tf.reduce_sum(weight * values) / tf.reduce_sum(weight)

    logs = tf.nn.log_softmax(heads["digit"])
    chosen = tf.gather(heads["digit"], targets["digit"], batch_dims=1)
    return {
        "digit": mean(-tf.gather(logs, targets["digit"], batch_dims=1), weights["digit"]),
        "kl": mean(0.25 * tf.reduce_sum(mu**2 + tf.exp(2 * log_sigma) - 1 - 2 * log_sigma, -1)),
        "reconstruction": mean(tf.reduce_mean((inputs["image"] - heads["reconstruction"]) ** 2, -1)),
        "agreement": mean((chosen - mu[:, 0] - 0.1 * targets["number"]) ** 2, weights["digit"] * weights["number"]),
        "residual": mean((second + first + heads["field"] - tf.sin(inputs["time"]))[:, 0] ** 2),
        "sparsity": mean(tf.reduce_sum(tf.abs(hidden), -1)),
        "adding": tf.reduce_mean((mu - 1) ** 2) + tf.reduce_mean((code - 1) ** 2),
        "others": mean(0.125 * tf.reduce_sum(hidden**2, -1)),
    }


@functools.cache
def expected() -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, float]]:
    """The losses of every step, the variables after them and the validation losses, by a loop written by hand."""
    built = experiment.build(loading.resolve(tree()), problems.strategy(1))
    model, weights = built.model, [loss.get("weight", 1.0) for loss in LOSSES.values()]
    trained, batches = model.trainable_variables, iter(built.batches(0))

    @tf.function(autograph=False)
    def step(batch: dict[str, Any]) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            found = list(_by_hand(model, batch).values())
            total = tf.add_n([weight * loss for weight, loss in zip(weights, found, strict=True)])
        for variable, gradient in zip(trained, tape.gradient(total, trained), strict=True):
            variable.assign_sub(RATE * gradient)
        return found

    losses = [[float(loss) for loss in step(next(batches))] for _ in range(STEPS)]
    split = tf.nest.map_structure(tf.constant, _as_dict(load()["validation"]))
    validation = {f"loss/{name}": float(value) for name, value in _by_hand(model, split).items()}
    number, labelled = split["targets"]["number"], split["weights"]["number"]
    error = np.abs(model(split["inputs"])["field"][:, 0] - number)[labelled > 0]
    validation |= {"sum/mae": np.mean(error), "sum/mse": np.mean(error**2), "labels/sum": len(error)}
    return np.array(losses), {each.path: each.numpy() for each in trained}, validation


def _as_dict(split: Examples) -> dict[str, Any]:
    return {"inputs": split.inputs, "targets": split.targets, "weights": split.weights}


@pytest.mark.parametrize(
    ("replicas", "changes"),
    [
        (2, {"reduction": "fused", "probe_every": 10}),
        pytest.param(3, {}, marks=pytest.mark.ci_only),
        pytest.param(1, {"compile": "passes"}, marks=pytest.mark.ci_only),
    ],
)
def test_equals_a_loop_written_by_hand(replicas, changes):
    built = experiment.build(loading.resolve(tree(**changes)), problems.strategy(replicas))
    found = problems.train(built, STEPS, evaluate=True)
    losses, variables, validation = expected()
    np.testing.assert_allclose(found.losses, losses, rtol=0, atol=1e-9)
    for (path, value), own in zip(variables.items(), found.variables.values(), strict=True):
        np.testing.assert_allclose(own, value, rtol=0, atol=1e-9, err_msg=path)
    for name, value in validation.items():
        assert found.validation[name] == pytest.approx(value, abs=1e-9), name


class Subclassed(keras.Model):
    """The autoencoder within a model whose call is code."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.body = autoencoder()

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> Mapping[str, tf.Tensor]:
        return self.body(inputs, training=training)


def subclassed() -> keras.Model:
    """A subclassed model, built."""
    model = Subclassed(name="subclassed")
    model({name: tf.zeros((1, size)) for name, size in SIZES.items()})
    return model


def test_subclassed_in_micro_batches_without_a_trace():
    """Names are ways to layers; what a layer adds is summed over the parts of a batch as over the batch."""
    changed = tree(
        model={"name": f"{HERE}:subclassed"},
        micro_batches=2,
        losses__sparsity__reads__code="layers.autoencoder/encoder",
        losses__adding__from="autoencoder/adding",
        losses__others__from="autoencoder",
    )
    with eager.functions():
        found = problems.train(experiment.build(loading.resolve(changed), problems.strategy(1)), 3)
    np.testing.assert_allclose(found.losses, expected()[0][:3], rtol=0, atol=1e-9)


def test_masks_and_weights_multiply():
    """Of two heads with masks and two targets with weights an example counts where all say so."""
    keras.config.set_floatx("float64")
    loss = losses.build("agreement", loading.resolve(tree()).losses["agreement"])
    random = np.random.RandomState(0)
    outputs = {name: tf.constant(random.normal(size=(6, 3))) for name in ("mu", "digit")}
    masks = {"mu": np.array([1, 1, 0, 1, 1, 1], bool), "digit": np.array([1, 0, 1, 1, 1, 1], bool)}
    for name, mask in masks.items():
        predictions.with_mask(outputs[name], tf.constant(mask))
    targets = {"digit": tf.constant(random.randint(0, 3, 6)), "number": tf.constant(random.normal(size=6))}
    weights = {"digit": np.array([1, 1, 1, 0, 2, 0.5]), "number": np.array([1, 1, 1, 1, 3, 0.25])}
    batch = {"targets": targets, "weights": tf.nest.map_structure(tf.constant, weights)}
    values = agreement(outputs["mu"], outputs["digit"], targets["digit"], targets["number"])
    found = losses.sums(loss, predictions.of(outputs), batch)
    counted = weights["digit"] * weights["number"] * masks["mu"] * masks["digit"]
    assert float(found.loss_sum) == pytest.approx(np.sum(counted * values), rel=1e-12)
    assert float(found.weight_sum) == np.sum(counted) == 1 + 6 + 0.125
    assert float(found.left) == 4


def nearest(code: tf.Tensor, image: tf.Tensor, digit: tf.Tensor) -> tf.Tensor:
    """The triplets of a class, of a head beside an input."""
    return problems.triplet(digit, tf.concat([code, image], -1))


def normalized() -> keras.Model:
    """Statistics of the global batch before and after what adds a loss: replicas take turns within one call."""
    image = keras.Input((6,), name="image")
    hidden = keras.layers.Dense(5)(keras.layers.BatchNormalization(synchronized=True)(image))
    hidden = keras.layers.ActivityRegularization(l2=0.125, name="adding")(hidden)
    heads = {"mu": keras.layers.Dense(3)(keras.layers.BatchNormalization(synchronized=True)(hidden))}
    others = {name: keras.Input((size,), name=name) for name, size in SIZES.items() if name != "image"}
    return keras.Model({"image": image, **others}, heads)


_OF_THE_BATCH = {
    "model": {"name": f"{HERE}:normalized"},
    "losses": {
        "near": {
            "loss": f"{HERE}:nearest",
            "reads": {"code": "heads.mu", "image": "inputs.image", "digit": "targets.digit"},
            "over": "global_batch",
        },
        "adding": {"from": "model"},
    },
    "metrics": {},
}


@pytest.mark.ci_only
def test_inputs_are_gathered_and_replicas_take_turns():
    """A loss of the global batch's heads and inputs, and one that a layer adds between synchronized statistics."""
    changed = tree(**_OF_THE_BATCH)
    with eager.functions():
        one = problems.train(experiment.build(loading.resolve(changed), problems.strategy(1)), 3)
    three = problems.train(experiment.build(loading.resolve(changed), problems.strategy(3)), 3)
    np.testing.assert_allclose(three.losses, one.losses, rtol=0, atol=1e-9)
