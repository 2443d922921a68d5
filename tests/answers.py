"""Checks of what a command answers to a mistake."""

import os
import pathlib
import subprocess
import sys
import time

from tests import forked

NO_TENSORFLOW_SECONDS = 1.5  # importing TensorFlow alone takes longer


def assert_at_once(
    module: str, *arguments: str, words: tuple[str, ...] | list[str], cwd: pathlib.Path, start: bool
) -> None:
    """Asserts that `python -m MODULE ARGUMENTS` prints nothing but one line of error, before TensorFlow is imported.

    Args:
      module: of the command.
      arguments: of the command.
      words: that the line holds.
      cwd: where it runs.
      start: whether by hand, too, in a process from its start, which alone tells whether TensorFlow was imported.
    """
    if start or os.environ.get("CI") == "true":
        environment = os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).resolve().parent.parent)}
        command, begin = [sys.executable, "-m", module, *arguments], time.monotonic()
        result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
        assert time.monotonic() - begin < NO_TENSORFLOW_SECONDS
    else:
        result = forked.run(module, *arguments, cwd=cwd)
    assert_one_line(result, *words)
    assert result.stdout == ""


def assert_one_line(result: subprocess.CompletedProcess, *words: str, code: int = 2) -> None:
    """Asserts that a command ended with this code and one line of error, which holds all the words."""
    assert result.returncode == code, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line
