"""Every README of the project: its commands run as they are written, or are checked where they need a cluster or this
suite; its examples are files, its links lead somewhere.

A new command must be run here, or by a file that tests/readmes.py names. The tables of measurements are looked at in
tests/benchmarks/test_readme.py.
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import keras
import pytest

from input_pipelines.feed.augmentation import AUGMENTATIONS
from input_pipelines.preparation.operations import OPERATIONS
from input_pipelines.registry import DATASETS, SOURCES
from tests import forked, machine
from tests.readmes import (
    ACTIVATE,
    DESCRIBE,
    DIGITS,
    ELSEWHERE,
    FILES,
    FROM_ANOTHER,
    FRONT,
    HERE,
    KUBERNETES,
    MEASURED,
    OWN_ARRAYS,
    OWN_TABLE,
    PAGES,
    PARTS_OF_THE_SUITE,
    PREDICTION,
    ROOT,
    SUITE,
    TENSORBOARD,
    blocks,
    section,
)
from trainer.combine.registry import METHODS

CI = os.environ.get("CI") == "true"
LONGEST, LONGEST_FRONT, LONGEST_CONFIGURATION, WIDEST = 300, 120, 25, 120
# One holds all tables, the other is made from the registry.
LONGER = {MEASURED, "trainer/combine/README.md"}
FOR_CI = {"trainer/compare/README.md"}  # its example starts processes
# What users and runs make; every other file that a page names is there.
NOT_IN_THE_PROJECT = {
    "mine.py", "config.json", "data.json", "metrics.jsonl", "log.txt", "report.md", "curves.png", "run.json",
    "methods/NAME.py", "initial_values.json", "loggers.json", "wandb_id.txt", "signature.md", "held_out.csv",
    "report.html", "results.json", "results.csv", "comparison.json", "timing.json", "failures.json", "tuning.json",
    "speed.jsonl",
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory, root):
    """A copy of the project with its environment."""
    copy = tmp_path_factory.mktemp("readmes") / "project"
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns(".venv", ".git", "runs", ".*_cache", "__pycache__"))
    if (root / ".venv").exists():
        (copy / ".venv").symlink_to(root / ".venv")
    return copy


def _environment(project: pathlib.Path) -> dict[str, str]:
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
        "PATH": path,
        "PWD": str(project),
    }


def _run(command: str, project: pathlib.Path, timeout: float = 540) -> str:
    result = subprocess.run(
        ["bash", "-c", command], cwd=project, env=_environment(project), capture_output=True, text=True, timeout=timeout
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def _set_up(project: pathlib.Path) -> None:
    """Makes the environment where there is none to take over."""
    if not (project / ".venv").exists():
        _run("bash launch/local.sh --help", project)


def _forked(command: str, project: pathlib.Path) -> str:
    """The output of `python -m MODULE ...`, run in a process that need not import TensorFlow."""
    python, flag, module, *arguments = shlex.split(command)
    assert (python, flag) == ("python", "-m")
    result = forked.run(module, *arguments, cwd=project, pictures=True)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def _final(output: str, project: pathlib.Path) -> dict:
    """The last report of the run that a command has printed the folder of."""
    run = project / re.search(r"(runs/\S+): report.md", output)[1]
    assert (run / "curves.png").stat().st_size > 10_000
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])


# ---------------------------------------------------------------------------------------------------------------------
# Commands.
# ---------------------------------------------------------------------------------------------------------------------


def test_every_command_has_a_test(root):
    """Here, or in the file that says so; a new one in a README needs a test of its own."""
    written = {line for _, text in blocks("bash") for line in re.sub(r" \\\n *", " ", text).splitlines()}
    elsewhere = {command for _, commands in ELSEWHERE.values() for command in commands}
    assert written == HERE | elsewhere
    for file, (constant, _) in ELSEWHERE.items():
        text = (root / file).read_text()
        assert f"from tests.readmes import {constant}\n" in text
        assert len(re.findall(rf"\b{constant}\b", text)) > 1, f"{file} does not use {constant}"
    assert SUITE in (root / ".ci" / "run").read_text()


@pytest.mark.ci_only
def test_default_run(project):
    """The first command, within 90 seconds (longer on slower machines), to what the front page promises."""
    _set_up(project)
    slower, start = machine.slower(), time.monotonic()
    output = _run(DIGITS, project)
    assert time.monotonic() - start < 90 * (slower + machine.slower()) / 2
    final = _final(output, project)
    assert f"accuracy {final['digit/accuracy']:.4g}" in output
    assert final["digit/accuracy"] >= 0.985
    rows = re.findall(r"^    \w+ +(\w+) +([\d.]+) +(\w+) ([\d.]+)$", section(FRONT, "Try it"), re.MULTILINE)
    assert [loss for loss, *_ in rows] == ["digit", "redraw", "ink"]
    for loss, value, metric, result in rows:
        assert final[f"loss/{loss}"] == pytest.approx(float(value), rel=0.5)  # other processors round differently
        assert final[f"{loss}/{metric}"] == pytest.approx(float(result), rel=0.015 if metric == "accuracy" else 0.3)


def test_own_table(project):
    """By hand without the script around it, which tests/launch/test_environment.py runs."""
    if CI:
        _set_up(project)
        output = _run(OWN_TABLE, project)
    else:
        output = _forked(OWN_TABLE.replace("bash launch/local.sh", "python -m trainer.main"), project)
    final = _final(output, project)
    assert final["progression/r2_score"] > 0.5
    assert final["high_pressure/auc"] > 0.7


def test_describe(project):
    _set_up(project)
    _run(ACTIVATE, project)
    output = _forked(DESCRIBE, project)
    assert "progression" in output
    assert (project / "table.png").stat().st_size > 10_000


@pytest.mark.ci_only
def test_own_arrays(project):
    *training, evaluation = OWN_ARRAYS
    outputs = [_forked(command, project) for command in training]
    # Forked, the trainer would not be that of the copied project, whose `configs` it then would not trust.
    outputs.append(_run(evaluation, project))
    fine_tuned = _forked(FROM_ANOTHER, project)
    final = _final(outputs[0], project)
    assert final["cultivar/accuracy"] >= 0.9
    assert final["alcohol/r2_score"] > 0
    assert f"accuracy {final['cultivar/accuracy']:.4g}" in outputs[2]
    assert re.search(
        r"frozen 416\n.*initial values of runs/wine/checkpoints/step_\d+: 8 of 8 .*: all\n", fine_tuned, re.S
    )


def test_predicted_cost(project):
    output = _forked(PREDICTION, project)
    assert all(number in output for number in ("8", "64", "512"))
    assert "Assumed: 64 examples per replica" in output


def test_parts_of_the_suite(root):
    """The folders and files exist; tests/test_run.py shows that pytest gets what follows `run.sh`."""
    for command in PARTS_OF_THE_SUITE:
        assert SUITE in command
        paths = re.findall(r"tests/\S+", command.partition(SUITE)[2])
        assert all((root / path).exists() for path in paths)


def test_kubernetes(project):
    """There is no cluster here: tests/launch/test_kubernetes.py checks the files, test_pods.py does what they say."""
    build, render, apply = (command.split() for command in KUBERNETES)
    assert (project / build[build.index("-f") + 1]).is_file()
    assert build[build.index("-t") + 1] in (project / "launch" / "kubernetes" / "values.yaml").read_text()
    assert apply[apply.index("-k") + 1] == render[-1]
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl to render")
    assert "kind: JobSet" in _run(KUBERNETES[1], project)


@pytest.mark.ci_only
def test_tensorboard_serves(project):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (project / "runs").mkdir(exist_ok=True)
    command = [*TENSORBOARD.split(), "--port", str(port)]
    server = subprocess.Popen(command, cwd=project, env=_environment(project), stderr=subprocess.PIPE, text=True)
    try:
        assert any("TensorBoard 2" in line for line in server.stderr)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as page:
            assert b"TensorBoard" in page.read()
    finally:
        server.kill()
        server.communicate()


# ---------------------------------------------------------------------------------------------------------------------
# Python.
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [pytest.param(*block, marks=[pytest.mark.ci_only] * (block[0] in FOR_CI)) for block in blocks("python")],
)
def test_python_stands_in_a_configuration_or_runs(name, text, tmp_path, monkeypatch):
    """tests/configs trains every configuration."""
    if any(text in (ROOT / file).read_text() for file in FILES if re.fullmatch(r"configs/\w+\.py", file)):
        return
    last = text.splitlines()[-1]
    code, _, expected = last.partition("  # ")
    assert expected, f"{name}: neither of a configuration, nor does its last line say what comes of it"
    monkeypatch.chdir(tmp_path)
    keras.config.set_floatx("float32")  # other tests' runs leave theirs
    keras.config.set_dtype_policy("float32")
    values: dict = {}
    exec(text.removesuffix(f"{last}\n") + f"result = {code}\n", values)
    assert [round(float(value), 4) for value in values["result"]] == json.loads(expected)


def test_the_front_page_has_a_whole_configuration():
    ((_, text),) = (block for block in blocks("python") if block[0] == FRONT)
    assert len(text.splitlines()) <= LONGEST_CONFIGURATION
    assert (ROOT / "configs" / "own_table.py").read_text().split('"""\n\n', 1)[1] == text


# ---------------------------------------------------------------------------------------------------------------------
# What the pages look like, and where they lead.
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_size(name):
    lines = PAGES[name].splitlines()
    assert re.match(r"# \w", lines[0])
    assert name in LONGER or len(lines) <= (LONGEST_FRONT if name == FRONT else LONGEST)
    # A card's paragraph is one line, as is a row of a table; addresses do not count.
    wide = () if name == "trainer/combine/README.md" else (line for line in lines if not line.startswith("|"))
    assert [line for line in wide if len(re.sub(r"\]\([^)]*\)", "]", line)) > WIDEST] == []


@pytest.mark.parametrize("name", PAGES)
def test_links_and_files(name):
    page, folder = PAGES[name], pathlib.Path(name).parent
    for link in re.findall(r"\]\((?!https://)([^)]*)\)", page):
        path, _, anchor = link.partition("#")
        target = os.path.normpath(folder / path) if path else name
        assert target in FILES, f"{name}: {link}"
        assert not anchor or anchor in _anchors(target), f"{name}: {link}"
    indented = "\n".join(re.findall(r"^    .*$", page, re.MULTILINE))
    named = re.findall(r"`([^`\n]+)`", page) + re.findall(r"[\w/]+\.(?:py|sh|sbatch|yaml|md)\b", indented)
    for file in named:
        if re.fullmatch(r"[\w./*-]+\.(py|sh|sbatch|md|yaml|csv|png|txt|jsonl?)", file) and "*" not in file:
            there = any(f"/{path}".endswith(f"/{file.removeprefix('/')}") for path in FILES)
            assert there or file in NOT_IN_THE_PROJECT, f"{name}: {file}"


def _anchors(name: str) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", PAGES[name], re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_front_page_leads_to_every_other():
    linked = {os.path.normpath(link) for link in re.findall(r"\]\(([\w/]+README\.md)", PAGES[FRONT])}
    assert linked == PAGES.keys() - {FRONT}


def test_the_page_of_data_names_everything_by_name():
    names = re.findall(r"`([\w/<>]+)`", PAGES["input_pipelines/README.md"])
    assert {*OPERATIONS, *AUGMENTATIONS, *SOURCES, *DATASETS} <= set(names)


def test_the_front_page_names_every_method_once():
    names = re.findall(r"`(\w+)`", section(FRONT, "Combination methods"))
    assert sorted(names) == sorted(METHODS)
