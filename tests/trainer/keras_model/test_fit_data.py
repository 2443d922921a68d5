"""`fit`, `evaluate` and `predict` take what Keras' take, and give the same numbers."""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from tests.trainer.keras_model import small
from trainer import MultiLossModel

pytestmark = pytest.mark.usefixtures("float64")
X, Y = small.arrays()
WEIGHTS = small.weights()
OF_CLASSES = {0: 1.0, 1: 3.0, 2: 0.5, 3: 2.0}


class _Batches(keras.utils.PyDataset):
    """Batches with weights, the last one smaller."""

    def __len__(self) -> int:
        return -(-small.EXAMPLES // small.BATCH)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        part = slice(index * small.BATCH, (index + 1) * small.BATCH)
        return X[part], {k: v[part] for k, v in Y.items()}, {k: v[part] for k, v in WEIGHTS.items()}


def _generated() -> Iterator[tuple[Any, ...]]:
    batches = _Batches()
    while True:
        yield from (batches[index] for index in range(len(batches)))


def _arguments() -> Iterator[tuple[str, dict[str, Any]]]:
    """Arguments of `fit`, one kind of data after another."""
    arrays = {"x": X, "y": Y, "batch_size": small.BATCH}
    yield "arrays", arrays | {"shuffle": False, "epochs": 2, "validation_split": 0.3}
    yield "shuffled", arrays | {"sample_weight": WEIGHTS, "epochs": 5, "initial_epoch": 3}
    dataset = tf.data.Dataset.from_tensor_slices((X, Y, WEIGHTS)).batch(small.BATCH)
    yield "dataset", {"x": dataset, "validation_data": dataset, "validation_freq": 2, "epochs": 2}
    yield "endless dataset", {"x": dataset.repeat(), "steps_per_epoch": 3, "epochs": 2}
    yield "generator", {"x": _generated(), "steps_per_epoch": 5, "epochs": 2}
    yield "PyDataset", {"x": _Batches(), "validation_data": (X, Y, WEIGHTS)}


def _assert_same_numbers(ours: Mapping[str, Any], theirs: Mapping[str, Any], what: str = "") -> None:
    """Of an output's loss Keras takes the mean over batches, also where the last one is smaller."""
    assert ours.keys() == theirs.keys()
    for name in ours.keys() - {"kind_loss", "size_loss", "val_kind_loss", "val_size_loss"}:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-6, err_msg=f"{what} {name}")


def test_data_of_every_kind():
    """One kind after another into the same model, which stays what `keras.Model` is; then single batches."""
    ours, theirs = (small.compiled(each, weighted_metrics={"size": ["mae"]}) for each in (MultiLossModel, keras.Model))
    for (kind, own), (_, other) in zip(_arguments(), _arguments(), strict=True):
        histories = []
        for model, arguments in ((ours, own), (theirs, other)):
            keras.utils.set_random_seed(1)  # of what `fit` shuffles
            histories.append(model.fit(**arguments, verbose=0).history)
        _assert_same_numbers(*histories, kind)
        small.assert_same_variables(ours, theirs)
    batch = _Batches()[4]
    for name in ("train_on_batch", "test_on_batch"):
        _assert_same_numbers(*(getattr(model, name)(*batch, return_dict=True) for model in (ours, theirs)), name)
    assert ours.test_on_batch(*batch) == pytest.approx(theirs.test_on_batch(*batch))
    for name, values in theirs.predict(X, verbose=0).items():
        np.testing.assert_allclose(ours.predict(X, verbose=0)[name], values, rtol=0, atol=1e-9)
        np.testing.assert_allclose(ours.predict_on_batch(X)[name], values, rtol=0, atol=1e-9)


def test_class_weights():
    """For each output, as weights of its examples; for the only output, as Keras takes them."""
    of_examples = {"kind": np.vectorize(OF_CLASSES.get)(Y["kind"]), "size": np.ones(small.EXAMPLES)}
    common = {"batch_size": small.BATCH, "shuffle": False, "verbose": 0}
    ours, theirs = (small.compiled(each, run_eagerly=True) for each in (MultiLossModel, keras.Model))
    ours.fit(X, Y, class_weight={"kind": OF_CLASSES}, **common)
    theirs.fit(X, Y, sample_weight=of_examples, **common)
    small.assert_same_variables(ours, theirs)
    for model, model_class in ((ours, MultiLossModel), (theirs, keras.Model)):
        single = model_class(model.input, model.output["kind"])
        single.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", run_eagerly=True)
        assert single.fit(X, Y["kind"], class_weight=OF_CLASSES, **common).history.keys() == {"loss"}
    small.assert_same_variables(ours, theirs)


def test_several_steps_in_one_call_on_two_devices():
    """As one step in a call on one device: training, weights, validation, evaluation, prediction."""
    data = {"x": X, "y": Y, "sample_weight": WEIGHTS, "batch_size": small.BATCH}
    histories, evaluations, models = [], [], []
    for strategy, steps in ((problems.strategy(2), 3), (tf.distribute.get_strategy(), 1)):
        with strategy.scope():
            models.append(small.compiled(MultiLossModel, steps_per_execution=steps))
        more = {"validation_data": (X, Y), "shuffle": False, "epochs": 3, "verbose": 0}
        histories.append(models[-1].fit(**data, **more).history)
        evaluations.append(models[-1].evaluate(**data, return_dict=True, verbose=0))
    several, one = models
    small.assert_same_variables(several, one)
    for ours, theirs in (histories, evaluations):
        assert ours.keys() == theirs.keys()
        for name, values in ours.items():
            np.testing.assert_allclose(values, theirs[name], rtol=0, atol=1e-6, err_msg=name)
    for name, values in one.predict(X, batch_size=small.BATCH, verbose=0).items():
        np.testing.assert_allclose(several.predict(X, batch_size=small.BATCH, verbose=0)[name], values, atol=1e-9)


@pytest.mark.ci_only
def test_other_data_within_the_scope_of_a_strategy(eagerly):
    """`fit` is called in the scope, as many scripts have it, and again on data of another form."""
    models = []
    for strategy in (problems.strategy(2), tf.distribute.get_strategy()):
        with strategy.scope():
            models.append(small.compiled(MultiLossModel, combine="famo"))
            for more in ({}, {"sample_weight": WEIGHTS}):
                models[-1].fit(X, Y, batch_size=25, shuffle=False, verbose=0, **more)
    small.assert_same_variables(*models)


@pytest.mark.parametrize("count", [1, pytest.param(3, marks=pytest.mark.ci_only)])
def test_missing_labels_are_left_out(count):
    """NaN as a mask is in Keras, out of sum and number; weight 0 out of the sum alone. Also where no label is left."""

    def squared(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
        there = tf.math.is_finite(target)
        values = tf.square(tf.where(there, target, 0) - prediction) * tf.cast(there, target.dtype)
        return tf.math.divide_no_nan(tf.reduce_sum(values), tf.reduce_sum(tf.cast(there, target.dtype)))

    random = np.random.RandomState(3)
    size = np.where(random.uniform(size=(small.EXAMPLES, 1)) < 0.4, np.nan, Y["size"])
    size[small.BATCH : 2 * small.BATCH] = np.nan
    weights = {"kind": (random.uniform(size=small.EXAMPLES) < 0.5).astype(float), "size": np.ones(small.EXAMPLES)}
    weights["kind"][:8] = 0  # the first of several replicas has none
    data = {"x": X, "y": Y | {"size": size}, "sample_weight": weights, "batch_size": small.BATCH}
    theirs = small.compiled(keras.Model, loss=small.LOSSES | {"size": squared}, run_eagerly=True)
    theirs.fit(**data, shuffle=False, epochs=3, verbose=0)
    with problems.strategy(count).scope():
        ours = small.compiled(MultiLossModel)
    history = ours.fit(**data, shuffle=False, epochs=3, verbose=0).history
    small.assert_same_variables(ours, theirs)
    assert np.isfinite([*history.values()]).all()
