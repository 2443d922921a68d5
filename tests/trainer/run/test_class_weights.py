"""Weights of classes as they are given or balanced: kept with the run, and refused where they do not fit."""

import io
import json
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from input_pipelines.data import Data
from input_pipelines.examples import Examples
from input_pipelines.feed.in_memory import InMemory
from input_pipelines.names import Names
from input_pipelines.saved_data import SavedData
from tests import problems
from trainer.common.errors import ConfigError
from trainer.components import losses, predictions
from trainer.components.losses import NamedLoss
from trainer.config import loading, settings
from trainer.output import plots, workdir
from trainer.output.reports import Report
from trainer.run import agreement, class_weights, evaluate, train

SPARSE = "sparse_categorical_crossentropy"
KINDS = np.array([0, 0, 1, 0, 2, 0])
TAGS = np.array([[0, 1], [0, 1], [1, 0], [0, 0]])
LARGE = np.arange(6.0)


def _config(given, loss: str | dict) -> settings.LossConfig:
    tree = problems.tree(model__heads={"kind": []}, losses={"kind": {"loss": loss, "class_weights": given}})
    return loading.resolve(tree).losses["kind"]


def _resolved(
    given, loss: str | dict = SPARSE, target: np.ndarray = KINDS, read=(3,), weights=None, names=(), **saved
) -> tuple[NamedLoss, Data]:
    keras.config.set_floatx("float64")
    config = _config(given, loss)
    weights = {} if weights is None else {"kind": np.array(weights, np.float64)}
    split = InMemory(Examples(np.zeros(len(target)), {"kind": target}, weights))
    names = Names(classes={"targets.kind": (names,)} if names else {})
    data = Data({"train": split, "validation": split}, SavedData({}, {}, {}, saved), names=names)
    targets = {"kind": tf.TensorSpec((None, *target.shape[1:]), target.dtype)}
    named, data = class_weights.resolved(
        {"kind": config}, [losses.build("kind", config)], {"kind": keras.KerasTensor((None, *read))}, targets, data
    )
    return named[0], data


def _table(*arguments, **more) -> list[list[float]]:
    return np.array(_resolved(*arguments, **more)[0].class_weights.table).tolist()


def own(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    """A loss of the user's own, one value per example whatever the shapes."""
    del target
    return tf.reduce_sum(tf.reshape(prediction, [tf.shape(prediction)[0], -1]), axis=1)


OWN = f"{__name__}:own"


@pytest.mark.parametrize(
    ("given", "more", "expected"),
    [
        ({"b": 5, "2": 0}, {"names": ("a", "b", "c")}, [[1, 5, 0]]),
        ({"8": 5}, {"names": ("3", "5", "8")}, [[1, 1, 5]]),
        ("balanced", {}, [[6 / 12, 6 / 3, 6 / 3]]),
        ("balanced", {"weights": [1, 0, 1, 0, 3, 0]}, [[1, 1, 1]]),
        ("balanced", {"loss": {"name": SPARSE, "ignore_class": 0}}, [[0, 1, 1]]),
        ("balanced", {"loss": {"name": SPARSE, "ignore_class": -1}, "target": KINDS - 1, "read": (2,)}, [[1, 1]]),
        ("balanced", {"kind": [[1, 2, 1]]}, [[4 / 3, 2 / 3, 4 / 3]]),  # counted by an earlier process of the run
        ([2, 3], {"loss": OWN, "target": KINDS[:4], "read": (1,)}, [[2, 3]]),
        ([[2, 3], [0, 0]], {"loss": "bce", "target": TAGS, "read": (2,)}, [[2, 3], [0, 0]]),
        ({0: 2}, {"loss": "bce", "target": TAGS, "read": (2,)}, [[2, 1]]),
    ],
)
def test_weights(given, more, expected):
    assert _table(given, **more) == expected


@pytest.mark.parametrize(
    ("given", "more", "words"),
    [
        ("balancd", {}, "must be a list with a number of at least 0 for each class"),
        ([1, -1, 2], {}, r"\.1=-1: must be a finite number of at least 0"),
        ([1, float("nan"), 2], {}, r"\.1=nan: must be a finite number"),
        ({0: float("inf")}, {}, r"\.0=inf: must be a finite number"),
        ([0, 0, 0], {}, "must hold at least one number above 0"),
        ([[0, 0], [0, 0]], {}, "must hold at least one number above 0"),
        ({0: 0, 1: 0, 2: 0}, {}, "must leave at least one class with a weight above 0"),
        ([[1, 2], 3], {}, r"\.1=3: must be a pair"),
        ([1, 2], {}, r"=\[1.0, 2.0\]: must be 3 numbers, as head 'kind' has 3 classes"),
        ([[1, 2]], {}, "must be 3 numbers, as head 'kind' has 3 classes"),
        ({3: 1}, {}, r"\.3=1.0: unknown class; .*allowed: 0, 1, 2"),
        ({"d": 1}, {"names": ("cat", "dog", "fox")}, "unknown class; .*allowed: cat, dog, fox"),
        ({"0": 1}, {"names": ("3", "5", "8")}, "unknown class; .*allowed: 3, 5, 8"),
        ({"1": 9}, {"names": ("1", "2", "3")}, "is the name of class 0 and the number of class '2'; give a list"),
        ({"b": 1, "1": 2}, {"names": ("a", "b", "c")}, r"\.1=2.0: is class 1, as is 'b'"),
        ([1, 2, 3], {"loss": "mse", "target": LARGE}, "is for losses of classes .*, not MeanSquaredError"),
        ([1, 2, 3], {"loss": "circle"}, "is for losses of classes .*, not Circle"),
        (
            [1, 2],
            {"loss": {"name": "class_weighted_binary_crossentropy", "class_weights": [1, 2]}, "read": (1,)},
            "stands beside losses.kind.loss.class_weights",
        ),
        ([1, 2], {"loss": "hinge", "target": TAGS, "read": (2,)}, "is for a single label where the loss is Hinge"),
        ([1, 2, 3], {"loss": "bce", "target": TAGS, "read": (2,)}, "must be the pair .* for each of its 2 labels"),
        ("balanced", {"loss": "bce", "target": TAGS * [1, 0], "read": (2,)}, "class 1 has no .* example of label 1 in"),
        ("balanced", {"read": (5,)}, "classes 3, 4 have no labelled example in the training split of target 'kind'"),
        ("balanced", {"weights": [1, 1, 0, 1, 1, 1], "names": ("a", "b", "c")}, r"class 1 \('b'\) has no labelled"),
        ("balanced", {"loss": "bce", "target": LARGE / 5, "read": (1,)}, "needs classes, but target 'kind' holds 0.2"),
        ([1, 2, 3], {"loss": OWN, "target": LARGE / 2}, "needs classes, but target 'kind' holds 0.5 in the training"),
        ([1, 2, 3], {"loss": OWN, "target": LARGE}, "holds 3.0 .*; the classes of head 'kind' are 0 to 2"),
        ([1, 2], {"loss": OWN, "target": TAGS, "read": (2,)}, "needs class indices, or a single output"),
    ],
)
def test_what_does_not_fit_is_refused(given, more, words):
    with pytest.raises(ConfigError, match=rf"^losses\.kind\.class_weights.*{words}") as caught:
        _resolved(given, **more)
    assert str(caught.value).isprintable()


def test_a_class_of_weight_0_is_not_labelled():
    """Nor is a number that is ignored; a whole batch of such labels leaves the loss without any."""
    loss, _ = _resolved([0, 2, 3], loss={"name": SPARSE, "from_logits": True, "ignore_class": 7})
    outputs = {"kind": tf.zeros((4, 3), tf.float64)}

    def sums(labels, weights) -> tuple[float, ...]:
        batch = {"targets": {"kind": tf.constant(labels)}, "weights": {"kind": tf.constant(weights, tf.float64)}}
        return tuple(float(value) for value in losses.sums(loss, predictions.of(outputs), batch)[:3])

    log = np.log(3)
    assert sums([0, 1, 2, 7], [1, 1, 0.5, 1]) == pytest.approx((3.5 * log, 3.5, 1))
    assert sums([0, 1, 0, 7], [[1], [0], [1], [1]]) == (0, 0, 1)


def test_a_loss_without_a_value_for_each_pixel():
    loss, _ = _resolved([1, 2, 3], loss=OWN, target=np.tile(KINDS[:, None], 2), read=(2, 3))
    batch = {"targets": {"kind": tf.constant(KINDS[:, None] * [1, 1])}}
    with pytest.raises(ConfigError, match=r"losses.kind.class_weights=\[6, 2\]: do not broadcast to the values of"):
        losses.sums(loss, predictions.of({"kind": tf.zeros((6, 2, 3), tf.float64)}), batch)


def _run(tmp_path, steps: int) -> tuple[list[Report], settings.Config, str]:
    """Trains on targets with missing labels; returns the reports, the configuration and the text on the terminal."""
    sgd = {"name": "sgd", "learning_rate": 0.1}
    tree = problems.tree(
        model={"trunk": [], "heads": {"label": [{"layer": "Dense", "units": 4}]}},
        losses={
            "label": {
                "loss": {"name": SPARSE, "from_logits": True},
                "class_weights": "balanced",
                "optimizer": sgd,
            }
        },
        shared_optimizer=sgd,
        steps=steps,
        eval_every=2,
        report_every=2,
        dataset__options={"missing": True},
    )
    config = loading.resolve(tree)
    console = Console(file=io.StringIO(), width=200)
    history = train.train(config, str(tmp_path / "run"), problems.strategy(1), console)
    return history, config, console.file.getvalue()


def test_counts_stay_with_the_run(tmp_path, monkeypatch):
    """A run that is resumed, and an evaluation of it, use them again."""
    monkeypatch.setattr(plots, "save_curves", lambda *_: None)
    _, _, shown = _run(tmp_path, 2)
    split = problems.load(missing=True)["train"]
    present = split.targets["label"][split.weights["label"] > 0]
    counts = np.bincount(present, minlength=4)
    assert json.loads((tmp_path / "run" / "data.json").read_text())["class_counts"] == {"label": [counts.tolist()]}
    assert f"class weights: label {', '.join(f'{weight:.4g}' for weight in len(present) / 4 / counts)}" in shown

    monkeypatch.setattr(InMemory, "labels", None)
    history, config, _ = _run(tmp_path, 4)
    assert [(report.step, report.split) for report in history][-1] == (4, "validation")
    run = workdir.open_run(str(tmp_path / "run"))
    assert evaluate.evaluate(config, run, problems.strategy(1)).values == history[-1].values


def test_workers_that_count_differently_do_not_train():
    told = {"broadcast_text": lambda text: text.replace("2", "3"), "first_text": lambda text: text}
    workers = types.SimpleNamespace(count=2, rank=1, **told)
    saved = SavedData({}, {}, {}, {"kind": [[1, 2]]})
    with pytest.raises(ConfigError, match="losses.kind.class_weights: the counts of classes in the training split"):
        agreement.on_data(saved, workers)
