"""The trainer's own losses in runs: labels that are missing or weighted, metrics, replicas, shapes."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import problems
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
from tests.trainer.components.test_own_losses import CLASSES, COUNT, LISTS, NAN, RANDOM
from trainer.common.errors import ConfigError
from trainer.components import loss_checks, losses, predictions
from trainer.config import loading
from trainer.config.settings import Config
from trainer.run import experiment

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


def test_comparing_ones_on_three_replicas(eagerly):
    """Steps in which many labels are missing or weighted, as one replica takes them."""
    config = _config(("order", "near", "far"))
    found, reference = (problems.train(experiment.build(config, problems.strategy(count)), 2) for count in (3, 1))
    problems.assert_same(found, reference)


def test_an_evaluation_of_all_of_them(eagerly):
    """NumPy's losses over the labels that are there, batch by batch; metrics of means, a quantile, probabilities."""
    without = {"truth": {"head": "taught", "target": "label", "metrics": ["accuracy"]}}
    built = experiment.build(_config(metrics=without), problems.strategy(1))
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
        "truth/accuracy": np.mean(head.argmax(1) == split.targets["label"], where=label),
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


def test_nan_is_no_item_of_a_list_and_no_label_elsewhere():
    """Of losses that take NaN for a missing label, as in Keras' fit."""
    keras.config.set_floatx("float64")
    scores = np.random.RandomState(4).normal(size=(COUNT, 3))
    nothing = np.where(np.arange(COUNT)[:, None] == 2, NAN, LISTS)
    classes = np.where(np.arange(COUNT) == 2, NAN, CLASSES % 2)
    for spec, target, reference in (
        ({"name": "softmax_ranking"}, nothing, softmax_ranking),
        ({"name": "pairwise_logistic"}, nothing, pairwise_logistic),
        ({"name": "pairwise_logistic"}, nothing[:, :1], pairwise_logistic),
        ({"name": "contrastive"}, classes, contrastive),
        ({"name": "triplet_semihard"}, classes[:, None], triplet_semihard),
    ):
        prediction = scores[:, : 3 if reference is not pairwise_logistic else target.shape[1]]
        loss = losses.build("x", dataclasses.replace(_config().losses["nll"], loss=spec, head="h", target="t"))
        loss = dataclasses.replace(loss, nan_is_missing=True)
        batch = {"targets": {"t": tf.constant(target)}}
        sums = losses.sums(loss, predictions.of({"h": tf.constant(prediction)}), batch)
        there = ~np.isnan(target.reshape(COUNT, -1)).all(axis=1)
        assert float(sums.weight_sum) == there.sum() < COUNT
        expected = reference(target[there], prediction[there]).sum()
        assert float(sums.loss_sum) == pytest.approx(expected, rel=1e-12)


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
