"""Every command and every example of the README runs as it is written."""

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

import pytest

from tests import machine
from trainer.combine.registry import METHODS

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README.read_text(), flags=re.MULTILINE | re.DOTALL)
COMMANDS = [line for language, text in BLOCKS if language == "bash" for line in text.splitlines()]
PYTHON = [text for language, text in BLOCKS if language == "python"]
FILES = ("my_table.py", "my_pictures.py", "my_data.py", "my_experiment.py")  # the README's files, in its order
SUITE = "bash tests/run.sh"
BENCHMARK = "python -m tests.benchmarks.methods"
EXAMPLES = "python -m tests.benchmarks.worked_examples"
COST = "python -m trainer.cost"
STEPS = "python -m tests.benchmarks.step"
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
KUBERNETES = (
    "docker build -f launch/kubernetes/Dockerfile -t registry.example.com/multi-head-trainer:1 .",
    "kubectl kustomize launch/kubernetes",
    "kubectl apply -k launch/kubernetes",
)
(WRITE_TABLE,) = (command for command in COMMANDS if command.startswith("python -c"))


@pytest.fixture(scope="module")
def project(tmp_path_factory, root):
    """A copy of the project with its environment, and the README's files in it."""
    copy = tmp_path_factory.mktemp("readme") / "project"
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns(".venv", ".git", "runs", ".*_cache", "__pycache__"))
    if (root / ".venv").exists():
        (copy / ".venv").symlink_to(root / ".venv")
    for name, text in zip(FILES, PYTHON[1:], strict=True):
        assert name in README.read_text()
        (copy / name).write_text(text)
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


def test_the_commands_are_these(root):
    """What follows, or the file that is named, runs each of them; a new one in the README needs a test of its own."""
    expected = [
        "bash launch/local.sh --strategy=mirrored --combine=weighted",
        SUITE,
        "source .venv/bin/activate",
        WRITE_TABLE,
        "python -m input_pipelines.show --config=my_table.py --output=table.png",
        "python -m trainer.main --config=my_table.py",
        "python -m trainer.main --config=my_pictures.py --download",
        "python -m trainer.main --config=my_experiment.py --workdir=runs/wine",
        "python -m trainer.main --config=my_experiment.py --config.batch_size=64 --config.losses.alcohol.weight=1 "
        "--virtual_devices=2",
        "python -m trainer.main --mode=eval --workdir=runs/wine",
        *SELFCHECKS,  # tests/trainer/selfcheck/test_selfcheck_program.py
        *LAUNCHES,  # tests/launch/test_workers_over_ssh.py
        *SLURM,  # tests/launch/test_slurm.py
        *KUBERNETES,
        "tensorboard --logdir runs",
    ]
    assert expected == COMMANDS
    assert SUITE in (root / ".ci" / "run").read_text()


def test_default_run(project):
    """The first command, within 90 seconds (longer on slower machines), to the accuracy that the README promises."""
    if not (project / ".venv").exists():
        _run("bash launch/local.sh --help", project)  # sets up the environment
    slower, start = machine.slower(), time.monotonic()
    output = _run(COMMANDS[0], project)
    assert time.monotonic() - start < 90 * (slower + machine.slower()) / 2
    (run,) = (project / "runs").iterdir()
    final = _final(run)
    assert final["digit/accuracy"] >= 0.98
    assert f"accuracy {final['digit/accuracy']:.4g}" in output


def _final(run: pathlib.Path) -> dict:
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])


def test_own_table(project):
    for command in COMMANDS[3:6]:
        output = _run(command, project)
    assert (project / "table.png").stat().st_size > 10_000
    final = _final(project / re.search(r"(runs/\S+): report.md", output)[1])
    assert final["loss/progression"] < 0.7  # of numbers with a variance of one
    assert final["high_pressure/auc"] > 0.65


def test_own_pictures(project, root, monkeypatch):
    """TFDS's own data, which must be there: a test downloads nothing."""
    data = root.parent / "shared" / "data" / "tfds"
    if not data.is_dir():
        pytest.skip(f"needs fashion_mnist as TFDS prepared it in {data}")
    monkeypatch.setenv("TFDS_DATA_DIR", str(data))
    output = _run(COMMANDS[6], project)
    final = _final(project / re.search(r"(runs/\S+): report.md", output)[1])
    assert final["label/accuracy"] > 0.8
    assert final["boot/accuracy"] > 0.97


def test_the_small_examples_are_under_ten_lines():
    for text in PYTHON[1:3]:
        configuration = text.split("def get_config():\n")[1].rstrip()
        assert len(configuration.splitlines()) < 10
        assert max(map(len, configuration.splitlines())) <= 120


def test_own_data_and_experiment(project):
    for command in COMMANDS[7:10]:
        output = _run(command, project)
    assert "cultivar" in output
    final = _final(project / "runs" / "wine")
    assert final["cultivar/accuracy"] >= 0.9
    assert final["alcohol/r2_score"] > 0


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
    command = [*COMMANDS[-1].split(), "--port", str(port)]
    server = subprocess.Popen(command, cwd=project, env=_environment(project), stderr=subprocess.PIPE, text=True)
    try:
        assert any("TensorBoard 2" in line for line in server.stderr)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as page:
            assert b"TensorBoard" in page.read()
    finally:
        server.kill()
        server.communicate()


def test_aggregate_example(project):
    code = PYTHON[0].replace('aggregate("pcgrad"', 'result = aggregate("pcgrad"')
    expected = re.search(r"# (\[.*\])", code)[1]
    check = f"{code}\nassert [round(x, 4) for x in result.numpy().tolist()] == {expected}"
    subprocess.run([sys.executable, "-c", check], cwd=project, check=True, capture_output=True)


@pytest.mark.ci_only
@pytest.mark.parametrize("flags", ["", " --virtual_devices=2"])
def test_table_of_results(project, flags):
    """The benchmark gives the README's row of the default combination, and that reaches 98.5 %."""
    output = _run(f"{BENCHMARK} --nocost --combine=weighted{flags}", project, timeout=1200)
    accuracy, promised = (
        float(re.search(r"^\| `weighted` \|.* ([\d.]+) %", text, re.MULTILINE)[1])
        for text in (output, README.read_text())
    )
    assert accuracy >= 98.5
    assert accuracy == pytest.approx(promised, abs=0.5)  # other processors round differently


def test_table_of_methods_is_complete():
    """One row for every method, in the registry's order, with its paper, a measured cost and results."""
    rows = re.findall(
        r"^\| `(\w+)` \| (.*) \| (.*) \| ([\d.]+) \| ([\d.]+) % \| .* \|$", README.read_text(), re.MULTILINE
    )
    assert [name for name, *_ in rows] == list(METHODS)
    for name, title, *_ in rows:
        assert METHODS[name].summary in title
        assert all(part in title for part in METHODS[name].paper)


@pytest.mark.ci_only
def test_table_of_worked_examples(project):
    """The benchmark gives the README's rows of a quick example of each kind; other processors round differently."""
    names = ["partially_shared", "separate_optimizers", "weighted_slices"]
    output = _run(f"{EXAMPLES} --config={','.join(names)}", project)
    for name in names:
        measured, promised = (
            {key: float(value) for key, value in re.findall(r"([a-z_]+ [a-z_0-9]+) (-?[\d.]+)", row.split("|")[3])}
            for row in (re.search(rf"^\| `{name}` .*$", text, re.MULTILINE)[0] for text in (output, README.read_text()))
        )
        assert len(promised) == 2
        assert measured == pytest.approx(promised, abs=0.03), name


@pytest.mark.ci_only
def test_table_of_costs(project):
    """The prediction is arithmetic: its rows are the README's, to the digit."""
    (command,) = re.findall(rf"`({re.escape(COST)} .*--markdown)`", README.read_text())
    rows = [line for line in _run(command, project).splitlines() if line.startswith("| ")]
    assert len(rows) > 10
    for row in rows:
        assert f"{row}\n" in README.read_text()


@pytest.mark.ci_only
def test_bounds_that_do_not_depend_on_the_machine(project):
    """What is reduced is what the formula says; the step times are measured by hand."""
    output = _run(f"{STEPS} --check --only=payload", project)
    assert output.count("| yes |") == 3
