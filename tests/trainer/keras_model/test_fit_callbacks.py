"""Keras' callbacks do with the class what they do with `keras.Model`."""

import pathlib
from typing import Any

import keras
import numpy as np
import pytest

from tests.trainer.keras_model import small
from trainer import MultiLossModel

pytestmark = pytest.mark.usefixtures("float64")
X, Y = small.arrays()
DATA = {"x": X, "y": Y, "batch_size": small.BATCH, "shuffle": False, "verbose": 0}


class _InterruptedError(Exception):
    """An early end of a training."""


class _Interrupt(keras.callbacks.Callback):
    """Ends the training after a number of batches."""

    def __init__(self, batches: int):
        super().__init__()
        self._left = batches

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._left -= 1
        if self._left == 0:
            raise _InterruptedError


def _callbacks(folder: pathlib.Path) -> list[keras.callbacks.Callback]:
    return [
        keras.callbacks.ReduceLROnPlateau("loss", factor=0.3, patience=1, min_delta=10.0, cooldown=1),
        keras.callbacks.ModelCheckpoint(folder / "best.keras", monitor="val_loss", save_best_only=True),
        keras.callbacks.ModelCheckpoint(folder / "{epoch}.weights.h5", save_weights_only=True),
        keras.callbacks.TensorBoard(folder / "events", write_graph=False, update_freq=2),
        keras.callbacks.CSVLogger(folder / "log.csv"),
    ]


def test_callbacks_of_every_kind(tmp_path):
    """The same learning rates, variables, files and numbers; then rates by epoch, and the best epoch's variables."""
    models, histories = [], []
    for name, model_class in (("ours", MultiLossModel), ("theirs", keras.Model)):
        folder = tmp_path / name
        folder.mkdir()
        model = small.compiled(model_class)
        more = {"validation_data": (X[:20], {k: v[:20] for k, v in Y.items()})}
        first = model.fit(**DATA, **more, epochs=5, callbacks=_callbacks(folder)).history
        rates = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate if epoch < 2 else 3.0)
        stopping = keras.callbacks.EarlyStopping(monitor="loss", patience=1, restore_best_weights=True)
        second = model.fit(**DATA, epochs=9, callbacks=[rates, stopping]).history
        models.append(model)
        histories.append((first, second))
    small.assert_same_variables(*models)
    for ours, theirs in zip(*histories, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ("loss", "learning_rate", "kind_accuracy"):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6, err_msg=name)
    first, second = histories[0]
    assert first["learning_rate"][-1] < first["learning_rate"][0] / 3
    assert len(second["loss"]) < 9
    files = [
        sorted(path.relative_to(tmp_path / each) for path in (tmp_path / each).glob("*")) for each in ("ours", "theirs")
    ]
    assert files[0] == files[1]
    columns = [(tmp_path / each / "log.csv").read_text().partition("\n")[0] for each in ("ours", "theirs")]
    assert columns[0] == columns[1]
    loaded = [small.model(keras.Model) for _ in files]
    for each, model in zip(("ours", "theirs"), loaded, strict=True):
        model.load_weights(tmp_path / each / "3.weights.h5")  # each from a plain model's point of view
    small.assert_same_variables(*loaded)


@pytest.mark.ci_only
def test_interrupted_and_resumed_is_not_interrupted(tmp_path):
    """To the bit, with dropout, a method that remembers, and several optimizers; epochs are whole, as Keras has it."""

    def fit(folder: str, *callbacks: keras.callbacks.Callback) -> keras.Model:
        dropout = keras.layers.Dropout(0.3, seed=1)
        optimizers = {"kind": keras.optimizers.Adam(0.02)}
        model = small.compiled(MultiLossModel, dropout, combine="famo", optimizers=optimizers, run_eagerly=True)
        backup = keras.callbacks.BackupAndRestore(tmp_path / folder)
        model.fit(**DATA, epochs=3, callbacks=[backup, *callbacks])
        return model

    with pytest.raises(_InterruptedError):
        fit("interrupted", _Interrupt(8))
    small.assert_same_variables(fit("interrupted"), fit("whole"), tolerance=0)


def test_a_loss_that_is_not_finite_ends_the_training():
    """`TerminateOnNaN` sees it, and the step has changed no variable."""
    model = small.compiled(MultiLossModel, run_eagerly=True)
    before = [np.array(variable) for variable in model.weights]
    history = model.fit(X * np.inf, Y, epochs=3, verbose=0, callbacks=[keras.callbacks.TerminateOnNaN()]).history
    assert len(history["loss"]) == 1
    assert not np.isfinite(history["loss"]).any()
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(variable, value)
