"""Every README of the project: its commands run as they are written, its examples are files, its links lead somewhere.

A command stands in a block of bash. It is run here, or by the file that `ELSEWHERE` names, which imports it from here;
a command of neither kind fails `test_every_command_is_run`.
"""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest

from tests import forked, machine
from trainer.combine.registry import METHODS

ROOT = pathlib.Path(__file__).resolve().parent.parent
FRONT, MEASURED, CONFIGS = "README.md", "tests/benchmarks/README.md", "configs/README.md"
LONGEST, LONGEST_FRONT, LONGEST_CONFIGURATION, WIDEST = 300, 120, 25, 120
# One holds all tables, the other is made from the registry.
LONGER = {MEASURED, "trainer/combine/README.md"}

DIGITS = "bash launch/local.sh --strategy=mirrored --combine=weighted"
OWN_TABLE = "bash launch/local.sh --config=configs/own_table.py"
ACTIVATE = "source .venv/bin/activate"
DESCRIBE = "python -m trainer.describe --config=configs/own_table.py --output=table.png"
OWN_ARRAYS = (
    "python -m trainer.main --config=configs/own_arrays.py --workdir=runs/wine",
    "python -m trainer.main --config=configs/own_arrays.py --config.losses.alcohol.weight=1 --virtual_devices=2",
    "python -m trainer.main --mode=eval --workdir=runs/wine",
)
TENSORBOARD = "tensorboard --logdir runs"
KUBERNETES = (
    "docker build -f launch/kubernetes/Dockerfile -t registry.example.com/multi-head-trainer:1 .",
    "kubectl kustomize launch/kubernetes",
    "kubectl apply -k launch/kubernetes",
)
PREDICTION = "python -m trainer.cost --config=configs/digits.py --replicas=8,64,512"
PARTS_OF_THE_SUITE = (
    "bash tests/run.sh tests/input_pipelines",
    "bash tests/run.sh tests/trainer/test_main.py -k evaluate",
    "CI=true bash tests/run.sh tests/launch",
    "bash tests/run.sh --durations=20",
)
HERE = {DIGITS, OWN_TABLE, ACTIVATE, DESCRIBE, *OWN_ARRAYS, TENSORBOARD, *KUBERNETES, PREDICTION, *PARTS_OF_THE_SUITE}

SUITE = "bash tests/run.sh"
COMPARISON = "python -m trainer.cost --replicas=8,64,512 --compare --markdown"
FASHION_MNIST = "python -m trainer.main --config=configs/fashion_mnist.py --download"
SELFCHECKS = (
    "python -m trainer.selfcheck",
    "python -m launch.workers --workers=2 -- python -m trainer.selfcheck --strategy=multi_worker",
)
LAUNCHES = (
    "python -m launch.workers --workers=2 -- python -m trainer.main --strategy=multi_worker --workdir=runs/two",
    "python -m launch.workers --hosts=a,b --max_restarts=3 -- "
    ".venv/bin/python -m trainer.main --strategy=multi_worker --workdir=runs/ab",
)
SLURM = (
    "sbatch --nodes=2 --time=1:00:00 launch/slurm.sbatch --combine=pcgrad",
    "printf '%s\\n' --combine={weighted,pcgrad}' '--config.seed={0,1,2} > sweep.txt",
    "sbatch --array=1-6 launch/slurm.sbatch --sweep=sweep.txt --config.steps=1000",
)
# File with a test → the name here of the commands that it runs, and these.
ELSEWHERE = {
    "tests/test_run.py": ("SUITE", (SUITE,)),
    "tests/trainer/cost/test_cost.py": ("COMPARISON", (COMPARISON,)),
    "tests/configs/test_presets.py": ("FASHION_MNIST", (FASHION_MNIST,)),
    "tests/trainer/selfcheck/test_selfcheck_program.py": ("SELFCHECKS", SELFCHECKS),
    "tests/launch/test_workers_over_ssh.py": ("LAUNCHES", LAUNCHES),
    "tests/launch/test_slurm.py": ("SLURM", SLURM),
}

BENCHMARK = "python -m tests.benchmarks.methods"
EXAMPLES = "python -m tests.benchmarks.worked_examples"
COST = "python -m trainer.cost"
STEPS = "python -m tests.benchmarks.step"

# What users and runs make; every other file that a page names is there.
NOT_IN_THE_PROJECT = {
    "a-*.csv", "b.csv", "test.csv", "mine.py", "picture.png", "table.png", "sweep.txt", "config.json", "data.json",
    "metrics.jsonl", "log.txt", "report.md", "curves.png", "methods/NAME.py",
}  # fmt: skip


def _files() -> Iterator[str]:
    """Paths of the project's files, below its root."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [each for each in folders if each == ".github" or not each.startswith((".", "runs", "__pycache"))]
        yield from (str(pathlib.Path(folder, name).relative_to(ROOT)) for name in names)


FILES = frozenset(_files())
PAGES = {name: (ROOT / name).read_text() for name in sorted(FILES) if pathlib.Path(name).name == "README.md"}
pages = pytest.mark.parametrize("name", PAGES)


def _blocks(language: str) -> Iterator[tuple[str, str]]:
    """Page and text of each block of code in a language."""
    for name, page in PAGES.items():
        for text in re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
            yield name, text


def _section(page: str, heading: str) -> str:
    return re.search(rf"^## {heading}.*?\n(.*?)(?=^## |\Z)", PAGES[page], re.MULTILINE | re.DOTALL)[1]


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


def _forked(command: str, project: pathlib.Path) -> str:
    """What `python -m MODULE ...` prints, in a process that need not import TensorFlow."""
    python, flag, module, *arguments = command.split()
    assert (python, flag) == ("python", "-m")
    result = forked.run(module, *arguments, cwd=project)
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


def test_every_command_is_run(root):
    """Here, or in the file that says so; a new one in a README needs a test of its own."""
    written = {line for _, text in _blocks("bash") for line in re.sub(r" \\\n *", " ", text).splitlines()}
    elsewhere = {command for _, commands in ELSEWHERE.values() for command in commands}
    assert written == HERE | elsewhere
    for file, (constant, _) in ELSEWHERE.items():
        text = (root / file).read_text()
        assert f"from tests.test_readmes import {constant}\n" in text
        assert len(re.findall(rf"\b{constant}\b", text)) > 1, f"{file} does not use {constant}"
    assert SUITE in (root / ".ci" / "run").read_text()


def test_default_run(project):
    """The first command, within 90 seconds (longer on slower machines), to what the front page promises."""
    if not (project / ".venv").exists():
        _run("bash launch/local.sh --help", project)  # sets up the environment
    slower, start = machine.slower(), time.monotonic()
    output = _run(DIGITS, project)
    assert time.monotonic() - start < 90 * (slower + machine.slower()) / 2
    final = _final(output, project)
    assert f"accuracy {final['digit/accuracy']:.4g}" in output
    rows = re.findall(r"^    \w+ +(\w+) +([\d.]+) +(\w+) ([\d.]+)$", _section(FRONT, "Try it"), re.MULTILINE)
    assert [loss for loss, *_ in rows] == ["digit", "redraw", "ink"]
    for loss, value, metric, result in rows:
        assert final[f"loss/{loss}"] == pytest.approx(float(value), rel=0.5)  # other processors round differently
        assert final[f"{loss}/{metric}"] == pytest.approx(float(result), rel=0.015 if metric == "accuracy" else 0.3)


def test_own_table(project):
    output = _run(OWN_TABLE, project)
    final = _final(output, project)
    assert final["progression/r2_score"] > 0.5
    assert final["high_pressure/auc"] > 0.7


def test_describe(project):
    if (project / ".venv").exists():
        _run(f"{ACTIVATE}; python --version", project)
    output = _forked(DESCRIBE, project)
    assert "progression" in output
    assert (project / "table.png").stat().st_size > 10_000


def test_own_arrays(project):
    outputs = [_forked(command, project) for command in OWN_ARRAYS]
    final = _final(outputs[0], project)
    assert final["cultivar/accuracy"] >= 0.9
    assert final["alcohol/r2_score"] > 0
    assert f"accuracy {final['cultivar/accuracy']:.4g}" in outputs[2]


def test_predicted_cost(project):
    output = _forked(PREDICTION, project)
    assert all(number in output for number in ("8", "64", "512"))
    assert "Assumed: 64 examples per replica" in output


def test_parts_of_the_suite(root):
    """That pytest takes what follows `run.sh`, tests/test_run.py shows; here that it is there."""
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


@pytest.mark.parametrize(("name", "text"), _blocks("python"))
def test_python_stands_in_a_configuration_or_runs(name, text):
    """tests/configs trains every configuration."""
    if any(text in (ROOT / file).read_text() for file in FILES if re.fullmatch(r"configs/\w+\.py", file)):
        return
    last = text.splitlines()[-1]
    code, _, expected = last.partition("  # ")
    assert expected, f"{name}: neither of a configuration, nor does its last line say what comes of it"
    values: dict = {}
    exec(text.removesuffix(f"{last}\n") + f"result = {code}\n", values)
    assert [round(value, 4) for value in values["result"].numpy().tolist()] == json.loads(expected)


def test_the_front_page_has_a_whole_configuration():
    ((_, text),) = (block for block in _blocks("python") if block[0] == FRONT)
    assert len(text.splitlines()) <= LONGEST_CONFIGURATION
    assert (ROOT / "configs" / "own_table.py").read_text().split('"""\n\n', 1)[1] == text


# ---------------------------------------------------------------------------------------------------------------------
# What the pages look like, and where they lead.
# ---------------------------------------------------------------------------------------------------------------------


@pages
def test_size(name):
    lines = PAGES[name].splitlines()
    assert re.match(r"# \w", lines[0])
    assert name in LONGER or len(lines) <= (LONGEST_FRONT if name == FRONT else LONGEST)
    # A card's paragraph is one line, as is a row of a table; addresses do not count.
    wide = () if name == "trainer/combine/README.md" else (line for line in lines if not line.startswith("|"))
    assert [line for line in wide if len(re.sub(r"\]\([^)]*\)", "]", line)) > WIDEST] == []


@pages
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
    """What GitHub calls a page's headings."""
    headings = re.findall(r"^#+ (.*)$", PAGES[name], re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_front_page_leads_to_every_other():
    linked = {os.path.normpath(link) for link in re.findall(r"\]\(([\w/]+README\.md)", PAGES[FRONT])}
    assert linked == PAGES.keys() - {FRONT}


def test_the_front_page_names_every_method_once():
    names = re.findall(r"`(\w+)`", _section(FRONT, "Combination methods"))
    assert sorted(names) == sorted(METHODS)


# ---------------------------------------------------------------------------------------------------------------------
# Measurements.
# ---------------------------------------------------------------------------------------------------------------------


def test_numbers_of_the_front_page():
    """They are the measured ones, rounded."""
    shown = {
        "`keras_conv_2`": "1.96",
        "`torchjd_pcgrad_one_at_a_time`": "1.34",
        "`weights_40`": "14",
        "plain TFDS at its best / in memory, 128 examples": "30",
        "plain TFDS at its best / streaming, 128 examples": "2.5",
    }
    rows = [line.split(" | ") for line in PAGES[MEASURED].splitlines() if line.startswith("| ")]
    for name, number in shown.items():
        (row,) = (row for row in rows if row[0] == f"| {name}")
        measured = float(row[3] if name.startswith("`") else row[2])
        assert float(f"{measured:.{len(number.replace('.', ''))}g}") == float(number), name
        assert re.search(rf"(?<![\d.]){re.escape(number)} times", _section(FRONT, "Four numbers")), name


def test_table_of_methods_is_complete():
    """One row for every method, in the registry's order, with its paper, a measured cost and results."""
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \| ([\d.]+) \| ([\d.]+) % \| .* \|$", PAGES[MEASURED], re.MULTILINE)
    assert [name for name, *_ in rows] == list(METHODS)
    for name, title, *_ in rows:
        assert METHODS[name].summary in title
        assert all(part in title for part in METHODS[name].paper)


@pytest.mark.ci_only
@pytest.mark.parametrize("flags", ["", " --virtual_devices=2"])
def test_table_of_results(project, flags):
    """The benchmark gives the table's row of the default combination, and that reaches 98.5 %."""
    output = _run(f"{BENCHMARK} --nocost --combine=weighted{flags}", project, timeout=1200)
    accuracy, promised = (
        float(re.search(r"^\| `weighted` \|.* ([\d.]+) %", text, re.MULTILINE)[1]) for text in (output, PAGES[MEASURED])
    )
    assert accuracy >= 98.5
    assert accuracy == pytest.approx(promised, abs=0.5)  # other processors round differently


@pytest.mark.ci_only
def test_table_of_worked_examples(project):
    """The benchmark gives the table's rows of a quick example of each kind; other processors round differently."""
    names = ["partially_shared", "separate_optimizers", "weighted_slices"]
    output = _run(f"{EXAMPLES} --config={','.join(names)}", project)
    for name in names:
        measured, promised = (
            {key: float(value) for key, value in re.findall(r"([a-z_]+ [a-z_0-9]+) (-?[\d.]+)", row.split("|")[3])}
            for row in (re.search(rf"^\| `{name}` .*$", text, re.MULTILINE)[0] for text in (output, PAGES[MEASURED]))
        )
        assert len(promised) == 2
        assert measured == pytest.approx(promised, abs=0.03), name


@pytest.mark.ci_only
def test_table_of_costs(project):
    """The prediction is arithmetic: its rows are the table's, to the digit."""
    (command,) = re.findall(rf"`({re.escape(COST)} .*--markdown)`", PAGES[MEASURED])
    rows = [line for line in _run(command, project).splitlines() if line.startswith("| ")]
    assert len(rows) > 10
    for row in rows:
        assert f"{row}\n" in PAGES[MEASURED]


@pytest.mark.ci_only
def test_bounds_that_do_not_depend_on_the_machine(project):
    """What is reduced is what the formula says; the step times are measured by hand."""
    output = _run(f"{STEPS} --check --only=payload", project)
    assert output.count("| yes |") == 3
