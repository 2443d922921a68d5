"""The time of a run by its parts, against a clock that is set by hand."""

import contextlib

import pytest

from trainer.output import speed
from trainer.output.reports import TRAIN, Report
from trainer.output.speed import EVALUATION, REPORTS, SAVING, STEPS, Stopwatch, Total


class _Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_every_second_belongs_to_one_part():
    clock, memory = _Clock(), [7e8]
    watch = Stopwatch(lambda: {speed.MEMORY: memory[0], f"{speed.GPU_MEMORY}/0": 2e9}, clock)
    clock.now += 6  # what comes before the first step, and that
    watch.started(1)
    first = watch.lap(1, 64)
    assert first.values["speed/steps_per_second"] is None
    clock.now += 2
    watch.started(21)  # not again
    with watch.within(EVALUATION):
        clock.now += 3
        with watch.within(REPORTS):
            clock.now += 0.5
        clock.now += 1
    with contextlib.suppress(OSError), watch.within(SAVING):
        clock.now += 0.25
        raise OSError
    clock.now += 3
    memory[0] = 5e8
    second = watch.lap(21, 64)
    assert second == Report(
        21,
        TRAIN,
        {
            "speed/steps_per_second": 4.0,
            "speed/examples_per_second": 256.0,
            "speed/steps": 20,
            "speed/seconds/start": 0.0,
            "speed/seconds/steps": 5.0,
            "speed/seconds/reports": 0.5,
            "speed/seconds/evaluation": 4.0,
            "speed/seconds/saving": 0.25,
            "speed/memory": 5e8,
            "speed/gpu_memory/0": 2e9,
        },
    )
    clock.now += 60
    last = watch.lap(21, 64)
    absurd = Report(9, TRAIN, {"speed/seconds/steps": float("inf"), "speed/steps": -3, "speed/memory": 10**400})
    total = Total([first, second, absurd, last], 64)
    assert total.seconds == {"start": 6.0, STEPS: 65.0, REPORTS: 0.5, EVALUATION: 4.0, SAVING: 0.25}
    assert (total.memory, total.gpu_memory, total.steps) == (7e8, {"0": 2e9}, 20)
    shown = "1 min 16 s: start 8 %, steps 86 %, reports 1 %, evaluation 5 %, saving 0 %"
    assert total.lines() == [shown, "0.308 steps/s, 19.7 examples/s, 0.7 GB resident, 2 GB of GPU 0"]
    assert "| steps | 1 min 5 s | 85.8 % |\n" in total.markdown()


def test_nothing_is_said_of_a_run_without_times():
    assert Total([], 64).lines() == []
    assert Total([], 64).markdown() == ""


@pytest.mark.parametrize(
    ("seconds", "words"), [(3.21, "3.2 s"), (125, "2 min 5 s"), (3 * 3600 + 119.6, "3 h 2 min"), (59.97, "1 min 0 s")]
)
def test_durations(seconds, words):
    assert speed.duration(seconds) == words
