"""Processes that are started, stopped and killed, whatever they train."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests import problems
from tests.trainer.compare import pretended
from trainer.common import schema
from trainer.compare import children
from trainer.compare.children import Stopping
from trainer.compare.messages import Request, RunRequest

_SECONDS = 20


def _request(*runs):
    """A request of runs by (directory, learning rate)."""
    trees = [
        schema.as_dict(problems.config(seed=seed, optimizer__learning_rate=rate)) for seed, (_, rate) in enumerate(runs)
    ]
    given = zip(runs, trees, strict=True)
    return Request([RunRequest(seed, path, tree) for seed, ((path, _), tree) in enumerate(given)], "one_device")


@pytest.fixture
def run(monkeypatch, tmp_path, root):
    """Lets a process pretend to train runs; returns the exit code and the events."""
    monkeypatch.setattr(children, "_MODULE", "tests.trainer.compare.pretended")

    def run_(*runs, stopping=None):
        events = []
        with stopping or Stopping() as own:
            code = children.run(_request(*runs), tmp_path / "log.txt", tmp_path, own, events.append)
        return code, [(event.kind, event.seed) for event in events]

    return run_


def test_a_process_does_what_it_is_asked_for(run, tmp_path):
    code, events = run(("first", 0.01), ("second", 0.01))
    assert code == 0
    assert events == [(kind, seed) for seed in (0, 1) for kind in ("started", "report", "done")]
    assert (tmp_path / "second" / "config.json").exists()


@pytest.mark.parametrize(("rate", "code"), [(pretended.KILLED, -signal.SIGKILL), (pretended.LEFT, 3)])
def test_a_process_that_ends_too_early(run, tmp_path, rate, code):
    assert run(("first", 0.01), ("second", rate), ("third", 0.01)) == (
        code,
        [("started", 0), ("report", 0), ("done", 0), ("started", 1)],
    )
    assert not (tmp_path / "third").exists()


def _once_written(path: pathlib.Path) -> int:
    """The number of the process that says it there."""
    deadline = time.monotonic() + _SECONDS
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int(path.read_text())


def test_a_signal_is_passed_on(run, tmp_path):
    def stop():
        _once_written(tmp_path / "second")
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    stopping = Stopping()
    code, events = run(("first", 0.01), ("second", pretended.ASLEEP), stopping=stopping)
    assert (code, events[-1], stopping.signal) == (42, ("started", 1), signal.SIGTERM)


def test_a_second_interrupt_kills(run, tmp_path):
    def stop():
        _once_written(tmp_path / "first")
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)  # so that they are two

    before = signal.getsignal(signal.SIGINT)
    threading.Thread(target=stop).start()
    stopping = Stopping()
    code, _ = run(("first", pretended.ASLEEP), stopping=stopping)
    assert (code, stopping.signal) == (-signal.SIGKILL, signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_a_process_ends_with_the_one_that_started_it(tmp_path, root):
    program = (
        "import pathlib, sys\n"
        "from trainer.compare import children, messages\n"
        "children._MODULE = 'tests.trainer.compare.pretended'\n"
        "request, log = messages.Request.of_json(sys.argv[1]), pathlib.Path(sys.argv[2])\n"
        "children.run(request, log, pathlib.Path.cwd(), children.Stopping(), print)\n"
    )
    request = _request((str(tmp_path / "first"), pretended.ASLEEP)).to_json()
    with subprocess.Popen([sys.executable, "-c", program, request, str(tmp_path / "log.txt")], cwd=root) as parent:
        number = _once_written(tmp_path / "first")
        parent.kill()
    deadline = time.monotonic() + _SECONDS
    while _is_there(number):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _is_there(number: int) -> bool:
    try:
        return ") Z " not in pathlib.Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return False
