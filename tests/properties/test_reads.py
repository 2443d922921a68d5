"""Losses of several heads, inputs, layers, derivatives and of what layers add equal a loop written by hand."""

import copy
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from input_pipelines.examples import Examples
from tests import eager, problems
from trainer.common.errors import ConfigError
from trainer.common.trust import NOBODY
from trainer.components import losses, predictions
from trainer.config import loading
from trainer.run import experiment, optimization
from trainer.run import network as network_lib

HERE = "tests.properties.test_reads"
STEPS, RATE = 30, 1 / 16


def load() -> dict[str, Examples]:
    """Pictures, times and noise; a class of which some are missing, and a number of which others are."""
    return {"train": _split(40, 1), "validation": _split(17, 2)}


def _split(count: int, seed: int) -> Examples:
    random = np.random.RandomState(seed)
    inputs = {"image": random.normal(size=(count, 6)), "time": random.uniform(size=(count, 1))}
    inputs["noise"] = random.normal(size=(count, 2))
    targets = {"digit": np.argmax(inputs["image"][:, :3], 1), "number": inputs["image"].sum(1)}
    weights = {"digit": random.uniform(0.5, 2, count) * (random.uniform(size=count) < 0.6)}
    weights["number"] = (random.uniform(size=count) < 0.7).astype(np.float64)
    return Examples(inputs, targets, weights)


class Adding(keras.layers.Layer):
    """Adds a loss in every call, and nothing to what it is given."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        self.add_loss(tf.reduce_mean(tf.square(inputs - 1.0)))
        return inputs


def autoencoder() -> keras.Model:
    """An autoencoder with a classifier on its code, and a field over time; noise is an input, so that it is known."""
    image, time, noise = (keras.Input((size,), name=name) for name, size in _SIZES.items())
    hidden = keras.layers.Dense(
        5, activation="tanh", activity_regularizer=keras.regularizers.L2(0.125), name="encoder"
    )(image)
    mu, log_sigma = (keras.layers.Dense(2, name=name)(hidden) for name in ("mu", "log_sigma"))
    adding = Adding(name="adding")
    code = adding(adding(mu) + keras.ops.exp(log_sigma) * noise)
    field = keras.layers.Dense(4, activation="tanh", name="field_hidden")(keras.layers.Concatenate()([hidden, time]))
    heads = {
        "mu": mu,
        "log_sigma": log_sigma,
        "reconstruction": keras.layers.Dense(6, name="reconstruction")(code),
        "digit": keras.layers.Dense(3, name="digit")(mu),
        "field": keras.layers.Dense(1, name="field")(field),
        "untrained": keras.layers.Softmax(name="untrained")(hidden),
    }
    return keras.Model({"image": image, "time": time, "noise": noise}, heads, name="autoencoder")


_SIZES = {"image": 6, "time": 1, "noise": 2}


def kl(mu: tf.Tensor, log_sigma: tf.Tensor, scale: float = 1.0) -> tf.Tensor:
    """The divergence of a normal distribution from the standard one, of each example."""
    return scale * 0.5 * tf.reduce_sum(mu**2 + tf.exp(2 * log_sigma) - 1 - 2 * log_sigma, -1)


def agreement(mu: tf.Tensor, logits: tf.Tensor, digit: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    """Compares two heads, of examples that have both labels."""
    chosen = tf.gather(logits, digit, batch_dims=1)
    return (chosen - mu[:, 0] - 0.1 * number) ** 2


def residual(u: tf.Tensor, time: tf.Tensor, derivative: Any) -> tf.Tensor:
    """The differential equation u'' + u' + u = sin(t)."""
    first = derivative(u, time)
    return tf.reduce_sum(derivative(first, time) + first + u - tf.sin(time), -1) ** 2


def sparsity(code: tf.Tensor) -> tf.Tensor:
    """The sum of a layer's output, without signs."""
    return tf.reduce_sum(tf.abs(code), -1)


LOSSES = {
    "digit": {"loss": {"name": "sparse_categorical_crossentropy", "from_logits": True}, "metrics": ["accuracy"]},
    "kl": {
        "loss": {"name": f"{HERE}:kl", "scale": 0.5},
        "reads": {"mu": "heads.mu", "log_sigma": "heads.log_sigma"},
        "weight": 0.25,
    },
    "reconstruction": {
        "loss": "mse",
        "reads": {"y_true": "inputs.image", "y_pred": "heads.reconstruction"},
        "weight": 2.0,
    },
    "agreement": {
        "loss": f"{HERE}:agreement",
        "reads": {"mu": "heads.mu", "logits": "heads.digit", "digit": "targets.digit", "number": "targets.number"},
        "weight": 0.75,
    },
    "residual": {"loss": f"{HERE}:residual", "reads": {"u": "heads.field", "time": "inputs.time"}, "weight": 0.125},
    "sparsity": {"loss": f"{HERE}:sparsity", "reads": {"code": "layers.encoder"}, "weight": 0.0625},
    "adding": {"from": "adding", "weight": 0.5},
    "others": {"from": "model", "weight": 0.625},
}


def _tree(**changes: Any) -> dict[str, Any]:
    tree = {
        "precision": "float64",
        "batch_size": 12,
        "steps": STEPS,
        "dataset": {"name": f"{HERE}:load"},
        "model": {"name": f"{HERE}:autoencoder"},
        "losses": copy.deepcopy(LOSSES),
        "metrics": {"sum": {"head": "field", "target": "number", "metrics": ["mae"], "weighted_metrics": ["mse"]}},
        "optimizer": {"name": "sgd", "learning_rate": RATE},
    }
    return problems.changed(tree, changes)


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
    built = experiment.build(loading.resolve(_tree()), problems.strategy(1))
    model, weights = built.model, [loss.get("weight", 1.0) for loss in LOSSES.values()]
    losses, batches = [], _batches(built)
    for _ in range(STEPS):
        with tf.GradientTape() as tape:
            found = list(_by_hand(model, next(batches)).values())
            total = tf.add_n([weight * loss for weight, loss in zip(weights, found, strict=True)])
        losses.append([float(loss) for loss in found])
        for variable, gradient in zip(
            model.trainable_variables, tape.gradient(total, model.trainable_variables), strict=True
        ):
            if gradient is not None:
                variable.assign_sub(RATE * gradient)
    split = tf.nest.map_structure(tf.constant, _as_dict(load()["validation"]))
    validation = {f"loss/{name}": float(value) for name, value in _by_hand(model, split).items()}
    number, labelled = split["targets"]["number"], split["weights"]["number"]
    error = np.abs(model(split["inputs"])["field"][:, 0] - number)[labelled > 0]
    validation |= {"sum/mae": np.mean(error), "sum/mse": np.mean(error**2), "labels/sum": len(error)}
    return np.array(losses), {each.path: each.numpy() for each in model.trainable_variables}, validation


def _batches(built: experiment.Experiment) -> Iterator[dict[str, Any]]:
    return iter(built.batches(0))


def _as_dict(split: Examples) -> dict[str, Any]:
    return {"inputs": split.inputs, "targets": split.targets, "weights": split.weights}


@pytest.mark.parametrize(
    ("replicas", "changes"),
    [
        (3, {"reduction": "fused", "probe_every": 10}),
        pytest.param(3, {}, marks=pytest.mark.ci_only),
        pytest.param(1, {"jit_compile": True}, marks=pytest.mark.ci_only),
    ],
)
def test_equals_a_loop_written_by_hand(replicas, changes):
    built = experiment.build(loading.resolve(_tree(**changes)), problems.strategy(replicas))
    found = problems.train(built, STEPS, evaluate=True)
    losses, variables, validation = expected()
    np.testing.assert_allclose(found.losses, losses, rtol=0, atol=1e-9)
    for (path, value), own in zip(variables.items(), found.variables.values(), strict=True):
        np.testing.assert_allclose(own, value, rtol=0, atol=1e-9, err_msg=path)
    for name, value in validation.items():
        assert found.validation[name] == pytest.approx(value, abs=1e-9), name


def _network(**changes: Any) -> Any:
    """The model and what is found of it, without a step."""
    config = loading.resolve(_tree(**changes))
    strategy = problems.strategy(1)
    data = network_lib.read_data(
        config.dataset, None, NOBODY, config.losses, config.metrics, batch_size=12, micro_batches=1, replicas=1
    )
    spec = network_lib.batch_spec(data.splits["train"], 12)
    network = network_lib.build(config.model, config.losses, config.metrics, config.seed, spec, data, strategy)
    return optimization.find_reach(network, spec, strategy)


def no_scalar(mu: tf.Tensor) -> tf.Tensor:
    """A loss as many write it, and as it cannot be used here."""
    return tf.reduce_mean(mu)


def independent(u: tf.Tensor, time: tf.Tensor, derivative: Any) -> tf.Tensor:
    """Differentiates an output that does not depend on the input."""
    return derivative(u, time)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"losses__kl__reads__mu": "heads.nu"}, r"losses\.kl\.reads\.mu='heads\.nu': unknown head.*heads\.mu"),
        ({"losses__kl__reads__mu": "inputs.picture"}, r"losses\.kl\.reads\.mu=.*unknown input.*inputs\.image"),
        ({"losses__kl__reads__mu": "inputs"}, r"losses\.kl\.reads\.mu='inputs': unknown input.*inputs\.image"),
        ({"losses__kl__reads__mu": "targets.digits"}, r"losses\.kl\.reads\.mu=.*'targets\.digit'"),
        ({"losses__kl__reads__mu": "layers.encodr"}, r"losses\.kl\.reads\.mu=.*'layers\.encoder'"),
        ({"losses__kl__reads__nu": "heads.mu"}, r"losses\.kl\.reads\.nu='heads\.mu': unknown argument.*mu"),
        ({"losses__kl__reads": {"mu": "heads.mu"}}, r"losses\.kl\.reads\.log_sigma: is missing"),
        ({"losses__kl__loss__mu": 1}, r"losses\.kl\.reads\.mu='heads\.mu': is given by losses\.kl\.loss\.mu"),
        ({"losses__kl__loss__scal": 1}, r"losses\.kl\.loss\.scal=1: unknown argument.*'scale'"),
        (
            {"losses__reconstruction__reads": {"y_pred": "heads.mu"}},
            r"losses\.reconstruction\.reads\.y_true: is missing",
        ),
        (
            {"losses__kl": {"loss": f"{HERE}:no_scalar", "reads": {"mu": "heads.mu"}}},
            r"losses\.kl\.loss='no_scalar': returns a scalar",
        ),
        (
            {"losses__kl": {"loss": f"{HERE}:independent", "reads": {"u": "heads.mu", "time": "inputs.time"}}},
            r"losses\.kl\.loss: derivative\(output, input\): the output does not depend on 'time'",
        ),
        ({"losses__residual__over": "replica"}, r"losses\.residual\.over='replica'.*differentiates"),
        ({"losses__sparsity__reads__code": "layers.adding"}, r"model='layers\.adding': is called 2 times"),
        ({"losses__others__from": "mu"}, r"losses\.others\.from='mu': unknown layer.*adding, encoder"),
        ({"losses__others__from": "adding"}, r"losses\.others\.from='adding': is that of losses\.adding, too"),
        ({"metrics__sum__target": "nothing"}, r"metrics\.sum\.target='nothing': unknown target"),
        ({"metrics__sum__metrics": ["mea"]}, r"metrics\.sum\.metrics\.0='mea'"),
    ],
)
def test_what_cannot_be_read_is_named(changes, words):
    with pytest.raises(ConfigError, match=words):
        _network(**changes)


def test_a_loss_that_a_layer_adds_is_never_lost():
    tree = _tree()
    del tree["losses"]["others"]
    with pytest.raises(ConfigError, match=r"model='encoder': adds losses.*\"<name>\": {\"from\": \"encoder\"}"):
        experiment.build(loading.resolve(tree), problems.strategy(1))


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
    model({name: tf.zeros((1, size)) for name, size in _SIZES.items()})
    return model


def test_subclassed_in_micro_batches_without_a_trace():
    """Names are ways to layers; what a layer adds is summed over the parts of a batch as over the batch."""
    tree = _tree(
        model={"name": f"{HERE}:subclassed"},
        micro_batches=2,
        losses__sparsity__reads__code="layers.autoencoder/encoder",
        losses__adding__from="autoencoder/adding",
        losses__others__from="autoencoder",
    )
    with eager.functions():
        found = problems.train(experiment.build(loading.resolve(tree), problems.strategy(1)), 3)
    np.testing.assert_allclose(found.losses, expected()[0][:3], rtol=0, atol=1e-9)


def test_masks_and_weights_multiply():
    """Of two heads with masks and two targets with weights an example counts where all say so."""
    keras.config.set_floatx("float64")
    loss = losses.build("agreement", loading.resolve(_tree()).losses["agreement"])
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
    others = {name: keras.Input((size,), name=name) for name, size in _SIZES.items() if name != "image"}
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
    tree = _tree(**_OF_THE_BATCH)
    with eager.functions():
        one = problems.train(experiment.build(loading.resolve(tree), problems.strategy(1)), 3)
    three = problems.train(experiment.build(loading.resolve(tree), problems.strategy(3)), 3)
    np.testing.assert_allclose(three.losses, one.losses, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"combine__name": "mgda", "reduction": "features"}, r"reduction='features': sees .*losses\.sparsity.*encoder"),
        ({"combine__name": "modo"}, r"losses\.adding\.from='adding': .*halves"),
        ({"losses__sparsity__over": "global_batch"}, r"losses\.sparsity\.over=.*layers\.encoder"),
        ({"losses__sparsity__weighted_metrics": ["mae"]}, r"losses\.sparsity\.weighted_metrics"),
        ({"losses__sparsity__class_weights": "balanced"}, r"losses\.sparsity\.class_weights"),
    ],
)
def test_refused_by_the_configuration_alone(changes, words):
    with pytest.raises(ConfigError, match=words):
        loading.resolve(_tree(**changes))


def from_input(picture: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
    """Of the only input, which has no name, and a head."""
    return tf.reduce_sum((picture[:, :3] - vector) ** 2, -1)


def curvature(x: tf.Tensor, y: tf.Tensor, derivative: Any) -> tf.Tensor:
    """Of a derivative by the only input."""
    return tf.reduce_sum(derivative(y, x), -1)


def _features(**changes: Any) -> dict[str, Any]:
    reads = {"loss": f"{HERE}:from_input", "reads": {"picture": "inputs", "vector": "heads.vector"}}
    return problems.tree(combine__name="mgda", losses__vector_l1=reads, reduction="features", **changes)


def test_features_with_an_input_and_without_derivatives():
    """The first losses are those of a pass for each loss; a derivative needs the model in one piece."""
    with eager.functions():
        cut, whole = (
            problems.train(experiment.build(loading.resolve(_features() | more), problems.strategy(1)), 1).losses
            for more in ({}, {"reduction": "per_loss"})
        )
    np.testing.assert_allclose(cut, whole, rtol=0, atol=1e-12)
    differs = {"loss": f"{HERE}:curvature", "reads": {"x": "inputs", "y": "heads.number"}}
    for changes, words in (({}, "reduction='features': cuts the model"), ({"reduction": "per_loss"}, "recompute=True")):
        tree = _features(losses__curvature=differs, model__recompute=bool(changes)) | changes
        with pytest.raises(ConfigError, match=words):
            experiment.build(loading.resolve(tree), problems.strategy(1))


def test_a_saved_configuration_is_the_same(tmp_path):
    config = loading.resolve(_tree())
    loading.save(config, tmp_path / "config.json")
    assert loading.load_saved(tmp_path / "config.json") == config
