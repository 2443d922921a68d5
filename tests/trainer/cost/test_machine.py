"""Seconds of a step and of an all-reduce against numbers worked out by hand."""

import dataclasses

import pytest

from trainer.cost.machine import Machine
from trainer.cost.steps import StepCost

MACHINE = Machine(
    tflops=100.0,
    utilisation=0.5,
    float64_tflops=10.0,
    memory_gbytes=1000.0,
    node_size=4,
    node_link_gbytes=100.0,
    link_gbytes=10.0,
    latency_us=2.0,
)
COST = StepCost(
    forward=1e12,
    backward=2e12,
    combine=0.0,
    float64=1e10,
    update=0.0,
    alone=(),
    statistics=(),
    late=(10**9,),
    held=10**9,
    traffic=5e9,
    packs=1,
    overlap=1.0,
)


@pytest.mark.parametrize(
    ("replicas", "seconds"),
    [
        (1, 0.0),
        (2, 2 * 1 / 2 * 1e9 / 100e9 + 2 * 2e-6),
        (4, 2 * 3 / 4 * 1e9 / 100e9 + 6 * 2e-6),
        (8, 2 * 3 / 4 * 1e9 / 100e9 + 6 * 2e-6 + 2 * 1 / 2 * (1e9 / 4) / 10e9 + 2 * 2e-6),
        (10, 2 * 3 / 4 * 1e9 / 100e9 + 6 * 2e-6 + 2 * 2 / 3 * (1e9 / 4) / 10e9 + 4 * 2e-6),
    ],
)
def test_all_reduce(replicas, seconds):
    assert MACHINE.all_reduce_seconds(10**9, replicas) == pytest.approx(seconds)


def test_all_reduce_between_nodes_of_one_device_is_a_plain_ring():
    """2 (R - 1) / R of the bytes over the link, and the latency of as many messages."""
    machine = dataclasses.replace(MACHINE, node_size=1)
    assert machine.all_reduce_seconds(10**9, 8) == pytest.approx(2 * 7 / 8 * 1e9 / 10e9 + 14 * 2e-6)
    assert machine.all_reduce_seconds(10**9, 8, messages=5) == pytest.approx(2 * 7 / 8 * 1e9 / 10e9 + 5 * 14 * 2e-6)


def test_parts_of_a_step():
    seconds = MACHINE.step_seconds(COST, 2)
    assert seconds.compute == pytest.approx(3e12 / 50e12)
    assert seconds.combine == pytest.approx(1e10 / 10e12 + 5e9 / 1000e9)
    assert seconds.reduce == pytest.approx(0.01 + 4e-6)
    assert seconds.step == pytest.approx(0.06 + 0.006 + 0.010004)
    assert seconds.overlapped == pytest.approx(0.06 + 0.006)


def test_what_overlaps():
    """Gradients beside (the last micro-batch's) backward pass, but no longer than that takes; nothing else."""
    short = dataclasses.replace(COST, alone=(10**9,), overlap=0.125)
    seconds = MACHINE.step_seconds(short, 2)
    assert seconds.step - seconds.overlapped == pytest.approx(0.04 * 0.125)
    assert seconds.reduce == pytest.approx(2 * 0.010004)
