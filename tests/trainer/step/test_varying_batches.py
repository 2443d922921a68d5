"""Batches whose size varies: a smaller one is as if it were the size of all, on any number of replicas."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from trainer.run import build_step, experiment
from trainer.run.experiment import Experiment
from trainer.step.objectives import Objectives

NOMINAL, REAL = 11, 7  # examples


@pytest.fixture
def varying(monkeypatch) -> Callable[..., Experiment]:
    """Builds an experiment whose step takes batches of any size up to the configuration's."""

    def build(replicas: int, watch: Any = None, **changes: Any) -> Experiment:
        with monkeypatch.context() as context:
            made = functools.partial(Objectives, varying=True, watch=watch)
            context.setattr(build_step, "Objectives", made)
            return experiment.build(problems.config(**changes), problems.strategy(replicas))

    return build


def _examples(missing: bool, count: int = REAL) -> dict[str, Any]:
    split = problems.load(missing=missing)["train"]
    batch = {"inputs": split.inputs, "targets": split.targets} | ({"weights": split.weights} if missing else {})
    return tf.nest.map_structure(lambda rows: rows[10 : 10 + count], batch)


def _shared_out(batch: Any, sizes: Sequence[int], strategy: tf.distribute.Strategy) -> Any:
    """The batch on replicas, of which each has this many examples."""
    ends = np.cumsum([0, *sizes])

    def of_replicas(rows: np.ndarray) -> Any:
        parts = [tf.constant(rows[first:end]) for first, end in itertools.pairwise(ends)]
        return strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )

    return tf.nest.map_structure(of_replicas, batch)


def _take(built: Experiment, batches: Sequence[Any]) -> dict[str, np.ndarray]:
    """All that some steps leave: variables, optimizers, losses, norms, cosines."""
    step, state, totals = built.step, built.step.initial_state(), built.step.initial_totals()
    found = {}
    for number, batch in enumerate(batches):
        numbers = tf.constant(number, tf.int64), tf.constant(True)
        state, totals = step.one_step(iter([batch]), *numbers, state, totals)
        assert int(totals.failed_step) == -1
    found |= {variable.path: variable.numpy() for variable in built.model.variables}
    for group in built.optimizer_groups:
        found |= {f"{group.name}/{index}": np.array(own) for index, own in enumerate(group.optimizer.variables)}
    found |= {f"state/{name}": value.numpy() for name, value in built.step.remembered(state).items()}
    found |= {"losses": totals.losses.numpy(), "counts": totals.counts.numpy()}
    measured = totals.measured._asdict() if bool(totals.measured.measured) else {}
    return found | {f"measured/{name}": value.numpy() for name, value in measured.items()}


def _assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float = 1e-12) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance, err_msg=name)


WAYS = {
    "weighted": {"combine__name": "weighted"},
    "fused": {"combine__name": "weighted", "reduction": "fused", "probe_every": 3},
    "pcgrad": {"combine__name": "pcgrad"},
    "famo": {"combine__name": "famo"},
    "uncertainty, fused": {"combine__name": "uncertainty", "reduction": "fused", "probe_every": 3},
    "modo": {"combine__name": "modo"},
    "moco": {"combine__name": "moco"},
    "independent": {"combine__name": "independent"},
    "mgda, features": {"combine__name": "mgda", "reduction": "features"},
}
SIZES = {1: (7,), 2: (6, 1), 3: (4, 3, 0)}


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_as_a_batch_of_that_size(eagerly, varying, way, missing):
    """Two steps of 7 examples of at most 11, on 1, 2 and 3 replicas, of which one has none."""
    changes = problems.SIMPLE | {"dataset__options": {"missing": missing}} | WAYS[way]
    batch = _examples(missing)
    reference = experiment.build(problems.config(batch_size=REAL, **changes), problems.strategy(1))
    expected = _take(reference, [batch] * 2)
    for replicas, sizes in SIZES.items():
        built = varying(replicas, batch_size=NOMINAL, **changes)
        _assert_same(_take(built, [_shared_out(batch, sizes, built.strategy)] * 2), expected)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("way", ["weighted", "fused", "modo"])
def test_cut_into_micro_batches(eagerly, varying, way, missing):
    """7 examples of at most 12 in three parts, then 2 of them: some parts are empty, on one replica as well."""
    if missing and way == "fused":
        pytest.skip("refused: labels are counted before the backward pass")
    changes = problems.SIMPLE | {"dataset__options": {"missing": missing}} | WAYS[way]
    reference = varying(1, batch_size=12, **changes)
    expected = _take(reference, [_examples(missing), _examples(missing, 2)])
    for replicas, sizes in SIZES.items():
        built = varying(replicas, batch_size=12, micro_batches=3, **changes)
        few = [min(size, 2) if number == 0 else 0 for number, size in enumerate(sizes)]
        batches = [_shared_out(_examples(missing), sizes, built.strategy)]
        batches.append(_shared_out(_examples(missing, 2), few, built.strategy))
        _assert_same(_take(built, batches), expected)


@keras.saving.register_keras_serializable("tests")
class Direction(keras.layers.Layer):
    """The direction of a vector: no number, with gradients that are none, where that is zero. It counts its calls."""

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, inputs):
        self.calls.assign_add(1.0)
        scaled = self.scale * inputs
        return scaled / tf.sqrt(tf.reduce_sum(tf.square(scaled), -1, keepdims=True))


def normalized(synchronized: bool = False) -> keras.Model:
    """A trunk with batch statistics and a layer that cannot take zeros, with the heads of `problems`."""
    inputs = keras.Input((6,), name="inputs")
    features = keras.layers.Dense(5, name="dense")(Direction(name="direction")(inputs))
    features = keras.layers.BatchNormalization(synchronized=synchronized, name="norm")(features)
    heads = {"label": 4, "number": 1, "vector": 3}
    return keras.Model(inputs, {name: keras.layers.Dense(units, name=name)(features) for name, units in heads.items()})


def logarithmic(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    """A loss with gradients that are no numbers where a target is zero."""
    return tf.reduce_mean(tf.square(tf.math.log(tf.abs(target)) * prediction), axis=-1)


ON_NOTHING = {
    "model": {"name": "tests.trainer.step.test_varying_batches:normalized"},
    "losses__vector__loss": "tests.trainer.step.test_varying_batches:logarithmic",
    **{name: value for name, value in problems.SIMPLE.items() if "optimizer" in name},
}


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("way", ["weighted", "fused", "pcgrad", "famo", "mgda, features"])
def test_a_replica_without_an_example(eagerly, varying, way, missing):
    """It adds zeros where it could only add what is no number, and its layers' own variables do not move."""
    changes = ON_NOTHING | {"dataset__options": {"missing": missing}} | WAYS[way]
    batch = _examples(missing, 4)
    two, three = (varying(replicas, batch_size=NOMINAL, **changes) for replicas in (2, 3))
    before = _layers_own(three, 2)
    expected = _take(two, [_shared_out(batch, (2, 2), two.strategy)] * 2)
    _assert_same(_take(three, [_shared_out(batch, (2, 2, 0), three.strategy)] * 2), expected)
    after = _layers_own(three, 2)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
        assert not np.array_equal(_layers_own(three, 0)[name], value), name


def _layers_own(built: Experiment, replica: int) -> dict[str, np.ndarray]:
    """The variables that layers change by themselves, on a replica."""
    return {
        variable.path: built.strategy.experimental_local_results(variable.value)[replica].numpy()
        for variable in built.model.non_trainable_variables
    }


@pytest.mark.parametrize("way", ["weighted", "fused", "modo", "famo", "mgda, features"])
def test_predictions_are_watched(eagerly, varying, way):
    """Of every example once, whatever has no example; what is watched changes nothing."""
    found = {}
    for replicas, sizes in SIZES.items():
        with problems.strategy(replicas).scope():
            mean, losses = keras.metrics.Mean(dtype="float64"), keras.metrics.Sum(dtype="float64")

        def watch(predictions, batch, sums, mean=mean, losses=losses):
            mean.update_state(predictions.outputs["number"], sample_weight=batch["inputs"][:, :1] > 0)
            losses.update_state([own.loss_sum for own in sums])

        parts = 1 if "feat" in way or way == "famo" else 3
        changes = problems.SIMPLE | {"batch_size": 12, "micro_batches": parts} | WAYS[way]
        built, other = varying(replicas, watch, **changes), varying(replicas, **changes)
        batch = _shared_out(_examples(False), sizes, built.strategy)
        _assert_same(_take(built, [batch]), _take(other, [batch]), tolerance=0)
        found[replicas] = [mean.total.numpy(), mean.count.numpy(), losses.total.numpy()]
        assert mean.count.numpy() == np.sum(_examples(False)["inputs"][:, 0] > 0)
    np.testing.assert_allclose(found[2], found[1], rtol=1e-12)
    np.testing.assert_allclose(found[3], found[1], rtol=1e-12)
