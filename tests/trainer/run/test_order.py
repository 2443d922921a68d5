"""The order of what a run does to the world: what it takes, reads, traces, asks of other workers, writes and says."""

import contextlib
import io
import pathlib
import shutil
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import pytest
import tensorflow as tf
from rich.console import Console

from input_pipelines import data, saved_data
from tests import problems
from trainer.common.errors import ConfigError
from trainer.components import optimizers
from trainer.config import loading
from trainer.distributed import signals
from trainer.distributed.replica_state import LayerState
from trainer.distributed.watchdog import Watchdog
from trainer.distributed.workers import Workers
from trainer.evaluation.evaluator import Evaluator
from trainer.models import trunk_and_heads
from trainer.output import checkpoint, history, plots, terminal, workdir, writer
from trainer.output.recorder import Files
from trainer.run import agreement, experiment, train
from trainer.step import discovery
from trainer.step.variable_average import VariableAverage

CHANGES = {"steps": 2, "report_every": 2, "eval_every": 2, "checkpoint_every": 1, "ema": 0.5}
FUNCTIONS = [
    (workdir, "claim", "claim the workdir"),
    (workdir, "create", "create the directory"),
    (workdir.Workdir, "release", "release the workdir"),
    (loading, "save", "save config.json"),
    (saved_data, "load_saved", "read data.json"),
    (saved_data, "save", "save data.json"),
    (data, "build", "read the data"),
    (agreement, "on_start", "agree on the configuration"),
    (agreement, "on_data", "agree on the data"),
    (trunk_and_heads, "build", "build the model"),
    (discovery, "discover_reach", "discover reach"),
    (optimizers, "build_groups", "build the optimizers"),
    (Workers, "broadcast_number", "broadcast a number"),
    (Workers, "broadcast_variables", "broadcast variables"),
    (Workers, "agreed_signal", "agree on a signal"),
    (checkpoint, "newest_good", "find the newest checkpoint"),
    (checkpoint, "restore", "restore"),
    (checkpoint, "remove_incomplete", "remove incomplete checkpoints"),
    (checkpoint, "set_aside", "set damaged checkpoints aside"),
    (history, "rewind", "rewind the reports"),
    (writer, "disk_errors", "catch errors of the disk"),
    (signals, "listening", "listen to signals"),
    (Evaluator, "build", "trace the evaluation"),
    (LayerState, "averaged", "average over replicas"),
    (LayerState, "of_replicas", "read all replicas"),
    (LayerState, "assign", "assign each replica's"),
    (VariableAverage, "in_place", "put averages in place"),
    (Files, "__enter__", "start recording"),
    (Files, "__exit__", "end recording"),
    (Files, "say", "say"),
    (Files, "profile_at", "profile where due"),
    (Files, "advance", "advance the bar"),
    (Files, "wait", "wait for the disk"),
    (terminal, "print_table", "print the table"),
    (plots, "save_curves", "save curves.png"),
]
BUILDING = [
    "agree on the configuration",
    "broadcast a number",
    "read the data",
    "build the model",
    "discover reach",
    "build the optimizers",
    "built",
    "agree on the data",
    "doing: reading the checkpoint",
]
SAYING = ["say"] * (1 + 7)  # where it runs, and the lines of its summary
# Of a run of two steps, once the second is taken.
ENDING = [
    "publish train 2",
    "doing: the evaluation after step 2",
    "put averages in place",
    "average over replicas",
    "read all replicas",
    "assign each replica's",
    "publish validation 2",
    "broadcast a number",
    "broadcast a number",
    "doing: saving step 2",
    "read all replicas",
    "save step 2",
    "broadcast a number",
    "doing: writing the results",
    "wait for the disk",
    "print the table",
    "save curves.png",
    "say",
    "say",
    "say",
    "doing: hooks at the end",
    "agree on a signal",
    "end recording",
    "release the workdir",
]


class EagerOnly(keras.optimizers.schedules.LearningRateSchedule):
    """Reads the step as a number, which no graph can."""

    def __call__(self, step: tf.Tensor) -> float:
        return 0.1 if int(step) < 10 else 0.01

    def get_config(self) -> dict[str, Any]:
        return {}


class _Watchdog(Watchdog):
    def __init__(self, happened: list[str]):
        super().__init__(None, "")
        self._happened = happened

    def doing(self, what: str, at_least: int = 0) -> None:
        self._happened.append(f"doing: {what}")


class _Traced:
    """The in-graph loop, which notes when it is traced and called."""

    def __init__(self, function: Any, happened: list[str]):
        self._function, self._happened = function, happened

    def get_concrete_function(self, *args: Any) -> Any:
        self._happened.append("trace the step")
        return self._function.get_concrete_function(*args)

    def __call__(self, iterator: Any, first: tf.Tensor, count: tf.Tensor, *args: Any) -> Any:
        self._happened.append(f"take steps {int(first) + 1} to {int(first + count)}")
        return self._function(iterator, first, count, *args)


def _recorded(
    patch: pytest.MonkeyPatch, happened: list[str], owner: Any, name: str, what: str | Callable[..., str]
) -> None:
    """Makes `owner.name` note that it is called, and with what; it does what it did before."""
    function = getattr(owner, name)

    def call(*args: Any, **arguments: Any) -> Any:
        if threading.current_thread() is threading.main_thread():  # the one that writes files keeps its own time
            happened.append(what if isinstance(what, str) else what(*args, **arguments))
        return function(*args, **arguments)

    patch.setattr(owner, name, call)


@contextlib.contextmanager
def _recording() -> Iterator[list[str]]:
    """A list that gets what a run does within this context."""
    happened: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, what in FUNCTIONS:
            _recorded(patch, happened, owner, name, what)
        _recorded(patch, happened, Files, "publish", lambda _, report, lap: f"publish {report.split} {report.step}")
        _recorded(patch, happened, Files, "save", lambda _, step, *rest: f"save step {step}")
        build = experiment.build

        def building(*args: Any) -> experiment.Experiment:
            built = build(*args)
            happened.append("built")
            step, feed = type(built.step), type(built)
            make, source = step.build, feed.source
            patch.setattr(step, "build", lambda self: _Traced(make(self), happened))

            def fed(self: experiment.Experiment, first_step: int) -> Any:
                happened.append(f"feed from step {first_step}")
                return source(self, first_step)

            patch.setattr(feed, "source", fed)
            return built

        patch.setattr(experiment, "build", building)
        yield happened


def _train(path: pathlib.Path, happened: list[str], **changes: Any) -> None:
    console, watchdog = Console(file=io.StringIO()), _Watchdog(happened)
    train.train(problems.config(**CHANGES | changes), str(path), problems.strategy(1), console, watchdog=watchdog)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """The acts of a run, and those of the same run when it resumes after its first step."""
    path = tmp_path_factory.mktemp("runs") / "run"
    with _recording() as first:
        _train(path, first)
    shutil.rmtree(path / "checkpoints" / "step_00000002")
    with _recording() as second:
        _train(path, second)
    return first, second


def test_a_new_run(run):
    assert run[0] == [
        "claim the workdir",
        "doing: reading the data and building the model",
        *BUILDING,
        "feed from step 0",
        "trace the evaluation",
        "trace the step",
        "catch errors of the disk",
        "create the directory",
        "save config.json",
        "save data.json",
        "start recording",
        "listen to signals",
        *SAYING,
        "profile where due",
        "broadcast a number",
        "doing: steps 1 to 1",
        "take steps 1 to 1",
        "agree on a signal",
        "profile where due",
        "advance the bar",
        "doing: saving step 1",
        "read all replicas",
        "save step 1",
        "doing: steps 2 to 2",
        "take steps 2 to 2",
        "agree on a signal",
        "profile where due",
        "advance the bar",
        *ENDING,
    ]


def test_a_run_that_goes_on(run):
    assert run[1] == [
        "claim the workdir",
        "doing: reading the data and building the model",
        "find the newest checkpoint",
        "read data.json",
        *BUILDING,
        "restore",
        "broadcast variables",
        "read all replicas",
        "broadcast variables",
        "assign each replica's",
        "feed from step 1",
        "trace the evaluation",
        "trace the step",
        "catch errors of the disk",
        "remove incomplete checkpoints",
        "set damaged checkpoints aside",
        "rewind the reports",
        "start recording",
        "listen to signals",
        *SAYING,
        "profile where due",
        "broadcast a number",
        "doing: steps 2 to 2",
        "take steps 2 to 2",
        "agree on a signal",
        "profile where due",
        "advance the bar",
        *ENDING,
    ]


def test_a_run_that_cannot_be_traced(tmp_path):
    """It leaves nothing behind."""
    optimizer = {"name": "sgd", "learning_rate": {"name": "tests.trainer.run.test_order:EagerOnly"}}
    with _recording() as happened, pytest.raises(ConfigError, match="the step cannot be built"):
        _train(tmp_path / "run", happened, shared_optimizer=optimizer)
    assert not list(tmp_path.iterdir())
    assert happened == [
        "claim the workdir",
        "doing: reading the data and building the model",
        *BUILDING,
        "feed from step 0",
        "trace the evaluation",
        "trace the step",
    ]
