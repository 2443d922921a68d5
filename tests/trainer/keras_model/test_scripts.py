"""Six ordinary Keras scripts train as with `keras.Model`, on any number of replicas, and as the command line does."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from tests.trainer.keras_model import scripts
from tests.trainer.keras_model.scripts import SCRIPTS, Trained
from trainer import MultiLossModel
from trainer.config import loading
from trainer.run import experiment

TOLERANCE = 1e-9
STEPS = 20
ALWAYS = ("preprocessing_inside",)
pytestmark = pytest.mark.usefixtures("float64")


def _parameters(*names: str) -> list[Any]:
    """Names of scripts, most of them for CI only."""
    return [pytest.param(name, marks=[] if name in ALWAYS else [pytest.mark.ci_only]) for name in names]


def _difference(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The largest difference of each variable."""
    pairs = zip(ours.items(), theirs.values(), strict=True)
    return {name: float(np.max(np.abs(own - other))) for (name, own), other in pairs if own.dtype == np.float64}


def _assert_same(ours: Trained, theirs: Trained, *, losses: bool = True) -> None:
    """The same variables, and the same metrics in the history; with `losses`, also the same total."""
    assert max(_difference(ours.variables, theirs.variables).values()) < TOLERANCE
    assert ours.history.keys() == theirs.history.keys()
    for name, values in ours.history.items():
        # Of an output's loss Keras takes the mean over batches, also where the last one is smaller.
        if losses and name in ("loss", "val_loss") or "loss" not in name:
            np.testing.assert_allclose(values, theirs.history[name], rtol=0, atol=1e-6, err_msg=name)


class MergingAdam(keras.optimizers.Adam):
    """Adam as it is for dense gradients; Keras' own counts one alone of those that share a row of an embedding."""

    def apply(self, grads: list[Any], trainable_variables: list[Any] | None = None) -> None:
        super().apply([tf.convert_to_tensor(gradient) for gradient in grads], trainable_variables)


@pytest.mark.parametrize("name", _parameters(*(name for name in SCRIPTS if name != "text")))
def test_weighted_is_keras_fit(name):
    """Nothing but the class is replaced; batches differ in size."""
    _assert_same(SCRIPTS[name](MultiLossModel), SCRIPTS[name](keras.Model))


@pytest.mark.ci_only
def test_embeddings_alone_differ_from_keras_fit():
    """Repeated words of a batch count once in Keras' Adam; where it merges them first, nothing differs."""
    ours, theirs = scripts.text(MultiLossModel), scripts.text(keras.Model)
    # Keras' loss of an epoch weighs batches by their sentences, not by their words.
    _assert_same(ours, scripts.text(keras.Model, optimizer=MergingAdam(0.01)), losses=False)
    assert max(_difference(ours.variables, theirs.variables).values()) > 1e-3


@pytest.mark.ci_only
@pytest.mark.parametrize(
    ("name", "count"),
    [("list_of_outputs", 3), ("image_and_table", 3), ("text", 2), ("preprocessing_inside", 3), ("fine_tuned", 2)],
)
def test_replicas_are_one(name, count):
    """Several devices, some without an example of the last batch, give what one gives."""
    _assert_same(SCRIPTS[name](MultiLossModel, problems.strategy(count)), SCRIPTS[name](MultiLossModel))


LOSSES = {
    "image_and_table": {"kind": ("sparse_categorical_crossentropy", 1.0), "value": ("huber", 3.0)},
    "text": {"tag": ("sparse_categorical_crossentropy", 1.0), "mood": ("mse", 0.5)},
}


@pytest.mark.parametrize(
    ("name", "combine"),
    [
        ("image_and_table", "upgrad"),
        pytest.param("text", "upgrad", marks=pytest.mark.ci_only),
        pytest.param("image_and_table", "pcgrad", marks=pytest.mark.ci_only),
    ],
)
def test_the_step_is_the_command_lines(name, combine, eagerly):
    """The same batches, the same variables, also where the method draws random numbers."""
    losses, adam = LOSSES[name], {"name": "adam", "learning_rate": 0.01}
    tree = {
        "precision": "float64",
        "batch_size": scripts.BATCH,
        "dataset": {"name": f"{scripts.__name__}:{name}_examples"},
        "model": {"name": f"{scripts.__name__}:{name}_model"},
        "losses": {k: {"loss": loss, "weight": w, "normalizer": "examples"} for k, (loss, w) in losses.items()},
        "combine": {"name": combine, "use_weights": True},
        "optimizer": adam,
        "steps": STEPS,
    }
    built = experiment.build(loading.resolve(tree), tf.distribute.get_strategy())
    batches = built.batches(0).take(STEPS).map(lambda batch: (batch["inputs"], batch["targets"]))
    model = getattr(scripts, f"{name}_model")(MultiLossModel)
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss={output: loss for output, (loss, _) in losses.items()},
        loss_weights={output: weight for output, (_, weight) in losses.items()},
        combine=combine,
    )
    model.fit(batches, verbose=0)
    problems.train(built, STEPS)
    for ours, theirs in zip(model.weights, built.model.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE, err_msg=ours.path)
