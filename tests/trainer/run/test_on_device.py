"""Batches that are gathered within the step are those of the pipeline."""

import numpy as np
import pytest
import tensorflow as tf

from input_pipelines.feed.in_memory import InMemory
from tests import problems
from trainer.run import experiment, on_device
from trainer.step.gathered import OnDevice

MISSING = {"dataset__options": {"missing": True}}


@pytest.fixture(scope="module")
def built():
    """An experiment whose loop takes 3 steps a call; an epoch of 64 examples ends within the sixth batch."""
    return experiment.build(problems.config(steps_per_loop=3, **problems.SIMPLE | MISSING), problems.strategy(1))


@pytest.mark.parametrize("first_step", [0, pytest.param(7, marks=pytest.mark.ci_only)])
def test_batches_are_those_of_the_pipeline(built, first_step):
    """To the bit, with weights and missing labels, over calls shorter and longer than what the loop is traced for."""
    source, batches = built.source(first_step), iter(built.batches(first_step))
    assert isinstance(source, OnDevice)
    for count in (2, 3, 0, 7, 1):
        given = source.gathered(count)
        assert given.rows.shape == (max(count, 3), 11)  # so that the loop is not traced anew for shorter calls
        for index in range(count):
            found, expected = next(given.at(tf.constant(index, tf.int64))), next(batches)
            tf.nest.assert_same_structure(found, expected)
            for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
                assert one.dtype == other.dtype
                np.testing.assert_array_equal(one, other)


@pytest.mark.ci_only
def test_a_loop_takes_the_same_steps_from_either(built):
    """To the bit; and it is traced once for each, whatever the number of steps."""
    loop, variables = built.step.build(), built.model.variables + built.optimizer_groups[0].optimizer.variables
    start = [variable.numpy() for variable in variables]
    results = []
    for source in (built.source(0), iter(built.batches(0))):
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
        state, totals = built.step.initial_state(), built.step.initial_totals()
        for first, end in ((0, 3), (3, 5)):
            numbers = (tf.constant(number, tf.int64) for number in (first, end - first))
            state, totals = loop(source, *numbers, tf.constant(True), state, totals)
        results.append([*(variable.numpy() for variable in variables), *tf.nest.flatten(totals)])
    assert loop.train.experimental_get_tracing_count() == 2
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("replicas", "changes", "examples", "expected"),
    [
        (1, {}, 64, True),
        (1, {"batch_size": 12, "micro_batches": 2}, 64, False),
        (2, {}, 64, False),
        (1, {"batch_size": 20_000}, 20_000, False),  # two megabytes a batch
        (1, {"steps_per_loop": 10**6}, 64, False),  # the rows of a call would take seconds before it begins
    ],
)
def test_what_is_gathered_within_the_step(replicas, changes, examples, expected):
    train = InMemory(problems.load(examples)["train"])
    assert on_device.is_faster(problems.config(**changes), train, problems.strategy(replicas)) == expected
