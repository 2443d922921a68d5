"""The package: its public names, its one command, and the wheel in an environment without the project's folder."""

import email
import importlib
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile

import pytest

import trainer
from tests.answers import NO_TENSORFLOW_SECONDS, assert_one_line
from trainer.__main__ import COMMANDS

NAME = "multi-head-trainer"
PACKAGES = ("trainer", "input_pipelines", "configs", "launch")
# Of launch/, what works with the project's own folder: scripts, lock files, and what builds and runs the image.
LEFT_OUT = {".sh", ".sbatch", ".lock", ".yaml", ""}


def _run(command: list, folder: pathlib.Path, **variables: str) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | variables
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def command(root, tmp_path):
    """Runs `python -m trainer` with the given arguments in an empty folder."""

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return _run([sys.executable, "-m", "trainer", *arguments], tmp_path, PYTHONPATH=str(root))

    return run


@pytest.mark.parametrize("name", trainer.__all__)
def test_public_names(name):
    assert getattr(trainer, name) is not None
    assert name in dir(trainer)
    if importlib.util.find_spec(f"trainer.{name}"):  # a module would hide it, unless it is the name itself
        assert callable(importlib.import_module(f"trainer.{name}"))


def test_the_import_is_quick(root):
    """Under 50 ms of the processor, once Python has written what it has compiled; it loads neither NumPy nor Keras."""
    code = "import sys, time; start = time.process_time(); import trainer; "
    code += "print(time.process_time() - start, 'numpy' in sys.modules)"
    results = [_run([sys.executable, "-c", code], root).stdout.split() for _ in range(3)]
    assert min(float(seconds) for seconds, _ in results) < 0.05
    assert {loads for _, loads in results} == {"False"}


def test_another_name():
    with pytest.raises(AttributeError, match="module 'trainer' has no attribute 'agregate'"):
        _ = trainer.agregate


def test_every_program_of_the_trainer_is_a_command(root):
    packages = {f"trainer.{path.parent.name}" for path in root.glob("trainer/*/__main__.py")}
    assert {module for module, _ in COMMANDS.values()} == packages | {"trainer.main", "launch.workers"}


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_the_commands(command, root, arguments):
    start = time.monotonic()
    result = command(*arguments)
    assert time.monotonic() - start < NO_TENSORFLOW_SECONDS
    assert (result.returncode, result.stderr) == (0, "")
    lines = [line.split() for line in result.stdout.splitlines()]
    for word, (_, description) in COMMANDS.items():
        assert [word, *description.split()] in lines
    assert str(root / "configs") in result.stdout


def test_version(command):
    result = command("--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{NAME} {trainer.__version__}\n", "")


@pytest.mark.parametrize("word", COMMANDS)
def test_a_commands_help_is_its_modules(command, root, tmp_path, word):
    module, _ = COMMANDS[word]
    result = command(word, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    own = _run([sys.executable, "-m", module, "--help"], tmp_path, PYTHONPATH=str(root))
    assert result.stdout == own.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], ["command='trian'", "did you mean 'train'", "selfcheck"]),
        (["--combine=pcgrad"], ["command='--combine=pcgrad'", "train"]),
        (["train", "--combine=pcgrd"], ["--combine='pcgrd'", "did you mean 'pcgrad'"]),
        (["train", "more"], ["arguments='more'"]),
        (["workers", "--workers=0", "--", "true"], ["--workers=0", "at least 1"]),
    ],
)
def test_mistakes(command, arguments, words):
    result = command(*arguments)
    assert_one_line(result, *words)
    assert result.stdout == ""


def test_the_exit_code_is_the_commands(command):
    assert command("workers", "--workers=1", "--", "sh", "-c", "exit 7").returncode == 7


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory):
    """The project's wheel, built from a copy."""
    for name in ("pip", "setuptools"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "project"
    for name in (*PACKAGES, "tests"):
        shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, copy / name)
    build = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", folder, "."]
    result = _run(build, copy)
    assert result.returncode == 0, result.stdout + result.stderr
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The wheel's command, in an environment that has what it depends on from this one and nothing of the project."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    here = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (packages / "dependencies.pth").write_text("\n".join(here))
    install = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", wheel]
    result = _run([sys.executable, "-m", "pip", "--python", folder / "bin" / "python", *install], folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / "bin" / NAME


def test_wheel(wheel, root):
    """Every module and what lies beside it, tests not; nothing is forgotten that the packages come to need."""
    with zipfile.ZipFile(wheel) as archive:
        names = [pathlib.PurePath(name) for name in archive.namelist()]
        (metadata,) = (email.message_from_bytes(archive.read(str(name))) for name in names if name.name == "METADATA")
    inside = {name for name in names if not name.parts[0].endswith(".dist-info")}
    files = (path.relative_to(root) for package in PACKAGES for path in (root / package).rglob("*") if path.is_file())
    files = (path for path in files if "__pycache__" not in path.parts)
    assert inside == {path for path in files if path.parts[0] != "launch" or path.suffix not in LEFT_OUT}
    assert metadata["Version"] == trainer.__version__
    assert metadata["License-Expression"] == "Apache-2.0"


def test_installed_command(installed, tmp_path):
    """From an empty folder, whose modules it sees."""
    version = _run([installed, "--version"], tmp_path)
    assert (version.returncode, version.stdout, version.stderr) == (0, f"{NAME} {trainer.__version__}\n", "")
    described = _run([installed, "train", "--help"], tmp_path)
    assert (described.returncode, described.stderr) == (0, "")
    assert "--combine" in described.stdout
    own = installed.parents[1]
    assert str(own) in _run([installed, "--help"], tmp_path).stdout  # the configurations are its own
    workers = _run([installed, "workers", "--workers=2", "--", str(installed), "--version"], tmp_path)
    assert workers.returncode == 0, workers.stderr
    assert workers.stdout.count(f"{NAME} {trainer.__version__}\n") == 2
    (tmp_path / "my_values.py").write_text("BATCH = -3\n")
    (tmp_path / "mine.py").write_text(
        "import my_values\nfrom configs import digits\n\n\ndef get_config():\n"
        "    config = digits.get_config()\n    config.batch_size = my_values.BATCH\n    return config\n"
    )
    assert_one_line(_run([installed, "train", "--config=mine.py"], tmp_path), "batch_size=-3")


@pytest.mark.ci_only
def test_installed_training(installed, tmp_path):
    """A configuration of the wheel with its table, and a loss of the user's own from the folder in which it runs."""
    (tmp_path / "my_losses.py").write_text(
        "def absolute(target, prediction):\n    return abs(target - prediction)[:, 0]\n"
    )
    config = next(installed.parents[1].glob("lib/*/site-packages/configs/own_table.py"))
    flags = ["--config.steps=2", "--config.losses.progression.loss=my_losses:absolute", "--workdir=run"]
    result = _run([installed, "train", f"--config={config}", *flags], tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "run" / "report.md").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"my_losses.py", "__pycache__", "run"}
