"""Each kind of loss says of its target what a user of the model reads: a value with units, or a class."""

from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from input_pipelines import names as names_lib
from input_pipelines.examples import Examples
from input_pipelines.names import Names
from input_pipelines.preparation import inverses
from input_pipelines.preparation.inverses import Inverse
from tests import problems
from tests.input_pipelines import prepared
from trainer.components import losses, predicted_targets, predictions
from trainer.run import experiment

RANDOM = np.random.RandomState(0)
ROWS = 40
COLUMNS = {
    "age": 50 + 9 * RANDOM.normal(size=ROWS),
    "price": 1e6 + RANDOM.normal(size=ROWS),
    "sales": np.exp(RANDOM.normal(size=ROWS)),
    "grey": RANDOM.randint(0, 256, (ROWS, 3, 2, 1)).astype(np.uint8),
    "mask": RANDOM.randint(0, 3, (ROWS, 3, 2, 1)),
    "digit": np.array([3, 7, 11])[np.arange(ROWS) % 3],
    "word": np.array([b"ham", b"eggs", b"spam"], object)[np.arange(ROWS) % 3],
    "colour": np.array([b"blue", b"red"], object)[np.arange(ROWS) % 2],
    "other": np.array([b"spam", b"ham", b"eggs"], object)[np.arange(ROWS) % 3],
}
TARGETS = {
    "age": {"prepare": "standardise"},
    "both": {"feature": ["age", "price"], "prepare": ["standardise", {"name": "reshape", "shape": [2, 1]}]},
    "clipped": {"feature": "age", "prepare": [{"name": "clip", "low": 0, "high": 60}, "standardise"]},
    "turned": {"feature": "age", "prepare": {"name": "scale", "by": -0.5}},
    "sales": {"prepare": ["log", "standardise"]},
    "grey": {"prepare": "scale"},
    "mask": {},
    "digit": {"prepare": "classes"},
    "word": {"prepare": ["classes", {"name": "one_hot", "classes": 3}]},
    "words": {"feature": ["word", "other"], "prepare": "classes"},
    "kinds": {"feature": ["word", "colour"], "prepare": "categories"},
    "old": {"feature": "age", "prepare": {"name": "threshold", "above": 50}},
    "high": {"feature": ["age", "sales"], "prepare": {"name": "threshold", "above": 50}},
}
WORDS = np.array([b"eggs", b"ham", b"spam"], object)
KINDS = np.array([[b"other", b"ham", b"eggs"], [b"other", b"blue", b"red"]], object)
AGE, PRICE = COLUMNS["age"], COLUMNS["price"]


class Prepared(NamedTuple):
    """The targets, as far as predictions need them."""

    specs: dict[str, tf.TensorSpec]
    names: Names
    inverses: dict[str, Inverse]


@pytest.fixture(scope="module")
def targets() -> Prepared:
    keras.config.set_floatx("float32")
    preparation, source = prepared.of_columns(COLUMNS, TARGETS)
    specs = {name: tf.TensorSpec((None, *spec.shape), spec.dtype) for name, spec in preparation.spec["targets"].items()}
    return Prepared(specs, names_lib.of(preparation, source), inverses.of(preparation))


def _predicted(targets: Prepared, target, loss, head, **more):
    keras.config.set_floatx("float32")
    config = problems.config(
        losses={"l": {"head": "h", "target": target, "loss": loss, **more}}, model__heads={"h": []}
    ).losses["l"]
    named = losses.build("l", config)
    predicted = predicted_targets.build([named], {"h": head}, *targets)
    found = predicted_targets.of(predicted, {"h": head})
    described = {output.name: output for each in predicted for output in each.outputs}
    assert list(described) == list(found)
    for name, tensor in found.items():
        assert (described[name].dtype, described[name].shape) == (tensor.dtype.name, tuple(tensor.shape[1:]))
    return {name: tensor.numpy() for name, tensor in found.items()}, described


def _head(*shape):
    return tf.constant(RANDOM.normal(size=(5, *shape)), tf.float32)


LOGITS, PAIR, SIX = _head(3), _head(2), _head(2, 3)
ONE, PIXELS = _head(1), _head(3, 2, 1)
CHOSEN, SOFTMAX = np.argmax(LOGITS, -1), special.softmax(LOGITS, -1)


def _age(values):
    return AGE.mean() + AGE.std() * np.asarray(values, np.float64)


@pytest.mark.parametrize(
    ("loss", "target", "head", "expected"),
    [
        # Values, in the units of the column.
        ("mse", "age", ONE, {"l": _age(ONE)[:, 0]}),
        ("huber", "clipped", ONE, {"l": np.minimum(AGE, 60).mean() + np.minimum(AGE, 60).std() * ONE.numpy()[:, 0]}),
        (
            "mae",
            "both",
            PAIR[..., tf.newaxis],
            {"l": np.stack([_age(PAIR[:, 0]), PRICE.mean() + PRICE.std() * np.float64(PAIR[:, 1])], -1)},
        ),
        (
            {"name": "binary_crossentropy", "from_logits": True},
            "grey",
            PIXELS,
            {"l": 255 * special.expit(PIXELS)},
        ),
        # Distributions.
        (
            "gaussian_nll",
            "age",
            PAIR,
            {"l": _age(PAIR[:, 0]), "l/deviation": AGE.std() * np.sqrt(1e-6 + np.exp(np.float64(PAIR[:, 1])))},
        ),
        (
            {"name": "quantile", "quantiles": [0.2, 0.5, 0.9]},
            "age",
            LOGITS,
            {"l": _age(LOGITS[:, 1])} | {f"l/quantile/{q}": _age(LOGITS[:, i]) for i, q in enumerate([0.2, 0.5, 0.9])},
        ),
        (
            {"name": "quantile", "quantiles": [0.2, 0.4]},
            "turned",
            PAIR,
            {"l": -2 * PAIR[:, 1], "l/quantile/0.8": -2 * PAIR[:, 0], "l/quantile/0.6": -2 * PAIR[:, 1]},
        ),
        # One class of several, by its label or name.
        (
            {"name": "sparse_categorical_crossentropy", "from_logits": True},
            "digit",
            LOGITS,
            {"l": np.array([3, 7, 11])[CHOSEN], "l/probability": SOFTMAX},
        ),
        (
            {"name": "categorical_crossentropy", "label_smoothing": 0.1},
            "word",
            tf.nn.softmax(LOGITS),
            {"l": WORDS[CHOSEN], "l/probability": SOFTMAX},
        ),
        (
            {"name": "sparse_categorical_focal_crossentropy", "from_logits": True},
            "words",
            SIX,
            {"l": WORDS[np.argmax(SIX, -1)], "l/probability": special.softmax(SIX, -1)},
        ),
        (  # columns with classes of their own
            {"name": "sparse_categorical_crossentropy", "from_logits": True},
            "kinds",
            SIX,
            {"l": KINDS[[0, 1], np.argmax(SIX, -1)], "l/probability": special.softmax(SIX, -1)},
        ),
        (
            {"name": "sparse_categorical_crossentropy", "from_logits": True},
            "mask",
            PIXELS * [1.0, -1.0, 0.5],
            {
                "l": np.argmax(PIXELS * [1.0, -1.0, 0.5], -1),
                "l/probability": special.softmax(PIXELS * [1.0, -1.0, 0.5], -1),
            },
        ),
        ("categorical_hinge", "word", LOGITS, {"l": WORDS[CHOSEN], "l/score": LOGITS}),
        ("mse", "word", LOGITS, {"l": WORDS[CHOSEN], "l/score": LOGITS}),
        ("tests.trainer.components.test_predicted_targets:own", "digit", LOGITS, None),
        # Labels that are there or not.
        (
            {"name": "binary_crossentropy", "from_logits": True},
            "old",
            ONE,
            {
                "l": np.where(ONE[:, 0] > 0, b"above 50", b"up to 50").astype(object),
                "l/probability": special.expit(ONE)[:, 0],
            },
        ),
        (
            {"name": "binary_focal_crossentropy"},
            "high",
            tf.sigmoid(PAIR),
            {"l": np.int64(PAIR > 0), "l/probability": special.expit(PAIR)},
        ),
        ("hinge", "high", PAIR, {"l": np.int64(PAIR > 0), "l/score": PAIR}),
        # What teaches another model's probabilities, or an order; and what says nothing of a target.
        ("distillation", "word", LOGITS, {"l": WORDS[CHOSEN], "l/probability": SOFTMAX}),
        ("softmax_ranking", "high", PAIR, {"l/score": PAIR}),
        ({"name": "circle"}, "digit", LOGITS, {}),
        ("triplet_semihard", "digit", LOGITS, {}),
    ],
    ids=lambda value: value if isinstance(value, str) else value.get("name") if isinstance(value, dict) else "",
)
def test_kinds_of_losses(targets, loss, target, head, expected):
    if expected is None:
        expected = {"l": np.array([3, 7, 11])[CHOSEN], "l/score": LOGITS}
    more = {"over": "replica"} if loss in ({"name": "circle"}, "triplet_semihard") else {}
    found, _ = _predicted(targets, target, loss, head, **more)
    assert list(found) == list(expected)
    for name, values in expected.items():
        if np.asarray(values).dtype == object:
            np.testing.assert_array_equal(found[name], values)
        else:
            np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-6)
            assert found[name].dtype.kind == np.asarray(values).dtype.kind


def own(target, prediction):
    return tf.gather(-tf.math.log_softmax(prediction), target, batch_dims=1)


def test_a_mean_of_logarithms_has_no_deviation(targets):
    found, _ = _predicted(targets, "sales", "gaussian_nll", PAIR)
    logs = np.log1p(COLUMNS["sales"])
    assert list(found) == ["l"]
    np.testing.assert_allclose(found["l"], np.expm1(logs.mean() + logs.std() * np.float64(PAIR[:, 0])), rtol=1e-6)


def test_a_slice_is_what_its_loss_reads(targets):
    found, _ = _predicted(targets, "age", "mse", LOGITS, slice=[1, 2])
    np.testing.assert_allclose(found["l"], _age(LOGITS[:, 1]), rtol=1e-6)


def test_descriptions(targets):
    _, of_vector = _predicted(targets, "both", "mse", PAIR[..., tf.newaxis])
    assert of_vector["l"].columns == ("l/age", "l/price")
    assert "own units" in of_vector["l"].meaning
    _, of_clipped = _predicted(targets, "clipped", "mse", ONE)
    assert of_clipped["l"].columns == ("l",)
    assert "'clip' has no inverse" in of_clipped["l"].meaning
    _, of_classes = _predicted(targets, "word", "categorical_hinge", LOGITS)
    assert of_classes["l"].classes == ("eggs", "ham", "spam")
    assert of_classes["l/score"].columns == ("l/score/eggs", "l/score/ham", "l/score/spam")
    _, of_more = _predicted(targets, "digit", {"name": "sparse_categorical_crossentropy"}, _head(4))
    assert of_more["l/probability"].classes == ("3", "7", "11", "class 3")  # a head with a class too many
    _, of_labels = _predicted(targets, "high", "hinge", PAIR)
    assert of_labels["l"].columns == ("l/age", "l/sales")


def test_an_exported_graph_holds_it(targets, tmp_path):
    """A module of it alone is saved and loaded: nothing in it is Python or a table that the module does not hold."""
    heads = {"h": LOGITS, "i": ONE}
    tree = {"a": {"head": "h", "target": "word", "loss": "categorical_hinge"}}
    tree |= {"b": {"head": "i", "target": "age", "loss": "mse"}, "c": {"head": "i", "target": "age", "loss": "mae"}}
    configs = problems.config(losses=tree, model__heads={"h": [], "i": []}).losses
    named = [losses.build(name, config) for name, config in configs.items()]
    predicted = predicted_targets.build(named, heads, *targets)
    module = tf.Module()
    module.call = tf.function(
        lambda heads: predicted_targets.of(predicted, heads),
        input_signature=[{name: tf.TensorSpec((None, *head.shape[1:])) for name, head in heads.items()}],
    )
    tf.saved_model.save(module, tmp_path)
    found, expected = tf.saved_model.load(tmp_path).call(heads), predicted_targets.of(predicted, heads)
    assert list(expected) == ["a", "a/score", "b", "c"]  # two losses of one head each by its own name
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def load() -> dict[str, Examples]:
    split = Examples(np.zeros((8, 2)), {"t": np.arange(8.0)}, {})
    return {"train": split, "validation": split}


def test_losses_that_compare_no_head_with_a_target_say_nothing():
    """Of a run as it is built: its symbolic outputs and its data are enough, also of a function, in half precision."""
    config = problems.config(
        precision="mixed_bfloat16",
        batch_size=4,
        dataset={"name": "tests.trainer.components.test_predicted_targets:load"},
        model={
            "trunk": [{"layer": "Dense", "units": 3, "activity_regularizer": "l2", "name": "d"}],
            "heads": {"t": [{"layer": "Dense", "units": 1}]},
        },
        losses={
            "t": {"loss": "mse"},
            "penalty": {"from": "d"},
            "size": {"loss": "keras.losses:mean_squared_error", "reads": {"y_true": "layers.d", "y_pred": "layers.d"}},
        },
        shared_optimizer="sgd",
    )
    built = experiment.build(config, problems.strategy(1))
    heads = predictions.of(built.model(np.ones((2, 2)))).outputs
    specs = {"t": tf.TensorSpec((None,))}
    predicted = predicted_targets.build(built.losses, heads, specs, built.data.names, built.data.inverses)
    assert [each.loss.name for each in predicted] == ["t"]
    (found,) = predicted_targets.of(predicted, heads).values()
    np.testing.assert_array_equal(found, heads["t"][:, 0])
