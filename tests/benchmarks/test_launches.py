"""Counts of what a GPU and its host do in a step."""

import pytest
import tensorflow as tf

from tests import problems
from tests.benchmarks import bounds, graph_kernels, launches
from tests.benchmarks.graph_kernels import COMBINE, PASSES, REDUCE, UPDATE


def _counted(function, *specs):
    return graph_kernels.of_function(tf.function(function, autograph=False).get_concrete_function(*specs))


def _loop(times):
    def function(values):
        with tf.name_scope("combine"):
            body = lambda index, total: (index + 1, tf.matmul(total, tf.sin(total)))  # noqa: E731
            return tf.while_loop(lambda index, _: index < times, body, (tf.constant(0), values))[1]

    return function


def _condition(values):
    with tf.name_scope("update"):
        return tf.cond(values[0, 0] > 0, lambda: tf.sin(values) + 1, lambda: values)


def _parts(values):
    with tf.name_scope("combine"):
        with tf.name_scope("reduce"):
            values = tf.sin(values)
        called = tf.function(lambda values: tf.cos(tf.reshape(values, [4])), autograph=False)
        return called(values)


_MATRIX = tf.TensorSpec([2, 2])


@pytest.mark.parametrize(
    ("function", "kernels", "predicates"),
    [
        (lambda values: tf.reshape(tf.sin(values), [4]), {PASSES: 1}, 0),  # the new shape starts nothing
        (_loop(5), {COMBINE: 10}, 1),
        (_loop(tf.random.uniform([], 1, 9, tf.int32)), {COMBINE: 2}, 1),  # nobody knows how often: once
        (_condition, {PASSES: 0, UPDATE: 4}, 1),
        (_parts, {REDUCE: 1, COMBINE: 1}, 0),
    ],
)
def test_kernels_by_part_and_predicates(function, kernels, predicates):
    counts = _counted(function, _MATRIX)
    assert {part: counts.kernels[part] for part in kernels} == kernels
    assert counts.predicates == predicates


def test_what_one_memory_has_and_the_other_wants_is_copied():
    assert _counted(tf.sin, _MATRIX).copies == 0
    with_size = _counted(lambda values, size: tf.reshape(tf.sin(values), size), _MATRIX, tf.TensorSpec([1], tf.int64))
    assert with_size.copies == 1  # a size that was computed on the GPU is read by the host
    on_cpu = _counted(lambda values: tf.sin(_on_cpu(tf.sin(values))), _MATRIX)
    assert (on_cpu.copies, on_cpu.kernels[PASSES]) == (2, 2)


def _on_cpu(values):
    with tf.device("CPU:0"):
        return tf.cos(values)


@pytest.mark.parametrize("count", [1, 3])
def test_collectives_of_two_replicas(count):
    strategy = problems.strategy(2)

    @tf.function(autograph=False)
    def function(values):
        def summed(values):
            context = tf.distribute.get_replica_context()
            return [context.all_reduce("sum", values + k) for k in range(count)]

        return strategy.run(summed, args=(values,))

    graph = function.get_concrete_function(_MATRIX).graph
    assert graph_kernels.collectives(graph) == [16] * count * 2


@pytest.mark.ci_only
def test_a_row_holds():
    section = next(each for each in launches.all_sections() if each.name == "digits_3_fused")
    (result,) = bounds.evaluate(section, section.bounds, lambda result: None, attempts=1)
    assert result.holds, result
    assert result.numbers["collectives"] == 1
