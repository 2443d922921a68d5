"""The trainer's own losses: NumPy's numbers, gradients of finite differences, labels, weights and replicas."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import eager, problems
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
from trainer.components import focal_losses, loss_checks, loss_functions, losses, predictions
from trainer.config import loading
from trainer.config.settings import Config
from trainer.run import experiment

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


# ---------------------------------------------------------------------------------------------------------------------
# In a run.
# ---------------------------------------------------------------------------------------------------------------------

SGD = {"name": "sgd", "learning_rate": 0.02}
OF_RUN = {
    "nll": {"target": "number", "loss": "gaussian_nll", "metrics": ["mae"]},
    "pinball": {"target": "vector", "loss": {"name": "quantile", "quantiles": [0.1, 0.6]}, "metrics": ["mse"]},
    "order": {"target": "number", "loss": "pairwise_logistic", "over": "global_batch"},
    "items": {"target": "vector", "loss": "pairwise_logistic"},
    "list": {"target": "vector", "loss": "softmax_ranking"},
    "class": {
        "target": "label",
        "loss": {"name": "sparse_categorical_focal_crossentropy", "from_logits": True},
        "metrics": ["sparse_categorical_crossentropy", "accuracy"],
    },
    "near": {"target": "label", "loss": "contrastive", "over": "global_batch"},
    "far": {"target": "label", "loss": "triplet_semihard", "over": "global_batch"},
    "taught": {"target": "vector", "loss": "distillation", "metrics": ["kl_divergence", "accuracy"]},
}
UNITS = {"nll": 2, "pinball": 6, "order": 1, "items": 3, "list": 3, "class": 4, "near": 3, "far": 3, "taught": 3}
IN_NUMPY = {
    "nll": gaussian_nll,
    "pinball": lambda target, prediction: quantile(target, prediction, (0.1, 0.6)),
    "order": pairwise_logistic,
    "items": pairwise_logistic,
    "list": softmax_ranking,
    "class": focal,
    "near": contrastive,
    "far": triplet_semihard,
    "taught": distillation,
}


def _config(names=tuple(OF_RUN), **changes) -> Config:
    tree = problems.tree(dataset__options={"missing": True}, shared_optimizer=SGD, optimizer=SGD)
    heads = {name: [{"layer": "Dense", "units": UNITS[name], "use_bias": False}] for name in names}
    tree["model"] = {"trunk": [{"layer": "Dense", "units": 4}], "heads": heads}
    return loading.resolve(tree | {"losses": {name: OF_RUN[name] for name in names}} | changes)


def test_comparing_ones_on_three_replicas():
    """Steps in which many labels are missing or weighted, and an evaluation, as one replica has them."""
    config = _config(("order", "near", "far"))
    found = problems.train(experiment.build(config, problems.strategy(3)), 3, evaluate=True)
    with eager.functions():
        reference = problems.train(experiment.build(config, problems.strategy(1)), 3, evaluate=True)
    problems.assert_same(found, reference)


def test_an_evaluation_of_all_of_them(eagerly):
    """NumPy's losses over the labels that are there, batch by batch; metrics of means, a quantile, probabilities."""
    built = experiment.build(_config(), problems.strategy(1))
    assert not any("over" in note for note in built.notes)
    found = built.evaluator.build()(0)
    split = problems.load(missing=True)["validation"]
    outputs = {name: output.numpy() for name, output in built.model(split.inputs).items()}
    for name, loss in OF_RUN.items():
        target = split.targets[loss["target"]]
        weights = split.weights.get(loss["target"], np.ones(len(target)))
        total = 0.0
        for part in (slice(0, 9), slice(9, 19), slice(19, 29)):
            there = weights[part] > 0  # the others are not compared with
            total += weights[part][there] @ IN_NUMPY[name](target[part][there], outputs[name][part][there])
        assert found[f"loss/{name}"] == pytest.approx(total / weights.sum(), rel=1e-9), name

    number, label = (split.weights[name] > 0 for name in ("number", "label"))
    vector, median = split.targets["vector"], outputs["pinball"][:, 3:]
    likely = np.array([*map(softmax, outputs["class"])])[np.arange(29), split.targets["label"]]
    teacher, head = (np.array([*map(softmax, each)]) for each in (vector, outputs["taught"]))
    expected = {
        "nll/mae": np.abs(split.targets["number"] - outputs["nll"][:, 0])[number].mean(),
        "pinball/mse": np.square(vector - median).mean(),
        "class/sparse_categorical_crossentropy": -np.log(likely)[label].mean(),
        "taught/kl_divergence": np.sum(teacher * np.log(teacher / head), 1).mean(),
        "taught/accuracy": np.mean(teacher.argmax(1) == head.argmax(1)),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_over_is_asked_for_where_examples_are_compared():
    names = ("order", "items", "list", "near", "far")
    unsaid = {name: {key: value for key, value in OF_RUN[name].items() if key != "over"} for name in names}
    built = experiment.build(_config(names, losses=unsaid), problems.strategy(1))
    assert [name for name in names if any(f"losses.{name}.over: " in note for note in built.notes)] == [
        "order",
        "near",
        "far",
    ]


def test_weights_of_every_number():
    """Means, variances and quantiles of two numbers, of which each has a weight of its own."""
    keras.config.set_floatx("float64")
    target, prediction = RANDOM.normal(size=(COUNT, 2)), RANDOM.normal(size=(COUNT, 4))
    weights = RANDOM.uniform(size=(COUNT, 2)) * (RANDOM.uniform(size=(COUNT, 2)) < 0.6)
    for spec, reference in (
        ({"name": "gaussian_nll"}, gaussian_nll),
        ({"name": "quantile", "quantiles": [0.2, 0.9]}, lambda *pair: quantile(*pair, (0.2, 0.9))),
    ):
        loss = losses.build("x", dataclasses.replace(_config().losses["nll"], loss=spec, head="h", target="t"))
        batch = {"targets": {"t": tf.constant(target)}, "weights": {"t": tf.constant(weights)}}
        sums = losses.sums(loss, predictions.of({"h": tf.constant(prediction)}), batch)
        values = np.stack([reference(target[:, k], prediction[:, k::2]) for k in range(2)], axis=1)
        assert float(sums.loss_sum) == pytest.approx(np.sum(weights * values), rel=1e-12)
        assert float(sums.weight_sum) == pytest.approx(weights.sum(), rel=1e-12)


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


@pytest.mark.parametrize(
    ("size", "shape", "words"),
    [
        (3, (), r"^losses\.nll\.head='nll': head 'nll' gives \(3,\) per example; GaussianNLL needs 2 numbers"),
        (4, (), r"^losses\.nll\.target='number': has shape \(\) .* this loss needs a target of shape \(2,\)"),
    ],
)
def test_shapes_that_do_not_fit(size, shape, words):
    loss = losses.build("nll", _config().losses["nll"])
    outputs, targets = {"nll": tf.TensorSpec((5, size))}, {"number": tf.TensorSpec((5, *shape))}
    with pytest.raises(ConfigError, match=words):
        loss_checks.check_shapes([loss], outputs, targets)


def test_an_embedding_has_no_classes():
    """As a loss of one's own might, whose numbers are counted."""
    tree = OF_RUN["near"] | {"class_weights": "balanced"}
    with pytest.raises(ConfigError, match=r"losses\.near\.class_weights.*is for losses of classes .*, not Contrastive"):
        experiment.build(_config(losses=OF_RUN | {"near": tree}), problems.strategy(1))


def test_an_embedding_has_one_axis():
    layers = [{"layer": "Dense", "units": 6}, {"layer": "Reshape", "target_shape": [2, 3]}]
    with pytest.raises(ConfigError, match=r"losses\.far\.loss='TripletSemihard': fails .* must have one axis"):
        experiment.build(_config(("far",), model={"trunk": [], "heads": {"far": layers}}), problems.strategy(1))
