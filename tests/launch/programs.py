"""Programs for workers in tests of the launcher, and a look at these processes from outside."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

RANK = "import json, os, signal, sys, time; rank = json.loads(os.environ['TF_CONFIG'])['task']['index']\n"
MARK = "LAUNCHER_TEST"
# Saves when a signal comes, as the trainer does.
SAVES = (
    "def stop(number, frame): print('saved', signal.Signals(number).name); sys.exit(130 if number == 2 else 42)\n"
    "for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1): signal.signal(number, stop)\n"
    "print('ready'); time.sleep(60)"
)
STUBBORN = (
    "for number in (1, 2, 10, 15): signal.signal(number, lambda *_: None)\nprint('ready')\nwhile True: time.sleep(9)"
)


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", RANK + code]


def left_after(seconds: float, mark: str) -> list[str]:
    """Processes with the mark that still run after `seconds`; they are killed."""
    deadline = time.monotonic() + seconds
    while left := [command for _, command in marked(mark)]:
        if time.monotonic() > deadline:
            for pid, _ in marked(mark):
                os.kill(pid, signal.SIGKILL)
            return left
        time.sleep(0.02)
    return []


def marked(mark: str) -> list[tuple[int, str]]:
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes():
                found.append((int(process.name), (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()))
    return found


def finish(process: subprocess.Popen, timeout: float = 30) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=timeout)
    return process.returncode, output, errors


def wait_for_lines(process: subprocess.Popen, *lines: str) -> None:
    """Reads the output until each of the lines has come, in any order."""
    missing = set(lines)
    timer = threading.Timer(30, process.kill)
    timer.start()
    while missing:
        line = process.stdout.readline()
        assert line, missing
        missing.discard(line.rstrip("\n"))
    timer.cancel()


COUNTED = (
    "import pathlib; own = pathlib.Path(f'round{rank}'); past = int(own.read_text()) if own.exists() else 0\n"
    "own.write_text(str(past + 1))\nport = json.loads(os.environ['TF_CONFIG'])['cluster']['worker'][0]\n"
    "print(past, port)\n"
)
