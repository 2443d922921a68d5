"""The self-check as a program: on some devices, on two workers with one that fails, and mistakes of its flags."""

import json
import os
import pathlib
import shlex
import socket
import subprocess
import sys
import time

import pytest

from tests import forked
from tests.answers import NO_TENSORFLOW_SECONDS, assert_one_line
from tests.readmes import SELFCHECKS
from trainer.selfcheck.outcome import Status


def _run(root: pathlib.Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(root)}
    environment.pop("TF_CONFIG", None)
    environment |= variables
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=400)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--strategy=mirored"], ["--strategy=mirored", "mirrored|one_device|multi_worker"]),
        (["--virtual_devices=0"], ["--virtual_devices=0", "positive"]),
        (["--strategy=multi_worker"], ["TF_CONFIG"]),
        (["--config.batch_size=3"], ["--config.batch_size", "not known"]),
        (["all"], ["arguments='all'"]),
    ],
)
def test_mistakes(root, arguments, words):
    start = time.monotonic()
    result = _run(root, "trainer.selfcheck", *arguments)
    assert time.monotonic() - start < NO_TENSORFLOW_SECONDS
    assert_one_line(result, *words)
    assert result.stdout == ""


def test_help_is_quick(root):
    start = time.monotonic()
    result = _run(root, "trainer.selfcheck", "--help")
    assert time.monotonic() - start < NO_TENSORFLOW_SECONDS
    assert (result.returncode, result.stderr) == (0, "")
    for flag in ("--strategy", "--virtual_devices", "--timeout"):
        assert flag in result.stdout


def _statuses(lines: list[str]) -> dict[str, str]:
    """Name of a check → how it ended."""
    found = {}
    for line in lines:
        status, _, rest = line.partition(" ")
        if status in set(Status):
            found[rest.strip().partition(":")[0]] = status
    return found


@pytest.mark.ci_only
def test_two_devices(tmp_path):
    result = forked.run("trainer.selfcheck", "--virtual_devices=2", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    statuses = _statuses(result.stdout.splitlines()[:-1])
    assert len(statuses) == 12
    assert {name for name, status in statuses.items() if status != "pass"} == {"network"}


def _readmes(root: pathlib.Path, command: str) -> subprocess.CompletedProcess:
    """Runs a command as the README has it."""
    python, flag, *arguments = [sys.executable if word == "python" else word for word in shlex.split(command)]
    assert (python, flag) == (sys.executable, "-m")
    return forked.run(*arguments, cwd=root) if arguments[0] == "trainer.selfcheck" else _run(root, *arguments)


def _by_rank(result: subprocess.CompletedProcess) -> list[list[str]]:
    """The lines of each of two workers."""
    lines = [line.partition("] ") for line in (result.stdout + result.stderr).splitlines()]
    return [[text for tag, _, text in lines if tag == f"[{rank}"] for rank in range(2)]


@pytest.mark.ci_only
def test_the_readmes_command_for_one_device(root):
    result = _readmes(root, SELFCHECKS[0])
    assert (result.returncode, result.stderr) == (0, "")
    statuses = _statuses(result.stdout.splitlines()[:-1])
    assert len(statuses) == 12
    assert set(statuses.values()) <= {"pass", "warning", "skipped"}


@pytest.mark.ci_only
def test_the_readmes_command_for_two_workers(root):
    result = _readmes(root, SELFCHECKS[1])
    assert result.returncode == 0, result.stdout + result.stderr
    chief, other = _by_rank(result)
    statuses = _statuses(chief)
    assert len(statuses) == 12
    assert set(statuses.values()) <= {"pass", "warning"}
    assert not _statuses(other)


_REASON = "ValueError: the reason"


@pytest.mark.ci_only
@pytest.mark.parametrize(
    ("ways", "expected", "words"),
    [
        (
            ["value", "late", "raise"],
            ["pass", "failed", "pass", "failed", "pass", "failed", "skipped"],
            [f"{way}: worker 1: {why}" for way, why in {"value": "not 2", "late": _REASON, "raise": _REASON}.items()],
        ),
        (["hang"], ["pass", "failed", "skipped"], ["hang: nothing for 10 s; worker 1 not through with it"]),
    ],
)
def test_one_worker_of_two_fails(root, ways, expected, words):
    """All other checks are made after a failure that leaves the workers in step."""
    command = [sys.executable, "-m", "tests.trainer.selfcheck.selfcheck_worker", *ways]
    result = _run(root, "launch.workers", "--workers=2", "--", *command)
    assert result.returncode == 1
    chief, _ = _by_rank(result)
    assert list(_statuses(chief).values()) == expected
    for line in words:
        assert line in "\n".join(chief)


@pytest.mark.ci_only
def test_a_worker_that_never_comes(root):
    with socket.create_server(("127.0.0.1", 0)) as own, socket.create_server(("127.0.0.1", 0)) as other:
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in (own, other)]
    cluster = json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": 0}})
    result = _run(root, "trainer.selfcheck", "--strategy=multi_worker", "--timeout=5", TF_CONFIG=cluster)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"error: worker 0: worker 1 ({addresses[1]}) not there after 5 s\n"
