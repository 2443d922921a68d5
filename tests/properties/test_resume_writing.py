"""Checkpoints and logs are written while training continues."""

import io
import os
import pathlib
import signal
import threading
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from tests import problems
from tests.properties import interrupted
from trainer.common.errors import RunError, StoppedError
from trainer.output import checkpoint, plots
from trainer.output.workdir import Workdir
from trainer.run import train


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """The curves look the same whatever interrupts a run, and drawing them takes longer than its steps."""
    monkeypatch.setattr(plots, "save_curves", lambda *_: None)


class _Screen(io.StringIO):
    """Calls functions when it shows their words for the first time."""

    def __init__(self, functions: dict[str, Callable[[], object]]):
        super().__init__()
        self._functions = functions

    def write(self, text: str) -> int:
        for words in [words for words in self._functions if words in text]:
            self._functions.pop(words)()
        return super().write(text)


def _slow_saves(monkeypatch: pytest.MonkeyPatch, wait: Callable[[], object]) -> list[str]:
    """Makes every save wait first; returns a list that gets the names of what was written."""
    written, save = [], checkpoint.save

    def slow(directory: pathlib.Path, step: int, *saved: object) -> None:
        wait()
        written.append(save(directory, step, *saved).name)

    monkeypatch.setattr(checkpoint, "save", slow)
    return written


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    """The checkpoint of step 6 is not written before step 10 is shown, and holds the values of step 6 all the same."""
    config = problems.config(**interrupted.INTERVALS | {"report_every": 2, "eval_every": 12, "checkpoint_every": 6})
    train.train(config, str(tmp_path / "whole"), problems.strategy(1), Console(file=io.StringIO()))
    shown = threading.Event()
    written = _slow_saves(monkeypatch, lambda: shown.wait(60) or pytest.fail("step 10 waits for the checkpoint"))
    screen = Console(file=_Screen({"step 10/12  train": shown.set}))
    train.train(config, str(tmp_path / "run"), problems.strategy(1), screen)
    assert written == ["step_00000006", "step_00000012"]
    for step in (6, 12):
        assert interrupted.results(tmp_path / "run", step) == interrupted.results(tmp_path / "whole", step)


def test_a_signal_waits_for_the_checkpoint(tmp_path, monkeypatch):
    """The message that a step is saved comes only when it is."""
    written = _slow_saves(monkeypatch, lambda: time.sleep(0.3))
    said = []
    stop = {" 4/12  train": lambda: os.kill(os.getpid(), signal.SIGTERM), "is saved": lambda: said.extend(written)}
    config = problems.config(**interrupted.INTERVALS | {"checkpoint_every": 12, "eval_every": 12})
    with pytest.raises(StoppedError) as stopped:
        train.train(config, str(tmp_path / "run"), problems.strategy(1), Console(file=_Screen(stop), width=200))
    assert stopped.value.code == 42
    (last,) = said
    assert last == f"step_{checkpoint.saved_steps(tmp_path / 'run' / 'checkpoints')[-1]:08d}"


def test_a_log_on_a_full_disk(tmp_path, monkeypatch):
    """An error on the writing thread ends the run as any other; nothing that comes after it is written."""
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    interrupted.train(tmp_path / "run", steps=5)
    expected = interrupted.results(tmp_path / "run", 5)
    monkeypatch.setattr(Workdir, "log", property(lambda run: pathlib.Path("/dev/full")))
    with pytest.raises(RunError, match=r"^cannot write: No space left on device$"):
        interrupted.train(tmp_path / "run")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("writer")]
    assert interrupted.results(tmp_path / "run", 5) == expected
    assert checkpoint.saved_steps(tmp_path / "run" / "checkpoints") == [5]
