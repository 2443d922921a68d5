"""The trial of `compile: auto`, of ways whose steps take the seconds that they are said to take."""

import contextlib
import dataclasses
import itertools
import types
from collections.abc import Callable, Iterator

import pytest
import tensorflow as tf

from tests import problems
from trainer.common.durations import Timeline
from trainer.common.errors import ConfigError, NonFiniteError, RunError
from trainer.config.settings import Config
from trainer.distributed.workers import Workers
from trainer.run import compile_choice, compile_trial

BROKEN = tf.errors.InvalidArgumentError(None, None, "no such kernel")


@dataclasses.dataclass(frozen=True)
class Pretended:
    """An experiment that nobody trains.

    Attributes:
      config: its configuration.
      steps: way → the seconds of a step in each call, or why it cannot be taken.
    """

    config: Config
    steps: dict[str, Iterator[float] | Exception]
    timeline = Timeline.of(10_000, batch_size=11, examples=11_000)
    intervals = (100, 1000, 1000)
    repeatable = True

    def compiled(self, way: str) -> "Pretended":
        if isinstance(self.steps[way], ConfigError):
            raise self.steps[way]
        return dataclasses.replace(self, config=dataclasses.replace(self.config, compile=way))


class Steps:
    """Stands in for `TimedSteps`."""

    counts: dict[str, list[int]] = {}

    def __init__(self, built: Pretended, source: object = None):
        self.way, self.source, self.train = built.config.compile, source, f"the loop of {built.config.compile}"
        self._seconds = built.steps[self.way]

    def traced(self) -> object:
        return types.SimpleNamespace(captured_inputs=())

    def seconds(self, count: int) -> float:
        if isinstance(self._seconds, Exception):
            raise self._seconds
        self.counts.setdefault(self.way, []).append(count)
        return next(self._seconds)


@pytest.fixture
def choose(monkeypatch) -> Callable[..., compile_choice.Choice]:
    """Chooses among ways of these seconds; their calls are in `Steps.counts`."""
    monkeypatch.setattr(compile_trial, "TimedSteps", Steps)
    monkeypatch.setattr(Steps, "counts", {})

    def choose(changes=problems.SIMPLE, workers=None, **ways):
        steps = {
            way: seconds if isinstance(seconds, Exception | Iterator) else itertools.repeat(seconds)
            for way, seconds in ways.items()
        }
        built = Pretended(problems.config(**{"compile": "auto"} | changes), steps)
        return compile_choice.choose(built, workers or Workers(problems.strategy(1)))

    return choose


@pytest.mark.parametrize(
    ("ways", "way", "line"),
    [
        ((19e-5, 14e-5, 61e-6), "loop", "loop, 3.1 times as fast as off (0.061 against 0.19 ms a step); passes 1.4"),
        ((1e-2, 34e-3, 343e-3), "off", "off, 10 ms a step; passes 0.29 times as fast; loop 0.029"),
        ((1.0, 0.98, 0.99), "off", "off, 1e+03 ms a step; passes 1 times as fast; loop 1"),
        ((1.0, 0.96, 2.0), "passes", "passes, 1 times as fast as off (960 against 1e+03 ms a step); loop 0.5"),
    ],
)
def test_the_fastest_way_is_taken(choose, ways, way, line):
    choice = choose(**dict(zip(("off", "passes", "loop"), ways, strict=True)))
    assert choice.built.config.compile == way
    assert choice.train == f"the loop of {way}"
    (said,) = choice.lines
    assert said.partition(" (found in ")[0] == f"compile: {line}"


def test_a_way_that_is_far_too_slow_is_given_up_after_single_steps(choose):
    choose(off=0.01, passes=0.015, loop=0.5)
    assert Steps.counts["loop"] == [1, 1, 1, 1]
    assert 3 < Steps.counts["passes"].count(20) < 10


def test_an_hour_is_not_spent_on_large_steps(choose):
    """One to prepare, one or two alone, three to compare."""
    choose(off=20.0, passes=15.0, loop=90.0)
    assert {way: len(counts) for way, counts in Steps.counts.items()} == {"off": 5, "passes": 5, "loop": 2}
    assert {count for counts in Steps.counts.values() for count in counts} == {1}


def test_calls_that_something_else_delays_decide_nothing(choose):
    """Most calls take thirty times as long."""
    delayed = itertools.cycle([60e-4, 60e-4, 2e-4, 60e-4])
    assert choose(off=4e-4, passes=6e-4, loop=delayed).built.config.compile == "loop"


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, 20),
        ({"steps_per_loop": 7}, 7),
        ({"steps_per_loop": 10**6}, 100),  # a report is due then
        ({"steps_per_loop": 50, "combine__name": "upgrad", "combine__update_every": 20}, 40),
    ],
)
def test_calls_have_the_steps_of_the_runs_own(choose, changes, count):
    choose(changes, off=1e-4, passes=1e-4, loop=1e-4)
    assert all(set(counts) == {1, count} for counts in Steps.counts.values())


def test_ways_that_cannot_be_taken_are_named(choose):
    refused = ConfigError("compile", "loop", "is for one device, and there are 2; use 'passes'")
    choice = choose(off=2e-4, passes=BROKEN, loop=refused)
    assert choice.built.config.compile == "off"
    assert choice.lines[0].startswith("compile: off, 0.2 ms a step (found in ")
    assert choice.lines[1:] == (
        "compile: loop cannot be taken: it is for one device, and there are 2",
        "compile: passes cannot be taken: no such kernel",
    )


def test_what_one_of_several_workers_may_have_met_alone_ends_the_run(choose):
    """The others wait for it within the step; XLA cannot compile the same on all of them."""
    workers = types.SimpleNamespace(
        count=2, watched=contextlib.nullcontext, first_text=lambda text: text, broadcast=lambda values: values
    )
    with pytest.raises(RunError, match="^a step with compile='passes' failed in the trial: no such kernel$"):
        choose(workers=workers, off=2e-4, passes=BROKEN, loop=2e-4)
    lacking = tf.errors.InvalidArgumentError(None, None, "unsupported operations when trying to compile graph")
    assert choose(workers=workers, off=2e-4, passes=lacking, loop=2e-4).built.config.compile == "off"


def test_a_run_whose_first_steps_fail_is_left_to_fail_by_itself(choose):
    choice = choose(off=NonFiniteError(3, ["label"]), passes=1e-4, loop=1e-4)
    assert (choice.built.config.compile, choice.train) == ("off", None)
    (line,) = choice.lines
    assert line.startswith("compile: off, as the trial ended early: step 3: loss 'label' became non-finite")


def test_a_way_that_is_given_is_not_tried(choose):
    assert choose({"compile": "passes"}, passes=1.0).lines == ()
    assert Steps.counts == {}


def test_what_cannot_be_traced_as_it_is_ends_the_trial(choose):
    with pytest.raises(ConfigError, match="no such layer"):
        choose(off=ConfigError("model", "mine", "no such layer"), passes=1.0, loop=1.0)
