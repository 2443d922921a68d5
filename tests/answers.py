"""Checks of what a command answers to a mistake."""

import subprocess

NO_TENSORFLOW_SECONDS = 1.5  # importing TensorFlow alone takes longer


def assert_one_line(result: subprocess.CompletedProcess, *words: str, code: int = 2) -> None:
    """Asserts that a command ended with this code and one line of error, which holds all the words."""
    assert result.returncode == code, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line
