"""Batches whose size varies: a smaller one is as if it were the size of all, on any number of replicas.

Steps are mostly taken as they stand, without a trace, so that many ways are tried on few models.
"""

import itertools
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import eager, problems
from tests.trainer.step.varying import LARGEST, SIZES, SMALLER, assert_same, examples, left, shared_out, step_of, take
from trainer.step.step import Step

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
    """Two steps of 7 examples of at most 12, on 1, 2 and 3 replicas, of which one has none; labels may be missing."""
    for model, missing in (("simple", False), ("masked", True)):
        batch = examples(missing)
        expected = take(step_of(model, 1, missing, WAYS[way], varying=False), [batch] * 2)
        for replicas, sizes in SIZES.items():
            found = take(step_of(model, replicas, missing, WAYS[way]), [shared_out(batch, sizes)] * 2)
            assert_same(found, expected)


@pytest.mark.parametrize("way", _ways("pcgrad", "fused", "famo", "mgda, features"))
def test_compared_over_the_global_batch(eagerly, way):
    """A loss that compares the examples of all replicas has those that there are."""
    batch = examples(True)
    expected = take(step_of("compared", 1, True, WAYS[way], varying=False), [shared_out(batch, SIZES[1])] * 2)
    assert_same(
        take(step_of("compared", 3, True, WAYS[way]), [shared_out(batch, SIZES[3])] * 2),
        expected,
    )


@pytest.mark.parametrize("way", _ways("weighted", "modo", "fused"))
def test_cut_into_micro_batches(eagerly, way):
    """7 examples of at most 12 in three parts, then 2 of them: some parts are empty, on one replica as well."""
    for missing in (False, True):
        if missing and way == "fused":  # refused: labels are counted before the backward pass
            continue
        batches = [examples(missing), examples(missing, 2)]
        expected = take(step_of("simple", 1, missing, WAYS[way]), batches)
        for replicas, sizes in SIZES.items():
            step = step_of("simple", replicas, missing, WAYS[way] | {"micro_batches": 3})
            of_two = [2, *[0] * (replicas - 1)]
            assert_same(
                take(step, [shared_out(*each) for each in zip(batches, (sizes, of_two), strict=True)]),
                expected,
            )


@pytest.mark.parametrize("way", _ways("fused", "pcgrad", "famo", "mgda, features"))
def test_a_replica_without_an_example(eagerly, way):
    """It adds zeros where it could only add what is no number, and its layers' own variables do not move."""
    for missing in (False, True):
        batch = examples(missing, 4)
        expected = take(step_of("not of zeros", 2, missing, WAYS[way]), [shared_out(batch, (2, 2))] * 2)
        step = step_of("not of zeros", 3, missing, WAYS[way])
        before = _layers_own(step, 2)
        assert_same(take(step, [shared_out(batch, (2, 2, 0))] * 2), expected)
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


@pytest.mark.parametrize("way", _ways("pcgrad", "fused", "famo"))
def test_statistics_of_the_whole_batch(eagerly, way):
    """They are without a replica that has no example, and end the same on all replicas."""
    batches = [examples(False, count) for count in (SMALLER, 2)]
    expected = take(step_of("synchronized", 1, False, WAYS[way]), batches)
    step = step_of("synchronized", 3, False, WAYS[way])
    found = take(step, [shared_out(*each) for each in zip(batches, ((3, 4, 0), (2, 0, 0)), strict=True)])
    assert_same(found, expected)
    for name, value in _layers_own(step, 0).items():
        np.testing.assert_allclose(_layers_own(step, 2)[name], value, rtol=0, atol=1e-15)


def test_statistics_of_nothing(eagerly):
    """A micro-batch without an example on any replica moves none."""
    step = step_of("synchronized", 2, False, {"micro_batches": 3})
    cut = take(step, [shared_out(examples(False, 2), (1, 1))])
    whole = take(step_of("synchronized", 2, False, {}), [shared_out(examples(False, 2), (1, 1))])
    assert_same(cut, whole)


@pytest.mark.parametrize("way", _ways("fused", "modo", "famo", "mgda, features"))
def test_predictions_are_watched(eagerly, way):
    """Of every example once, in however many parts; what is watched changes nothing."""
    batch, found = examples(False), []
    for replicas, sizes in SIZES.items():
        with problems.strategy(replicas).scope():
            mean, losses = keras.metrics.Mean(dtype="float64"), keras.metrics.Sum(dtype="float64")

        def watch(predictions, batch, sums, mean=mean, losses=losses):
            mean.update_state(predictions.outputs["number"], sample_weight=batch["inputs"][:, :1] > 0)
            losses.update_state([own.loss_sum for own in sums])

        parts = {"micro_batches": 3} if way in ("fused", "modo") else {}
        steps = [shared_out(batch, sizes)]
        watched = take(step_of("simple", replicas, False, WAYS[way] | parts, watch=watch), steps)
        assert_same(watched, take(step_of("simple", replicas, False, WAYS[way] | parts), steps), tolerance=0)
        found.append([mean.total.numpy(), mean.count.numpy(), losses.total.numpy()])
    assert found[0][1] == np.sum(batch["inputs"][:, 0] > 0)
    np.testing.assert_allclose(found, [found[0]] * 3, rtol=1e-12)


@pytest.mark.parametrize(
    ("way", "model"), [("fused", "directed"), pytest.param("pcgrad", "synchronized", marks=pytest.mark.ci_only)]
)
def test_as_a_strategy_shares_out_the_rest(way, model):
    """A traced loop over 12 examples, then 2, on 3 replicas, each with its own state of layers."""
    step = step_of(model, 3, False, WAYS[way])
    data, loop, arguments = _traced(step)
    found = left(step, *loop(*arguments))
    if model == "directed":
        calls = [own["direction/calls"] for own in (_layers_own(step, replica) for replica in range(3))]
        assert sorted(calls) == [1, 2, 2], "one replica had no example of the second step"
        del found["direction/calls"]
        assert _sends(loop) == _sends(_traced(step_of(model, 3, False, WAYS[way], varying=False))[1]) > 0
    with eager.functions():
        batches = [tf.nest.map_structure(np.array, batch) for batch in data]
        expected = take(step_of(model, 1, False, WAYS[way]), batches)
    assert_same(found, {name: value for name, value in expected.items() if name in found})


def _traced(step: Step) -> tuple[tf.data.Dataset, Any, tuple]:
    """Batches, the loop over two of them on 3 replicas, and its arguments."""
    data = tf.data.Dataset.from_tensor_slices(examples(False, LARGEST + 2)).batch(LARGEST)
    iterator = iter(problems.strategy(3).experimental_distribute_dataset(data))
    numbers = tf.constant(0, tf.int64), tf.constant(2, tf.int64), tf.constant(True)
    arguments = (iterator, *numbers, step.initial_state(), step.initial_totals())
    return data, step.build().get_concrete_function(*arguments), arguments


def _sends(loop: Any) -> int:
    """The number of collectives in a loop."""
    graph = loop.graph.as_graph_def()
    nodes = itertools.chain(graph.node, *(function.node_def for function in graph.library.function))
    return sum(node.op.startswith("CollectiveReduce") for node in nodes)
