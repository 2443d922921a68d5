"""Steps, epochs and examples, and where a run stops for something."""

import pytest

from trainer.common.durations import Timeline

TIMELINE = Timeline.of("2 epochs", batch_size=8, examples=100)


def test_a_run_of_two_epochs():
    assert Timeline(batch_size=8, examples=100, steps=25) == TIMELINE
    assert [TIMELINE.to_steps(duration) for duration in (7, "1 epoch", "0.01 epochs", "17 examples")] == [7, 13, 1, 3]


@pytest.mark.parametrize(("step", "first", "epoch"), [(0, 0, 0), (12, 96, 0), (13, 104, 1), (25, 200, 2)])
def test_where_a_step_begins(step, first, epoch):
    assert (TIMELINE.first_example(step), TIMELINE.epoch(step)) == (first, epoch)


def test_what_is_due():
    assert [step for step in range(1, 26) if TIMELINE.is_due(10, step)] == [10, 20, 25]
    assert [step for step in range(1, 26) if TIMELINE.is_due(100, step)] == [25]


def test_boundaries():
    """Multiples of intervals, the profiler's steps, the loop's own length, the end: whatever comes first."""
    stops, step = [], 0
    while step < TIMELINE.steps:
        step = TIMELINE.next_boundary(step, intervals=(10, 8), boundaries=(0, 13), at_most=4)
        stops.append(step)
    assert stops == [4, 8, 10, 13, 16, 20, 24, 25]
