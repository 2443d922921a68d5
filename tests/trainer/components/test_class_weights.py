"""Weights of classes: a step and an evaluation are those of Keras' `class_weight`, and of the formula in NumPy."""

import functools

import keras
import numpy as np
import pytest
from sklearn.utils import class_weight

from input_pipelines.examples import Examples
from tests import problems
from trainer.config import loading
from trainer.run import experiment

COUNT, RATE = 24, 0.5
GIVEN = {
    "index": [1.0, 2.0, 6.0],
    "one_hot": {2: 7.0, 0: 0.25},
    "yes": {1: 9.0},
    "column": "balanced",
    "tags": "balanced",
    "pair": [0.5, 3.0],
    "pixels": "balanced",
}
LOSSES = {
    "index": "sparse_categorical_crossentropy",
    "one_hot": "categorical_crossentropy",
    "yes": "binary_focal_crossentropy",
    "column": "sparse_categorical_crossentropy",
    "tags": "binary_crossentropy",
    "pair": "binary_crossentropy",
    "pixels": "sparse_categorical_crossentropy",
}
UNITS = {"index": 3, "one_hot": 3, "yes": 1, "column": 4, "tags": 3, "pair": 3, "pixels": 12}
OF_KERAS = {
    "index": keras.losses.SparseCategoricalCrossentropy,
    "one_hot": keras.losses.CategoricalCrossentropy,
    "yes": keras.losses.BinaryFocalCrossentropy,
}


@functools.cache
def _arrays() -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs, targets, and weights of those in which labels are missing."""
    random = np.random.RandomState(0)
    index = random.choice(3, COUNT, p=[0.6, 0.3, 0.1])
    tags = (random.uniform(size=(COUNT, 3)) < [0.2, 0.5, 0.8]).astype(np.float64)
    targets = {
        "index": index,
        "one_hot": np.eye(3)[random.choice(3, COUNT)],
        "yes": (random.uniform(size=COUNT) < 0.2).astype(np.float64),
        "column": random.choice(4, (COUNT, 1)),
        "tags": tags,
        "pair": tags[::-1],
        "pixels": random.choice(3, (COUNT, 2, 2), p=[0.7, 0.2, 0.1]).astype(np.uint8),
    }
    weights = {
        "column": np.where(random.uniform(size=COUNT) < 0.3, 0, random.uniform(0.5, 2, COUNT)),
        "tags": (random.uniform(size=(COUNT, 3)) < 0.7).astype(np.float64),
        "pixels": (random.uniform(size=(COUNT, 2, 2)) < 0.8).astype(np.float64),
    }
    return random.normal(size=(COUNT, 5)), targets, weights


def load() -> dict[str, Examples]:
    """The same examples to train and to validate on."""
    inputs, targets, weights = _arrays()
    split = Examples(inputs, targets, weights)
    return {"train": split, "validation": split}


def _tree() -> dict:
    sgd = {"name": "sgd", "learning_rate": RATE}
    heads = {name: [{"layer": "Dense", "units": units}] for name, units in UNITS.items()}
    heads["pixels"].append({"layer": "Reshape", "target_shape": [2, 2, 3]})
    of_each = {
        name: {
            "loss": {"name": loss, "from_logits": True},
            "class_weights": GIVEN[name],
            "normalizer": "examples" if name in OF_KERAS else "weights",
            "optimizer": sgd,
        }
        for name, loss in LOSSES.items()
    }
    of_each["index"]["metrics"] = ["accuracy"]
    return {
        "precision": "float64",
        "batch_size": COUNT,
        "steps": 1,
        "dataset": {"name": f"{__name__}:load"},
        "model": {"trunk": [], "heads": heads},
        "losses": of_each,
        "shared_optimizer": sgd,
    }


@pytest.fixture(scope="module")
def trained():
    """Variables at the start, an evaluation with them, and a step of training."""
    built = experiment.build(loading.resolve(_tree()), problems.strategy(1))
    start = {variable.path: variable.numpy() for variable in built.model.trainable_variables}
    before = built.evaluator.build()()
    result = problems.train(built, 1)
    return start, before, result


def _of_head(variables: dict[str, np.ndarray], head: str) -> list[np.ndarray]:
    """Kernel and bias of a head."""
    found = {path: value for path, value in variables.items() if path.startswith(f"head_{head}_0_")}
    return sorted(found.values(), key=lambda value: -value.ndim)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("name", OF_KERAS)
def test_a_step_is_that_of_keras(trained, name):
    """`fit(class_weight=...)` of a model of one output, from the same variables."""
    start, before, result = trained
    inputs, targets, _ = _arrays()
    class_weights = dict(enumerate(GIVEN[name])) if isinstance(GIVEN[name], list) else GIVEN[name]
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(UNITS[name])])
    model.set_weights(_of_head(start, name))
    model.compile(optimizer=keras.optimizers.SGD(RATE), loss=OF_KERAS[name](from_logits=True), run_eagerly=True)
    fitted = model.fit(inputs, targets[name], class_weight=class_weights, batch_size=COUNT, shuffle=False, verbose=0)
    place = list(LOSSES).index(name)
    assert result.losses[0, place] == pytest.approx(fitted.history["loss"][0], rel=0, abs=1e-9)
    assert before[f"loss/{name}"] == pytest.approx(fitted.history["loss"][0], rel=0, abs=1e-9)
    for ours, theirs in zip(_of_head(result.variables, name), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


def test_metrics_are_not_weighted(trained):
    start, before, _ = trained
    inputs, targets, _ = _arrays()
    kernel, bias = _of_head(start, "index")
    assert before["index/accuracy"] == pytest.approx(np.mean(np.argmax(inputs @ kernel + bias, 1) == targets["index"]))


def _softmax_losses(logits: np.ndarray, indices: np.ndarray) -> np.ndarray:
    logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(logs, indices[..., np.newaxis].astype(int), axis=-1)[..., 0]


def _balanced(labels: np.ndarray) -> np.ndarray:
    return class_weight.compute_class_weight("balanced", classes=np.unique(labels), y=labels)


@pytest.mark.parametrize("name", ["column", "tags", "pair", "pixels"])
def test_sums_are_those_of_the_formula(trained, name):
    """Σ w·c·ℓ / Σ w·c, the balanced c being scikit-learn's over the labels that are there."""
    start, before, result = trained
    inputs, targets, weights = _arrays()
    kernel, bias = _of_head(start, name)
    logits, target = inputs @ kernel + bias, targets[name]
    if name in ("tags", "pair"):
        values = np.logaddexp(0, logits) - target * logits
        present = weights.get(name, np.ones(target.shape))
        pairs = (
            np.array([GIVEN[name]] * 3)
            if name == "pair"
            else np.array([_balanced(column[there > 0]) for column, there in zip(target.T, present.T, strict=True)])
        )
        factors = np.where(target == 1, pairs[:, 1], pairs[:, 0]) * present
    else:
        target = target.reshape(weights[name].shape)
        values = _softmax_losses(logits.reshape(*target.shape, -1), target)
        factors = _balanced(target[weights[name] > 0])[target] * weights[name]
    expected = (factors * values).sum() / factors.sum()
    assert result.losses[0, list(LOSSES).index(name)] == pytest.approx(expected, rel=0, abs=1e-9)
    assert before[f"loss/{name}"] == pytest.approx(expected, rel=0, abs=1e-9)
