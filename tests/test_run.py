"""The run of the suite itself: it looks at the project's own files, and nohup changes nothing."""

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from tests.readmes import SUITE

FOLDERS = ("trainer", "input_pipelines", "configs", "launch", "tests")
SELECTED = ("tests/launch/test_workers.py", "-k", "test_signals_are_passed_on")


def _ignore() -> None:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def test_what_starts_gets_signals_that_the_shell_has_ignored(root):
    """As the fixture of tests/conftest.py has it, without the suite around it."""
    shown = "import signal; print(*(signal.getsignal(n) is signal.SIG_IGN for n in inherited_signals.WANTED))"
    code = "import subprocess, sys; from tests import inherited_signals\n"
    code += f"start = lambda: subprocess.run([sys.executable, '-c', 'from tests import inherited_signals; {shown}'])\n"
    code += "start(); inherited_signals.restore(); start()"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, preexec_fn=_ignore, capture_output=True, text=True, timeout=60
    )
    assert result.stdout.splitlines() == ["True True True False False", "False False False False False"]


@pytest.mark.ci_only
@pytest.mark.parametrize("workers", [0, 1])
def test_signals_that_the_shell_has_ignored(root, workers):
    """As nohup in the background of a shell does; what tests start gets them all the same."""
    command = ["nohup", sys.executable, "-m", "pytest", f"-n{workers}", "-p", "no:cacheprovider", *SELECTED]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    result = subprocess.run(
        command,
        cwd=root,
        env=environment,
        preexec_fn=_ignore,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"\b4 passed\b", result.stdout), result.stdout


def test_run_looks_at_the_projects_own_files(root, tmp_path):
    """Files that a user keeps beside them are left out, and git is not needed."""
    copy = tmp_path / "project"
    for name in (*FOLDERS, "pyproject.toml"):
        path = root / name
        if path.is_dir():
            shutil.copytree(path, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, copy / name)
    (copy / "my_table.py").write_text("import os, sys\nx = [ 1,2 ]\n")
    (copy / ".venv" / "bin").mkdir(parents=True)
    shim = copy / ".venv" / "bin" / "python"
    shim.write_text(f'#!/bin/sh\n[ "$2" != pytest ] || exec echo "pytest: $*"\nexec "{sys.executable}" "$@"\n')
    shim.chmod(0o755)
    lock = subprocess.run(["cksum", "tests/requirements.lock"], cwd=copy, capture_output=True, text=True, check=True)
    (copy / ".venv" / "installed").write_text(lock.stdout)
    command = SUITE.split()
    result = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "minutes" in result.stdout.splitlines()[0]
    assert result.stdout.splitlines()[-1] == "pytest: -m pytest"
    (copy / "tests" / "test_run.py").write_text("import os\n")
    result = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "F401" in result.stdout
    assert "pytest" not in result.stdout.splitlines()[-1]
