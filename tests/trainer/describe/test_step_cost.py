"""The cost of a step in words, of a workload whose cost is worked out by hand."""

import dataclasses

from tests.trainer.cost.test_steps import ALL, ALL_VARIABLES, EVERY_GRADIENT, HEADS, TRUNK, WORKLOAD, A, C
from trainer.config.plan import Way
from trainer.cost.passes import Passes
from trainer.cost.workload import Gathered, Operations
from trainer.describe import step_cost

EXAMPLES, SUMS = 4, 2 * 3 * 4  # bytes of Σ w·ℓ and Σ w of three losses


def test_operations_and_bytes():
    operations, reduced = step_cost.lines(WORKLOAD, Passes(Way.FUSED))
    backward = TRUNK + HEADS + 2 * 5
    assert operations.startswith(
        f"Operations per example: forward {3065 / EXAMPLES:.0f}, backward {backward / EXAMPLES / 1000:.3g} k; "
    )
    assert reduced == (
        f"Reduced per step, by each of several replicas: {(4 * ALL_VARIABLES + SUMS) / 1000:.3g} kB in 1 collective."
    )


def test_gathered_examples():
    compared = dataclasses.replace(WORKLOAD, gathered=(Gathered(A, "float32", 400), Gathered(A, "int64", 32)))
    *plain, gathered = step_cost.lines(compared, Passes())
    assert plain == step_cost.lines(WORKLOAD, Passes())
    assert "2 collectives, 432 B of each replica's examples" in gathered


def test_synchronized_statistics():
    """One in the trunk that has a gradient, one in a head; a pass for every loss."""
    synchronized = dataclasses.replace(WORKLOAD, statistics=(Operations(400, ALL, (ALL,)), Operations(40, A, (A,))))
    _, reduced, statistics = step_cost.lines(synchronized, Passes())
    size = 400 * (1 + 3) + 40 * (1 + 1)
    assert f"{(4 * EVERY_GRADIENT + SUMS + size) / 1000:.3g} kB in {1 + 4 + 2} collectives" in reduced
    assert f"{4 + 2} collectives, {size / 1000:.3g} kB together" in statistics
    other = dataclasses.replace(WORKLOAD, statistics=(Operations(40, C, ()),))
    assert other.first(3) == other
    assert other.first(2).statistics == ()
