"""A step that Keras masks and a class that a loss ignores have weight 0, however a step is computed."""

import contextlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from input_pipelines.examples import Examples
from tests import eager, problems
from trainer.common.errors import ConfigError
from trainer.config import loading
from trainer.run import experiment
from trainer.run.experiment import Experiment

HERE = "tests.properties.test_masks"
EXAMPLES, STEPS = 12, 5
SGD = {"name": "sgd", "learning_rate": 0.5}
TRUNK = [
    {"layer": "Embedding", "input_dim": 7, "output_dim": 3, "mask_zero": True},
    {"layer": "SimpleRNN", "units": 3, "return_sequences": True},  # a loop, with the fewest operations within
    {"layer": "Dense", "units": 3, "activation": "tanh"},
    {"layer": "SimpleRNN", "units": 2, "return_sequences": True, "unroll": True},
]


def _arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, of which 0 fills sequences up; a class for every step; a label for every sequence."""
    random = np.random.RandomState(0)
    lengths = 1 + np.arange(EXAMPLES)[:, np.newaxis] % STEPS
    tokens = random.randint(1, 7, size=(EXAMPLES, STEPS)) * (np.arange(STEPS) < lengths)
    return tokens, random.randint(2, size=(EXAMPLES, STEPS)), np.float64(tokens.max(1) > 4)


def load() -> dict[str, Examples]:
    """The class -1 is that of every second example in the target `some`, and of whole batches."""
    tokens, tags, first = _arrays()
    some = np.where((np.arange(EXAMPLES) % 2 == 1) & (np.arange(EXAMPLES) > 5), first, -1).astype(int)
    split = Examples(tokens, {"tag": tags, "first": first, "some": some})
    return {"train": split, "validation": split}


def crossentropy(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    """A loss of the user's own, which knows nothing of masks."""
    return keras.losses.sparse_categorical_crossentropy(target, prediction)


def mean_of_steps(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    """A number for every sequence, of all of its steps."""
    return tf.reduce_mean(crossentropy(target, prediction), axis=-1)


def _build(replicas: int = 1, **changes: Any) -> Experiment:
    tag = {"head": "tag", "target": "tag", "optimizer": SGD}
    losses = {
        "tag": tag | {"loss": "sparse_categorical_crossentropy", "normalizer": "examples", "metrics": ["accuracy"]},
        "sliced": tag | {"loss": "sparse_categorical_crossentropy", "slice": [0, 2]},
        "own": tag | {"loss": f"{HERE}:crossentropy"},
        "first": {"loss": "binary_crossentropy", "optimizer": SGD},
    }
    tree = {
        "precision": "float64",
        "batch_size": EXAMPLES,
        "steps": 3,
        "dataset": {"name": f"{HERE}:load"},
        "model": {
            "trunk": TRUNK,
            "heads": {
                "tag": [{"layer": "Dense", "units": 2, "activation": "softmax"}],
                "first": [{"layer": "GlobalAveragePooling1D"}, {"layer": "Dense", "units": 1, "activation": "sigmoid"}],
            },
        },
        "losses": losses,
        "shared_optimizer": SGD,
    }
    return experiment.build(loading.resolve(problems.changed(tree, changes)), problems.strategy(replicas))


@pytest.fixture(scope="module")
def trained() -> tuple[keras.Model, problems.Result, list[np.ndarray]]:
    """The model as it was before, the run and the variables after it."""
    built = _build()
    before = keras.models.clone_model(built.model)  # outside the strategy
    before.set_weights(built.model.get_weights())
    with eager.functions():
        result = problems.train(built, 3, evaluate=True)
    return before, result, built.model.get_weights()


def test_equals_keras(trained):
    """Keras' `fit` with its masks; three losses here are the same one there."""
    model, result, after = trained
    model.compile(
        optimizer=keras.optimizers.SGD(0.5),
        loss={"tag": "sparse_categorical_crossentropy", "first": "binary_crossentropy"},
        loss_weights={"tag": 3, "first": 1},
    )
    tokens, tags, first = _arrays()
    theirs = model.fit(tokens, {"tag": tags, "first": first}, EXAMPLES, epochs=3, verbose=0, shuffle=False).history
    for value, expected in zip(after, model.get_weights(), strict=True):
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-9)
    for k, name in enumerate(("tag", "tag", "tag", "first")):
        np.testing.assert_allclose(result.losses[:, k], theirs[f"{name}_loss"], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("replicas", "changes", "functions"),
    [
        (1, {"micro_batches": 2}, eager.functions),
        pytest.param(3, {"micro_batches": 2}, eager.functions, marks=pytest.mark.ci_only),
        pytest.param(1, {"model__recompute": True}, contextlib.nullcontext, marks=pytest.mark.ci_only),
        (2, {"reduction": "fused"}, eager.functions),
        (1, {"compile": "passes"}, contextlib.nullcontext),
    ],
)
def test_however_a_step_is_computed(trained, replicas, changes, functions):
    """A trace of the loops for each part of a batch, or on several replicas, would take longest and show no more."""
    _, expected, after = trained
    built = _build(replicas, **changes)
    with functions():
        result = problems.train(built, 3, evaluate=True)
    np.testing.assert_allclose(result.losses, expected.losses, rtol=0, atol=1e-9)
    for value, variable in zip(built.model.get_weights(), after, strict=True):
        np.testing.assert_allclose(value, variable, rtol=0, atol=1e-9)
    assert result.validation == pytest.approx(expected.validation, rel=0, abs=1e-9)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [
        ({"reduction": "features", "combine__name": "mgda"}, 1e-9),
        pytest.param({"precision": "mixed_bfloat16"}, 5e-3, marks=pytest.mark.ci_only),
    ],
)
def test_losses_and_metrics(changes, tolerance):
    """Of the untrained model; an evaluation has the same masks as a step."""
    built = _build(2, **changes)
    evaluated = built.evaluator.build()()
    tokens, tags, first = _arrays()
    outputs = {name: np.float64(value) for name, value in built.model(tokens).items()}
    shown = tokens > 0
    own = -np.log(np.take_along_axis(outputs["tag"], tags[..., np.newaxis], -1)[..., 0])[shown].mean()
    right = outputs["first"][:, 0] * first + (1 - outputs["first"][:, 0]) * (1 - first)
    expected = [own, own, own, -np.log(right).mean()]
    np.testing.assert_allclose(problems.train(built, 1).losses[0], expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose([evaluated[f"loss/{name}"] for name in built.heads], expected, rtol=0, atol=tolerance)
    assert evaluated["tag/accuracy"] == pytest.approx((outputs["tag"].argmax(-1) == tags)[shown].mean())
    assert [evaluated[f"labels/{name}"] for name in built.heads] == [shown.sum()] * 3 + [EXAMPLES]


def test_a_number_for_whole_sequences_is_refused_where_steps_are_masked():
    with pytest.raises(ConfigError, match=r"losses.own.loss='mean_of_steps': gives values of shape .*has a mask of"):
        _build(losses__own__loss=f"{HERE}:mean_of_steps")


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("normalizer", ["weights", pytest.param("examples", marks=pytest.mark.ci_only)])
def test_an_ignored_class_is_no_label(normalizer):
    """As with `missing`, its optimizer is skipped in batches without a label, and methods that see it go on."""
    loss = {"name": "sparse_categorical_crossentropy", "ignore_class": -1}
    head = [{"layer": "Dense", "units": 2, "activation": "softmax"}]
    last = [{"layer": "SimpleRNN", "units": 2}, *head]
    built = _build(
        2,
        batch_size=2,
        combine__name="log_sum",
        model__heads={"tag": head, "some": last},
        losses={
            "tag": {"loss": "sparse_categorical_crossentropy", "optimizer": SGD},
            "some": {"loss": loss, "normalizer": normalizer, "metrics": ["accuracy", "ce"], "optimizer": SGD},
        },
    )
    evaluated = built.evaluator.build()()
    some = load()["train"].targets["some"]
    shown = some >= 0
    outputs = built.model(_arrays()[0])["some"].numpy()[shown]
    expected = -np.log(outputs[np.arange(shown.sum()), some[shown]]).mean()
    assert evaluated["loss/some"] == pytest.approx(expected, abs=1e-9)
    assert evaluated["some/ce"] == pytest.approx(expected, abs=1e-6)
    assert evaluated["some/accuracy"] == pytest.approx((outputs.argmax(1) == some[shown]).mean())
    assert evaluated["labels/some"] == shown.sum()

    batches = built.train.training(batch_size=2, seed=built.config.seed, first_step=0, ends=[0, 2]).take(6)
    with_label = [(batch["targets"]["some"].numpy() >= 0).any() for batch in batches]
    assert 0 < sum(with_label) < 6
    result = problems.train(built, 6)
    np.testing.assert_array_equal(~np.isnan(result.losses[:, 1]), with_label)
    taken = {group.name: int(group.optimizer.iterations.numpy()) for group in built.optimizer_groups}
    assert taken["some"] == sum(with_label)
    assert taken["tag"] == 6
