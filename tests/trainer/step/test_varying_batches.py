"""Batches whose size varies: a smaller one is as if it were the size of all, on any number of replicas.

Steps are mostly taken as they stand, without a trace, so that many ways are tried on few models.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import eager, problems
from trainer.config import plan
from trainer.run import build_step, experiment, optimization
from trainer.run.experiment import Experiment
from trainer.run.network import Network
from trainer.step.objectives import Objectives
from trainer.step.step import Step

LARGEST, SMALLER = 12, 7  # examples
SIZES = {1: (7,), 2: (5, 2), 3: (3, 4, 0)}  # of each replica


def normalized() -> keras.Model:
    """A trunk with batch statistics and a layer that cannot take zeros, with the heads of `problems`."""
    inputs = keras.Input((6,), name="inputs")
    features = keras.layers.Dense(5, name="dense")(Direction(name="direction")(inputs))
    features = keras.layers.BatchNormalization(name="norm")(features)
    heads = {"label": 4, "number": 1, "vector": 3}
    return keras.Model(inputs, {name: keras.layers.Dense(units, name=name)(features) for name, units in heads.items()})


class Direction(keras.layers.Layer):
    """The direction of a vector: no number, with gradients that are none, where that is zero. It counts its calls."""

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, inputs):
        self.calls.assign_add(1.0)
        scaled = self.scale * inputs
        return scaled / tf.sqrt(tf.reduce_sum(tf.square(scaled), -1, keepdims=True))


def logarithmic(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    """A loss with gradients that are no numbers where a target is zero."""
    return tf.reduce_mean(tf.square(tf.math.log(tf.abs(target)) * prediction), axis=-1)


SIMPLE = {name: value for name, value in problems.SIMPLE.items() if "optimizer" not in name}
MODELS = {
    "simple": SIMPLE,
    "not of zeros": {"model": {"name": f"{__name__}:normalized"}, "losses__vector__loss": f"{__name__}:logarithmic"},
}


@functools.cache
def _built(model: str, replicas: int, missing: bool) -> tuple[Experiment, list[np.ndarray]]:
    """An experiment, of which only the step is made anew, and the values of its model at the start."""
    config = problems.config(**MODELS[model], dataset__options={"missing": missing})
    built = experiment.build(config, problems.strategy(replicas))
    return built, [variable.numpy() for variable in built.model.variables]


def _step(model: str, replicas: int, missing: bool, way: dict, *, varying: bool = True, watch: Any = None) -> Step:
    """The step of a way to compute, on a model as it was at the start."""
    built, start = _built(model, replicas, missing)
    for variable, value in zip(built.model.variables, start, strict=True):
        variable.assign(value)
    options = {"batch_size": LARGEST if varying else SMALLER, "dataset__options": {"missing": missing}}
    config = problems.config(**MODELS[model] | options | way)
    network = Network(built.model, built.losses, {}, built.data)
    of_losses = (config.losses, config.optimizer, config.shared_optimizer)
    timeline = dataclasses.replace(built.timeline, batch_size=config.batch_size)
    made = optimization.build(config.combine, *of_losses, None, built.reach, timeline, built.strategy)
    masked = built.step.objectives.masked
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_step, "Objectives", functools.partial(Objectives, varying=varying, watch=watch))
        return build_step.build(config, plan.of(config), network, built.reach, masked, made, timeline, built.strategy)


def _examples(missing: bool, count: int = SMALLER) -> dict[str, Any]:
    split = problems.load(missing=missing)["train"]
    batch = {"inputs": split.inputs, "targets": split.targets} | ({"weights": split.weights} if missing else {})
    return tf.nest.map_structure(lambda rows: rows[10 : 10 + count], batch)


def _shared_out(batch: Any, sizes: Sequence[int]) -> Any:
    """The batch on replicas, of which each has this many examples."""
    ends = np.cumsum([0, *sizes])

    def of_replicas(rows: np.ndarray) -> Any:
        parts = [tf.constant(rows[first:end]) for first, end in itertools.pairwise(ends)]
        return problems.strategy(len(sizes)).experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )

    return tf.nest.map_structure(of_replicas, batch)


def _take(step: Step, batches: Sequence[Any]) -> dict[str, np.ndarray]:
    """All that some steps leave: variables, optimizers, losses, norms, cosines."""
    state, totals = step.initial_state(), step.initial_totals()
    for number, batch in enumerate(batches):
        numbers = tf.constant(number, tf.int64), tf.constant(True)
        state, totals = step.one_step(iter([batch]), *numbers, state, totals)
    return _left(step, state, totals)


def _left(step: Step, state: Any, totals: Any) -> dict[str, np.ndarray]:
    assert int(totals.failed_step) == -1
    found = {variable.path: variable.numpy() for variable in step.objectives.model.variables}
    for group in step.updates.groups:
        found |= {f"{group.name}/{index}": np.array(own) for index, own in enumerate(group.optimizer.variables)}
    found |= {f"state/{name}": value.numpy() for name, value in step.remembered(state).items()}
    found |= {"losses": totals.losses.numpy(), "counts": totals.counts.numpy()}
    measured = totals.measured._asdict() if bool(totals.measured.measured) else {}
    return found | {f"measured/{name}": value.numpy() for name, value in measured.items()}


def _assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float = 1e-12) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance, err_msg=name)


FUSED = {"reduction": "fused", "probe_every": 3}
WAYS = {
    "weighted": {"combine__name": "weighted"},
    "fused": {"combine__name": "weighted", **FUSED},
    "pcgrad": {"combine__name": "pcgrad"},
    "famo": {"combine__name": "famo"},
    "uncertainty, fused": {"combine__name": "uncertainty", **FUSED},
    "modo": {"combine__name": "modo"},
    "moco": {"combine__name": "moco"},
    "independent": {"combine__name": "independent"},
    "mgda, features": {"combine__name": "mgda", "reduction": "features"},
}


def _ways(always: str, *others: str) -> list[Any]:
    return [always, *(pytest.param(way, marks=pytest.mark.ci_only) for way in others)]


@pytest.mark.parametrize("way", _ways("fused", *(way for way in WAYS if way != "fused")))
def test_as_a_batch_of_that_size(eagerly, way):
    """Two steps of 7 examples of at most 12, on 1, 2 and 3 replicas, of which one has none."""
    for missing in (False, True):
        batch = _examples(missing)
        expected = _take(_step("simple", 1, missing, WAYS[way], varying=False), [batch] * 2)
        for replicas, sizes in SIZES.items():
            found = _take(_step("simple", replicas, missing, WAYS[way]), [_shared_out(batch, sizes)] * 2)
            _assert_same(found, expected)


@pytest.mark.parametrize("way", _ways("modo", "weighted", "fused"))
def test_cut_into_micro_batches(eagerly, way):
    """7 examples of at most 12 in three parts, then 2 of them: some parts are empty, on one replica as well."""
    for missing in (False, True):
        if missing and way == "fused":  # refused: labels are counted before the backward pass
            continue
        batches = [_examples(missing), _examples(missing, 2)]
        expected = _take(_step("simple", 1, missing, WAYS[way]), batches)
        for replicas, sizes in SIZES.items():
            step = _step("simple", replicas, missing, WAYS[way] | {"micro_batches": 3})
            of_two = [2, *[0] * (replicas - 1)]
            _assert_same(
                _take(step, [_shared_out(*each) for each in zip(batches, (sizes, of_two), strict=True)]), expected
            )


@pytest.mark.parametrize("way", _ways("fused", "pcgrad", "famo", "mgda, features"))
def test_a_replica_without_an_example(eagerly, way):
    """It adds zeros where it could only add what is no number, and its layers' own variables do not move."""
    for missing in (False, True):
        batch = _examples(missing, 4)
        expected = _take(_step("not of zeros", 2, missing, WAYS[way]), [_shared_out(batch, (2, 2))] * 2)
        step = _step("not of zeros", 3, missing, WAYS[way])
        before = _layers_own(step, 2)
        _assert_same(_take(step, [_shared_out(batch, (2, 2, 0))] * 2), expected)
        moved, kept = _layers_own(step, 0), _layers_own(step, 2)
        for name, value in before.items():
            np.testing.assert_array_equal(kept[name], value, err_msg=name)
            assert not np.array_equal(moved[name], value), name


def _layers_own(step: Step, replica: int) -> dict[str, np.ndarray]:
    """The variables that layers change by themselves, on a replica."""
    return {
        variable.path: problems.strategy(3).experimental_local_results(variable.value)[replica].numpy()
        for variable in step.objectives.model.non_trainable_variables
    }


@pytest.mark.parametrize("way", _ways("fused", "modo", "famo", "mgda, features"))
def test_predictions_are_watched(eagerly, way):
    """Of every example once, in however many parts; what is watched changes nothing."""
    batch, found = _examples(False), []
    for replicas, sizes in SIZES.items():
        with problems.strategy(replicas).scope():
            mean, losses = keras.metrics.Mean(dtype="float64"), keras.metrics.Sum(dtype="float64")

        def watch(predictions, batch, sums, mean=mean, losses=losses):
            mean.update_state(predictions.outputs["number"], sample_weight=batch["inputs"][:, :1] > 0)
            losses.update_state([own.loss_sum for own in sums])

        parts = {"micro_batches": 3} if way in ("fused", "modo") else {}
        steps = [_shared_out(batch, sizes)]
        watched = _take(_step("simple", replicas, False, WAYS[way] | parts, watch=watch), steps)
        _assert_same(watched, _take(_step("simple", replicas, False, WAYS[way] | parts), steps), tolerance=0)
        found.append([mean.total.numpy(), mean.count.numpy(), losses.total.numpy()])
    assert found[0][1] == np.sum(batch["inputs"][:, 0] > 0)
    np.testing.assert_allclose(found, [found[0]] * 3, rtol=1e-12)


@pytest.mark.parametrize("way", _ways("fused", "pcgrad"))
def test_as_a_strategy_shares_out_the_rest(way):
    """A traced loop over 12 examples, then 2, on 3 replicas; it sends no more often than where sizes are fixed."""
    everything = _examples(False, LARGEST + 2)
    sends = []
    for varying in (False, True):
        step = _step("simple", 3, False, WAYS[way], varying=varying)
        data = tf.data.Dataset.from_tensor_slices(everything).batch(LARGEST)
        numbers = tf.constant(0, tf.int64), tf.constant(2, tf.int64), tf.constant(True)
        iterator = iter(problems.strategy(3).experimental_distribute_dataset(data))
        arguments = (iterator, *numbers, step.initial_state(), step.initial_totals())
        loop = step.build().get_concrete_function(*arguments)
        graph = loop.graph.as_graph_def()
        nodes = itertools.chain(graph.node, *(function.node_def for function in graph.library.function))
        sends.append(sum(node.op.startswith("CollectiveReduce") for node in nodes))
    assert sends[0] == sends[1] > 0
    found = _left(step, *loop(*arguments))
    with eager.functions():
        batches = [tf.nest.map_structure(np.array, batch) for batch in data]
        _assert_same(found, _take(_step("simple", 1, False, WAYS[way]), batches))
