"""Answers to --help=<topic> and to flags that do not exist, from every command that takes a configuration."""

import os
import subprocess
import sys

import pytest

from tests import forked
from tests.answers import assert_one_line
from trainer.combine import listing
from trainer.config import reference

WITH_A_CONFIGURATION = ("trainer.main", "trainer.cost", "trainer.describe")
WITHOUT = ("trainer.selfcheck", "launch.workers")


# As `python -m module ...`, with another line on stderr where TensorFlow was loaded.
_CODE = """
import runpy, sys
module, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
finally:
    if "tensorflow" in sys.modules:
        print("TensorFlow was loaded", file=sys.stderr)
"""


def _run(module: str, *arguments: str, root) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", _CODE, module, *arguments]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert "TensorFlow was loaded" not in result.stderr
    return result


@pytest.mark.parametrize("module", WITH_A_CONFIGURATION)
def test_topics(root, module):
    for topic, text in (("config", reference.for_terminal()), ("methods", listing.text())):
        result = _run(module, f"--help={topic}", root=root)
        assert (result.returncode, result.stderr, result.stdout) == (0, "", f"{text}\n")
    assert_one_line(_run(module, "--help=nonsense", root=root), "--help='nonsense': must be one of config, methods")
    listed = _run(module, "--help", root=root)
    assert "--help=config" in listed.stdout
    assert "--help=methods" in listed.stdout


@pytest.mark.parametrize("module", WITH_A_CONFIGURATION)
def test_a_key_without_its_prefix(root, module):
    result = _run(module, "--batch_size=64", root=root)
    assert_one_line(result, "--batch_size: is no flag; the key for it is --config.batch_size=64")


def test_keras_comes_without_packages_that_only_others_need(tmp_path):
    """Programs that use them get them all the same, before and after, as tests/preloaded.py does."""
    code = 'from tests import preloaded\nprint(*({"keras", "tensorflow", "matplotlib"} & preloaded.FIRST))\n'
    code += 'import sys\nprint(*({"matplotlib.pyplot", "sklearn.metrics"} & set(sys.modules)))\n'
    (tmp_path / "shown.py").write_text(code)
    result = forked.run("shown", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    first, after = (set(line.split()) for line in result.stdout.splitlines())
    assert first == {"keras", "tensorflow"}
    assert after == {"matplotlib.pyplot", "sklearn.metrics"}


@pytest.mark.parametrize("module", WITHOUT)
def test_commands_without_a_configuration(root, module):
    assert_one_line(_run(module, "--help=config", root=root), "--help='config': is not known; use --help alone")
    assert_one_line(_run(module, "--lr=3", root=root), "--lr: is no flag; --help lists the flags")
    assert "--help=config" not in _run(module, "--help", root=root).stdout


@pytest.mark.parametrize("module", ["trainer", "trainer.cost", "launch.workers"])
def test_help_that_nobody_reads_and_on_a_full_disk(module, root):
    """As `| head -1`: the exit code of a program that SIGPIPE ends, and no word of it."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", module, "--help"]
    with os.fdopen(write, "wb") as unread, open("/dev/full", "wb") as full:
        for output, code, error in (
            (unread, 141, ""),
            (full, 1, "error: cannot write the output: No space left on device\n"),
        ):
            result = subprocess.run(command, cwd=root, stdout=output, stderr=subprocess.PIPE, text=True)
            assert (result.returncode, result.stderr) == (code, error)
