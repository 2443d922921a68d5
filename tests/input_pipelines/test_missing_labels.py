"""Labels that are missing, per example or per element, count for nothing: gradients are those of the labelled alone."""

import numpy as np
import pytest
import tensorflow as tf

from input_pipelines import data
from input_pipelines.configuration import DatasetConfig
from input_pipelines.examples import Examples
from input_pipelines.feed import unlabelled
from input_pipelines.feed.in_memory import InMemory
from input_pipelines.feed.mixture import Mixture
from tests import problems
from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.config import loading
from trainer.run import experiment

COUNT = 12
LABELLED = np.array([True, False, True, True, False, False, True, False, False, True, False, False])
PIXELS = np.random.RandomState(3).uniform(size=(COUNT, 3)) < 0.4  # labelled elements of the vector


def _arrays() -> dict[str, np.ndarray]:
    random = np.random.RandomState(0)
    inputs = random.normal(size=(COUNT, 4))
    return {
        "x": inputs,
        "number": random.normal(size=COUNT),
        "class": random.randint(0, 3, size=COUNT),
        "vector": random.normal(size=(COUNT, 3)),
        "weight": random.uniform(0.5, 2, size=COUNT),
    }


def _tree(path, target: dict, loss: dict, **changes) -> dict:
    return problems.tree(
        dataset={
            "name": "npz",
            "path": str(path),
            "splits": {"train": "a.npz", "validation": "a.npz"},
            "inputs": {"x": {}},
            "targets": {"t": target},
        },
        model={
            "trunk": [{"layer": "Dense", "units": 5, "activation": "tanh"}],
            "heads": {"t": [{"layer": "Dense", "units": loss.pop("units")}]},
        },
        losses={"t": {"head": "t", "target": "t", "optimizer": {"name": "sgd", "learning_rate": 1.0}, **loss}},
        shared_optimizer={"name": "sgd", "learning_rate": 1.0},
        batch_size=changes.pop("batch_size"),
        **changes,
    )


def _moves(path, arrays: dict, target: dict, loss: dict, replicas: int = 1) -> dict[str, np.ndarray]:
    """Returns the gradients over the whole split: the change of every variable in one SGD step of rate 1, negated."""
    path.mkdir()
    np.savez(path / "a.npz", **arrays)
    config = loading.resolve(_tree(path, dict(target), dict(loss), batch_size=len(arrays["x"])))
    built = experiment.build(config, problems.strategy(replicas))
    start = {variable.path: variable.numpy() for variable in built.model.trainable_variables}
    after = problems.train(built, 1).variables
    return {name: start[name] - value for name, value in after.items()}


CASES = {
    "nan": ({"feature": "number"}, {"units": 1, "loss": "mse"}, "number", np.nan),
    "mask value": (
        {"feature": "class", "missing": -1},
        {"units": 3, "loss": {"name": "sparse_categorical_crossentropy", "from_logits": True}},
        "class",
        -1,
    ),
    "prepared": (
        {"feature": "class", "missing": 99, "prepare": [{"name": "one_hot", "classes": 3}]},
        {"units": 3, "loss": {"name": "categorical_crossentropy", "from_logits": True}},
        "class",
        99,
    ),
    "vector": ({"feature": "vector"}, {"units": 3, "loss": "mae"}, "vector", np.nan),
}


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    "case", ["mask value", "vector", *(pytest.param(case, marks=pytest.mark.ci_only) for case in ("nan", "prepared"))]
)
@pytest.mark.parametrize("replicas", [pytest.param(1, marks=pytest.mark.ci_only), 3])
def test_gradients_are_those_of_the_labelled_examples_alone(tmp_path, case, replicas):
    target, loss, feature, missing = CASES[case]
    complete = _arrays()
    masked = complete | {feature: complete[feature].copy()}
    masked[feature][~LABELLED] = missing
    labelled = {name: values[LABELLED] for name, values in complete.items()}
    ours = _moves(tmp_path / "masked", masked, target, loss, replicas)
    theirs = _moves(tmp_path / "labelled", labelled, target, loss)
    for name, gradient in theirs.items():
        np.testing.assert_allclose(ours[name], gradient, rtol=0, atol=1e-14)
        assert np.abs(gradient).max() > 1e-3


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(("loss", "function"), [("mse", tf.square), ("mae", tf.abs)])
def test_missing_elements_are_left_out_of_the_mean(tmp_path, loss, function):
    """Against a plain gradient of the mean over the labelled elements."""
    arrays = _arrays()
    target = np.where(PIXELS, arrays["vector"], np.nan)
    ours = _moves(tmp_path / "a", arrays | {"vector": target}, {"feature": "vector"}, {"units": 3, "loss": loss})
    built = experiment.build(
        loading.resolve(_tree(tmp_path / "a", {"feature": "vector"}, {"units": 3, "loss": loss}, batch_size=COUNT)),
        problems.strategy(1),
    )
    with tf.GradientTape() as tape:
        errors = function(built.model(arrays["x"])["t"] - arrays["vector"])
        value = tf.reduce_mean(tf.boolean_mask(errors, PIXELS))
    variables = built.model.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(value, [v.value for v in variables]), strict=True):
        np.testing.assert_allclose(ours[variable.path], gradient, rtol=0, atol=1e-14)


def test_masked_pixels_of_a_class_per_pixel(tmp_path):
    """A target of classes with two axes: weights of every pixel."""
    random = np.random.RandomState(1)
    labels = np.where(random.uniform(size=(6, 4)) < 0.5, random.randint(0, 2, size=(6, 4)), 255)
    np.savez(tmp_path / "a.npz", x=random.normal(size=(6, 4, 2)), mask=labels)
    tree = _tree(
        tmp_path,
        {"feature": "mask", "missing": 255},
        {"units": 2, "loss": {"name": "sparse_categorical_crossentropy", "from_logits": True}, "metrics": ["accuracy"]},
        batch_size=6,
    )
    built = experiment.build(loading.resolve(tree), problems.strategy(2))
    x = built.train.first(6)["inputs"]
    logits = built.model(x)["t"].numpy()
    shown = labels != 255
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    values = built.evaluator.build()()
    chosen = np.where(labels == 1, logs[..., 1], logs[..., 0])
    assert values["loss/t"] == pytest.approx(-chosen[shown].mean(), rel=1e-12)
    assert values["t/accuracy"] == pytest.approx((logits.argmax(-1) == labels)[shown].mean(), rel=1e-6)


@pytest.mark.parametrize(
    "metric",
    ["root_mean_squared_error", *(pytest.param(each, marks=pytest.mark.ci_only) for each in ("mae", "mse"))],
)
def test_metrics_leave_missing_elements_out(tmp_path, metric):
    arrays = _arrays()
    target = np.where(PIXELS, arrays["vector"], np.nan)
    np.savez(tmp_path / "a.npz", **arrays | {"vector": target})
    tree = _tree(tmp_path, {"feature": "vector"}, {"units": 3, "loss": "mse", "metrics": [metric]}, batch_size=5)
    built = experiment.build(loading.resolve(tree), problems.strategy(2))
    errors = (built.model(arrays["x"])["t"].numpy() - arrays["vector"])[PIXELS]
    expected = {
        "mae": np.abs(errors).mean(),
        "mse": (errors**2).mean(),
        "root_mean_squared_error": (errors**2).mean() ** 0.5,
    }
    assert built.evaluator.build()()[f"t/{metric}"] == pytest.approx(expected[metric], rel=1e-6)


@pytest.mark.parametrize("missing", [False, True])
def test_weights_of_a_feature_multiply_those_of_missing_labels(tmp_path, missing):
    arrays = _arrays()
    if missing:
        arrays["number"][~LABELLED] = np.nan
    np.savez(tmp_path / "a.npz", **arrays)
    config = schema.record(DatasetConfig)(
        {
            "name": "npz",
            "path": str(tmp_path),
            "splits": {"train": "a.npz", "validation": "a.npz"},
            "inputs": {"x": {}},
            "targets": {"number": {"weight": "weight"}, "class": {}},
        },
        "dataset",
    )
    weights = data.build(config).splits["train"].examples.weights
    assert list(weights) == ["number"]  # a target with all its labels has none
    expected = arrays["weight"] * (LABELLED if missing else 1)
    np.testing.assert_allclose(weights["number"], expected, rtol=1e-6)


def test_statistics_are_of_the_labelled_alone(tmp_path):
    arrays = _arrays()
    arrays["number"][~LABELLED] = np.nan
    np.savez(tmp_path / "a.npz", **arrays)
    config = schema.record(DatasetConfig)(
        {
            "name": "npz",
            "path": str(tmp_path),
            "splits": {"train": "a.npz", "validation": "a.npz"},
            "inputs": {"x": {}},
            "targets": {"number": {"prepare": ["standardise"]}},
        },
        "dataset",
    )
    examples = data.build(config).splits["train"].examples
    numbers = arrays["number"][LABELLED]
    np.testing.assert_allclose(
        examples.targets["number"][LABELLED], (numbers - numbers.mean()) / numbers.std(), rtol=1e-5
    )
    np.testing.assert_array_equal(examples.targets["number"][~LABELLED], 0)


@pytest.mark.parametrize(
    "prepare",
    [
        [],
        "standardise",
        {"name": "threshold", "above": 0},
        {"name": "equals", "values": 1},
        {"name": "bins", "count": 3},
        [{"name": "scale", "by": 2.0}, {"name": "bins", "edges": [0, 1]}],
    ],
    ids=str,
)
def test_an_input_without_a_number_is_named_whatever_prepares_it(tmp_path, prepare):
    arrays = _arrays()
    arrays["number"][6:8] = 1, np.nan
    np.savez(tmp_path / "a.npz", **arrays)
    tree = {
        "name": "npz",
        "path": str(tmp_path),
        "splits": {"train": "a.npz", "validation": "a.npz"},
    }
    tree |= {"inputs": {"number": {"prepare": prepare}, "x": {}}, "targets": {"class": {}}}
    with pytest.raises(ConfigError, match=r"dataset.train.inputs.number=.*a.npz, example 7.*'fill'"):
        data.build(schema.record(DatasetConfig)(tree, "dataset"))
    filled = [{"name": "fill", "value": 0.5}, *(prepare if isinstance(prepare, list) else [prepare])]
    tree["inputs"]["number"]["prepare"] = filled
    data.build(schema.record(DatasetConfig)(tree, "dataset"))


@pytest.mark.parametrize(
    ("target", "field", "words"),
    [
        ({"feature": "class", "missing": "?"}, "missing", "class can have, int64"),
        ({"feature": "class", "missing": 1.5}, "missing", "class can have, int64"),
        ({"feature": "class", "missing": True}, "missing", "class can have, int64"),
        ({"feature": "byte", "missing": -1}, "missing", "byte can have, uint8"),
        ({"feature": ["class", "number"], "missing": "?"}, "missing", "class, number can have, float64"),
        ({"feature": "number", "weight": "name"}, "weight", "a number for each example, but is string[]"),
        ({"feature": "number", "weight": "vector"}, "weight", "a number for each example, but is float64[3]"),
        ({"feature": "number", "weight": "weigth"}, "weight", "did you mean 'weight'"),
    ],
)
def test_values_and_weights_that_cannot_be_are_named(tmp_path, target, field, words):
    names = np.array(["a"] * COUNT)
    np.savez(tmp_path / "a.npz", **_arrays(), byte=np.zeros(COUNT, np.uint8), name=names)
    tree = {
        "name": "npz",
        "path": str(tmp_path),
        "splits": {"train": "a.npz", "validation": "a.npz"},
    }
    tree |= {"inputs": {"x": {}}, "targets": {"t": target}}
    with pytest.raises(ConfigError) as caught:
        data.build(schema.record(DatasetConfig)(tree, "dataset"))
    assert caught.value.field == f"dataset.targets.t.{field}"
    assert words in str(caught.value)


@pytest.mark.parametrize("missing", [2, 2.0])
def test_a_whole_number_may_be_written_with_a_point(tmp_path, missing):
    np.savez(tmp_path / "a.npz", **_arrays())
    tree = {
        "name": "npz",
        "path": str(tmp_path),
        "splits": {"train": "a.npz", "validation": "a.npz"},
    }
    tree |= {"inputs": {"x": {}}, "targets": {"t": {"feature": "class", "missing": missing}}}
    weights = data.build(schema.record(DatasetConfig)(tree, "dataset")).splits["train"].examples.weights
    np.testing.assert_array_equal(weights["t"], _arrays()["class"] != 2)


def test_columns_without_any_label_are_named():
    """Of all sources together: one may have labels for what another lacks."""
    weights = np.array([[1.0, 0, 0], [0, 0, 0], [2, 0, 0.5]])
    one = InMemory(Examples(np.ones((3, 2)), {"y": np.ones((3, 3)), "z": np.ones(3)}, {"y": weights, "z": np.ones(3)}))
    named = unlabelled.lines(one, {"targets.y": ("a", "b", "c")})
    assert named == ["column 'b' of target 'y' has 0 labels in 3 training examples; nothing is learned for it"]
    other = InMemory(Examples(np.ones((3, 2)), {"y": np.ones((3, 3))}, {"y": weights[:, ::-1] * [1, 1, 0]}))
    assert unlabelled.lines(Mixture({"one": one, "other": other}, {"one": 1, "other": 1}), {}) == [
        "column '1' of target 'y' has 0 labels in 6 training examples; nothing is learned for it"
    ]
