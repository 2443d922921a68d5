"""Backward passes of many losses as a loop give what one after another gives, in float64 to 1e-12."""

from typing import Any
from unittest import mock

import pytest
import tensorflow as tf

from tests import eager, problems
from trainer.distributed import strategy as strategy_lib
from trainer.gradients import layout
from trainer.run import experiment
from trainer.run.experiment import Experiment
from trainer.step import looped

STEPS = 3
_DENSE = {"layer": "Dense", "units": 7, "activation": "tanh"}
_LAYERS = [_DENSE, {"layer": "BatchNormalization"}, {"layer": "Dropout", "rate": 0.3}, _DENSE]
# Some labels are missing, in some steps all of a loss; two losses share a head. Features are fewer than weights.
_CHANGES = {"dataset__options": {"missing": True}, "combine__name": "upgrad", "batch_size": 6}


def _experiment(many: int, replicas: int = 1, **changes: Any) -> Experiment:
    with mock.patch.object(looped, "MANY", many):
        return experiment.build(problems.config(**{**_CHANGES, **changes}), problems.strategy(replicas))


def _both(replicas: int = 1, **changes: Any) -> tuple[problems.Result, problems.Result]:
    """With a loop, in graphs, and without."""
    built, expected = _experiment(2, replicas, **changes), _experiment(99, replicas, **changes)
    assert built.step.computation.looped is not None
    assert expected.step.computation.looped is None
    return problems.train(built, STEPS), problems.train(expected, STEPS)


@pytest.mark.parametrize(
    ("replicas", "changes"),
    [
        (1, {"model__trunk": _LAYERS}),
        *(
            pytest.param(*case, marks=pytest.mark.ci_only)
            for case in (
                (2, {"model__trunk": _LAYERS, "micro_batches": 3, "combine__name": "sum", "clip_norm": 0.1}),
                (1, {"model__trunk": _LAYERS, "compile": "passes", "model__recompute": True}),
                (1, {"combine__name": "mgda", "precision": "mixed_float16"}),
                (1, {"compile": "loop"}),
            )
        ),
    ],
)
def test_same_updates(replicas, changes):
    result, expected = _both(replicas, **changes)
    problems.assert_same(result, expected, tolerance=1e-12 if "precision" not in changes else 1e-4)


def test_nothing_of_a_loss_that_is_not_finite_reaches_another_one():
    built = _experiment(2, losses__vector__loss=f"{__name__}:not_a_number", combine__name="sum")
    with eager.functions():
        arguments = (tf.constant(0, tf.int64), tf.constant(1, tf.int64), tf.constant(True))
        state, totals = built.step.initial_state(), built.step.initial_totals()
        _, totals = built.step.build()(built.source(0), *arguments, state, totals)
    assert list(built.step.failure(totals).losses) == ["vector"]


def not_a_number(target, prediction):
    """A loss without a finite value."""
    return tf.reduce_sum(tf.math.log(-tf.square(prediction) - 1), axis=-1)


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 50},  # more numbers at the features than the trunk has
        {"losses__number__variables": ["head_number*"]},  # a loss that is kept from the trunk
        {"combine__name": "graddrop"},
        {"combine__apply": "per_loss"},
        {"combine__name": "modo"},
    ],
)
def test_passes_are_taken_one_by_one(changes):
    assert _experiment(2, **changes).step.computation.looped is None


def test_pooling_by_maxima_is_not_in_a_loop_on_cpus():
    reshaped = [{"layer": "Reshape", "target_shape": (6, 1)}, {"layer": "MaxPooling1D", "pool_size": 2}]
    trunk = [*reshaped, {"layer": "Flatten"}, {"layer": "Dense", "units": 7}]
    with mock.patch.object(strategy_lib, "layout", return_value=layout.GPU):
        on_gpu = _experiment(2, model__trunk=trunk, batch_size=2)
    assert on_gpu.step.computation.looped is not None
    assert _experiment(2, model__trunk=trunk, batch_size=2).step.computation.looped is None


def test_the_trunk_is_traced_once():
    def traced(many: int) -> int:
        built = _experiment(many, model__trunk=[_DENSE, _DENSE])
        state, totals = built.step.initial_state(), built.step.initial_totals()
        arguments = (tf.constant(0, tf.int64), tf.constant(1, tf.int64), tf.constant(False))
        graph = built.step.build().get_concrete_function(built.source(0), *arguments, state, totals).graph
        library = graph.as_graph_def().library.function
        return sum(node.op == "TanhGrad" for function in library for node in function.node_def)

    in_heads = 2  # two losses share a head with a layer of its own
    assert traced(99) == 4 * 2 + in_heads
    assert traced(2) == 2 + in_heads
