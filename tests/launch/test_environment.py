"""The set-up scripts: what they say where they cannot work, and that they are sound shell."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

SCRIPTS = ("launch/local.sh", "launch/environment.sh", "tests/run.sh", ".ci/run")


def _local(copy: pathlib.Path, **environment: str) -> subprocess.CompletedProcess:
    command = ["bash", str(copy / "launch" / "local.sh")]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def copy(tmp_path, root):
    """The project's scripts and lock files without an environment."""
    for path in (*SCRIPTS, "requirements.lock", "launch/requirements-gpu.lock", "tests/requirements.lock"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy(root / path, tmp_path / path)
    return tmp_path


def _script(path: pathlib.Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("version", ["Python 3.9.2", "Python 3.14.0"])
def test_other_interpreters_are_named(copy, version):
    interpreter = _script(copy / "python-other", f"[ \"$1\" = --version ] && echo '{version}' && exit 0; exit 1")
    result = _local(copy, PYTHON=interpreter)
    assert result.returncode == 2
    assert (
        result.stderr
        == f"error: PYTHON={interpreter} ({version}): Python 3.11, 3.12 or 3.13 is needed; set PYTHON to one\n"
    )
    assert not (copy / ".venv").exists()


def test_a_missing_venv_module_is_named(copy):
    """As on Debian without python3-venv: the interpreter is there, its venv module does not import."""
    (copy / "broken").mkdir()
    (copy / "broken" / "ensurepip.py").write_text("raise ImportError")
    interpreter = _script(copy / "python-bare", f'PYTHONPATH={copy}/broken exec {sys.executable} "$@"')
    result = _local(copy, PYTHON=interpreter)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].endswith(
        "has no venv module; install it (on Debian and Ubuntu: apt install python3-venv)"
    )
    assert not (copy / ".venv").exists()


def test_cdpath_leads_no_script_elsewhere(copy):
    """With it cd prefers another project's folder of the same name, and prints where it has gone."""
    other = copy / "other"
    for folder in ("launch", ".ci", ".venv"):
        (other / folder).mkdir(parents=True)
    environment = os.environ | {"CDPATH": str(other)}

    def printed(*command: str) -> str:
        result = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert printed("bash", "-euc", 'source launch/environment.sh; printf %s "$root"') == str(copy)
    (copy / "tests" / "run.sh").write_text("pwd\n")
    assert printed("bash", ".ci/run").split() == [str(copy)]  # where it has removed .venv
    assert (other / ".venv").exists()


@pytest.mark.ci_only
@pytest.mark.skipif(shutil.which("flock") is None, reason="flock is not installed")
def test_jobs_that_start_at_once_set_up_one_environment(copy):
    """Nothing is to be installed, so that no index is asked; the environment is real."""
    (copy / "requirements.lock").write_text("# nothing\n")
    calls = copy / "calls"
    interpreter = _script(copy / "python-noted", f'echo "$@" >>{calls}; exec {sys.executable} "$@"')
    start = 'source launch/environment.sh; prepare_environment requirements.lock; exec "$python" -m pip --version'
    environment = os.environ | {"PYTHON": interpreter}
    jobs = [subprocess.Popen(["bash", "-euc", start], cwd=copy, env=environment) for _ in range(3)]
    assert [job.wait(120) for job in jobs] == [0, 0, 0]
    assert calls.read_text().count("-m venv") == 1


def test_scripts_pass_shellcheck(root):
    """All of them: those with a name of their own kind, and those that a shell runs."""
    beside_python = str(pathlib.Path(sys.executable).parent)  # where the test extra puts it, on the PATH or not
    command = shutil.which("shellcheck", path=os.pathsep.join([beside_python, os.environ.get("PATH", os.defpath)]))
    if command is None:
        pytest.skip("shellcheck is not installed")
    folders = (".ci", "launch", "tests")
    files = [path for folder in folders for path in sorted((root / folder).rglob("*")) if path.is_file()]
    scripts = [str(path.relative_to(root)) for path in files if path.suffix != ".py" and _is_script(path)]
    assert set(scripts) >= set(SCRIPTS)
    subprocess.run([command, "-x", *scripts], cwd=root, check=True)


def _is_script(path: pathlib.Path) -> bool:
    return path.suffix in (".sh", ".sbatch") or path.read_bytes()[:32].startswith((b"#!/bin/", b"#!/usr/bin/env bash"))


def test_lock_files_agree_and_name_no_place(root):
    """The same version of a package everywhere; versions and hashes, never an index."""
    locked = []
    for path in ("requirements.lock", "tests/requirements.lock", "launch/requirements-gpu.lock"):
        text = (root / path).read_text()
        assert "http" not in text
        assert "index" not in text
        assert "file:" not in text
        pins = [line.removesuffix(" \\") for line in text.splitlines() if "==" in line and not line.startswith(" ")]
        assert text.count("--hash=sha256:") >= len(pins)
        locked.append(set(pins))
    assert locked[0] <= locked[1]
    names = [{pin.partition("==")[0]: pin for pin in pins if ";" not in pin} for pins in locked]
    for other in names[1:]:
        assert {name: other[name] for name in names[0] if name in other} == {
            name: pin for name, pin in names[0].items() if name in other
        }
