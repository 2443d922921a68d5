"""A process that makes no progress ends, and leaves where it was; real ones, because it takes the whole process."""

import subprocess
import sys
import time

import pytest

_PROGRAM = """
import ctypes, pathlib, sys, time
from trainer.distributed.watchdog import Watchdog

def hangs():
    {hang}

with Watchdog(3, "worker 1 of 3").watching() as watchdog:
    watchdog.log = pathlib.Path(sys.argv[1])
    for step in range(4):  # longer in all than it may take over one thing
        watchdog.doing(f"step {{step}}")
        time.sleep(1)
    hangs()
print("never here")
"""


def _run(root, log, hang: str) -> tuple[int, str, float]:
    start = time.monotonic()
    command = [sys.executable, "-c", _PROGRAM.format(hang=hang), str(log)]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    return result.returncode, result.stdout + result.stderr, time.monotonic() - start


def test_a_process_that_hangs(tmp_path, root):
    (tmp_path / "log.txt").write_text("before\n")
    code, output, seconds = _run(root, tmp_path / "log.txt", "time.sleep(60)")
    assert code == 1
    assert seconds < 10
    log = (tmp_path / "log.txt").read_text()
    assert log.startswith("before\n")
    for text in (output, log):
        assert " in hangs" in text
        assert "error: worker 1 of 3: no progress for 3 s (step 3)" in text


@pytest.mark.ci_only
def test_one_that_lets_no_python_run(tmp_path, root):
    """As TensorFlow does in places: it holds Python's lock. No line can be printed then, only the stacks."""
    code, output, seconds = _run(root, tmp_path / "log.txt", "ctypes.PyDLL(None).sleep(60)")
    assert code == 1
    assert seconds < 30
    assert " in hangs" in output
