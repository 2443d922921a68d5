"""The command line: exit codes, one line on stderr, nothing left behind; and that it answers at once."""

import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

from tests import forked
from tests.answers import NO_TENSORFLOW_SECONDS, assert_at_once, assert_one_line

FORMAT_1 = "holds a run of format 1, made before variables were named by their place in the model; start a new run"


# Traced in a fraction of the time of the default configuration's trunk.
_TRUNK = "[{'layer':'Flatten'},{'layer':'Dense','units':16,'activation':'relu'}]"


def run(*arguments: str, cwd: pathlib.Path, root: pathlib.Path) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "trainer.main", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def _files(folder: pathlib.Path) -> dict[pathlib.Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def place(tmp_path):
    """An empty directory to run in, with some things to point at beside it."""
    (tmp_path / "file").write_text("")
    for name, text in (("held", '{"format": 4}'), ("old", '{"seed": 0}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "metrics.jsonl").write_text("")
    (tmp_path / "broken.py").write_text("def get_config(:\n")
    (tmp_path / "cwd").mkdir()
    return tmp_path / "cwd"


# Mistakes in a flag, a file, a key and a run that are there.
FROM_THEIR_START = (["--foo=1"], ["--config=../broken.py"], ["--config.eval_every=0"], ["--workdir=../held"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--combine=pcgrd"], ["--combine='pcgrd'", "did you mean 'pcgrad'", "weighted"]),
        (["--strategy=mirored"], ["--strategy=mirored", "mirrored|one_device"]),
        (["--mode=test"], ["--mode=test", "train|eval"]),
        (["--virtual_devices=0"], ["--virtual_devices=0", "positive"]),
        (["--virtual_devices=two"], ["--virtual_devices=two"]),
        (["--stratgy=mirrored"], ["--stratgy: is no flag; did you mean --strategy?"]),
        (["--foo=1"], ["--foo: is no flag; --help lists the flags, --help=config the keys"]),
        (["--lr=3"], ["--lr: is no flag; the key for it is --config.optimizer.learning_rate=3 (also losses.<name>."]),
        (["--help=nonsense"], ["--help='nonsense': must be one of config, methods"]),
        (["--config=nowhere.py"], ["--config='nowhere.py'", "existing Python file"]),
        (["--config=../broken.py"], ["--config='../broken.py'", "SyntaxError", "line 1"]),
        (["--config.batch_sze=3"], ["batch_sze=3", "did you mean 'batch_size'"]),
        (["--config.batch_size", "0"], ["batch_size=0", "at least 1"]),
        (["--config.batch_size"], ["--config.batch_size", "--config.<key>=<value>"]),
        (["--config.eval_every=0"], ["eval_every=0"]),
        (["--config.losses.ink.head=inc"], ["losses.ink.head='inc'", "did you mean 'ink'"]),
        (["--config.dataset.name=mnits"], ["dataset.name='mnits'", "digits"]),
        (["train"], ["arguments='train'"]),
        (["--workdir=../held"], ["--workdir='../held'", "config.json cannot be used", "losses"]),
        (["--workdir=../old"], [f"error: --workdir='../old': {FORMAT_1}"]),
        (["--workdir=../torn"], ["--workdir='../torn'", "metrics.jsonl"]),
        (["--workdir=../file"], ["--workdir='../file'", "is a file"]),
        (["--workdir=../file/run"], ["--workdir='../file/run'", "is a file"]),
        (["--workdir="], ["--workdir=''", "not empty"]),
        (["--workdir=a[b]"], ["--workdir='a[b]'", "*?[]"]),
        (["--workdir=" + 300 * "x"], ["--workdir='xxx", "too long"]),
        (["--config="], ["--config=''", "existing Python file"]),
        (["--config=" + 300 * "x"], ["--config='xxx", "existing Python file"]),
        (["--profile=7"], ["--profile='7'", "100:105"]),
        (["--profile=9:3"], ["--profile='9:3'", "100:105"]),
        (["--split=test"], ["--split='test'", "is for --mode=eval"]),
        (["--mode=eval"], ["--workdir", "missing"]),
        (["--mode=eval", "--workdir=../cwd"], ["--workdir='../cwd'", "holds no run"]),
        (["--mode=eval", "--workdir=../held"], ["losses", "missing"]),
        (["--mode=eval", "--workdir=../old"], [f"error: --workdir='../old': {FORMAT_1}"]),
        (["--mode=eval", "--workdir=../held", "--combine=sum"], ["--combine='sum'", "no place"]),
    ],
)
def test_mistakes_that_need_no_tensorflow(place, arguments, words):
    before = _files(place.parent)
    assert_at_once("trainer.main", *arguments, words=words, cwd=place, start=arguments in FROM_THEIR_START)
    assert _files(place.parent) == before
    assert not list(place.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config.losses.ink.loss=mze"], ["losses.ink.loss='mze'", "unknown loss"]),
        pytest.param(
            ["--config.losses.ink.metrics=acuracy"],
            ["losses.ink.metrics.0='acuracy'", "did you mean 'accuracy'"],
            marks=pytest.mark.ci_only,
        ),
        pytest.param(
            ["--config.losses.ink.optimizer.name=adm"],
            ["losses.ink.optimizer.name='adm'", "did you mean 'adam'"],
            marks=pytest.mark.ci_only,
        ),
        (["--config.losses.ink.target=inc"], ["losses.ink.target='inc'", "did you mean 'ink'"]),
        (["--config.losses.ink.target=image"], ["losses.ink.target='image'", "(8, 8)", "(1,)"]),
        pytest.param(["--config.batch_size=1438"], ["batch_size=1438", "1437"], marks=pytest.mark.ci_only),
        (["--config.model.heads.digit.0.units=5"], ["losses.digit.target='digit'", "holds 7", "classes 0 to 4"]),
        (["--config.batch_size=2", "--virtual_devices=3"], ["batch_size=2", "replicas, 3"]),
        (["--config.model.trunk.0.layer=Conv9D"], ["model.trunk.0.layer='Conv9D'", "conv2_d"]),
        (["--config.dataset.data_dir=../file"], ["dataset.data_dir='../file'"]),
        (["--strategy=one_device", "--virtual_devices=2"], ["--virtual_devices=2", "mirrored"]),
        (["--workdir=/proc/run"], ["--workdir='/proc/run'", "cannot be written"]),
    ],
)
def test_mistakes_that_need_tensorflow(place, arguments, words):
    result = forked.run("trainer.main", *arguments, cwd=place)
    assert_one_line(result, *words)
    assert result.stdout == ""
    assert not list(place.iterdir())


@pytest.mark.ci_only
def test_a_mistake_that_needs_tensorflow_in_a_process_from_its_start(place, root):
    """Also TensorFlow's own messages, when it is imported, stay away from the one line."""
    result = run("--config.losses.ink.loss=mze", cwd=place, root=root)
    assert_one_line(result, "losses.ink.loss='mze'", "unknown loss")
    assert result.stdout == ""
    assert not list(place.iterdir())


def test_help_is_quick_and_short(place, root):
    start = time.monotonic()
    result = run("--help", cwd=place, root=root)
    assert time.monotonic() - start < NO_TENSORFLOW_SECONDS
    assert (result.returncode, result.stderr) == (0, "")
    for flag in ("--config", "--workdir", "--strategy", "--combine", "--virtual_devices", "--profile", "--mode"):
        assert flag in result.stdout
    assert len(result.stdout.splitlines()) < 40


def test_train_then_evaluate(place, root):
    """Training leaves a run that evaluates to the same numbers, on other devices too."""
    flags = ["--config.steps=25", "--config.eval_every=20", "--config.report_every=10", "--combine=dwa"]
    flags += [f"--config.model.trunk={_TRUNK}", "--reduction=fused", "--deterministic"]
    trained = forked.run("trainer.main", "--workdir=run", "--virtual_devices=2", *flags, cwd=place)
    assert (trained.returncode, trained.stderr) == (0, "")
    evaluated = forked.run("trainer.main", "--mode=eval", "--workdir=run", cwd=place)
    assert (evaluated.returncode, evaluated.stderr) == (0, "")
    assert json.loads((place / "run" / "config.json").read_text())["deterministic"] is True
    table = trained.stdout[trained.stdout.index("┏") : trained.stdout.index("┘") + 1]
    assert table in evaluated.stdout
    other = ["--mode=eval", "--workdir=run", "--config.model.trunk.1.units=3"]
    words = "trunk_1_dense/kernel is float32[64, 3] here, float32[64, 16]"
    assert_one_line(forked.run("trainer.main", *other, cwd=place), words)
    before = (place / "run" / "metrics.jsonl").read_bytes()
    again = forked.run("trainer.main", "--workdir=run", *flags, cwd=place)
    assert (again.returncode, again.stderr) == (0, "")
    assert table in again.stdout
    assert (place / "run" / "metrics.jsonl").read_bytes() == before
    changed = run("--workdir=run", *flags, "--config.seed=3", "--config.batch_size=8", cwd=place, root=root)
    assert_one_line(changed, "--workdir='run'", "batch_size is 64 there and 8 here", "seed is 0 there and 3 here")


def test_non_finite_loss_stops_the_run(place):
    flags = [
        "--config.losses.ink.loss=tests.problems:exploding_loss",
        "--config.shared_optimizer={'name':'sgd','learning_rate':1.0}",
    ]
    flags += ["--workdir=run", "--config.steps=400", "--config.steps_per_loop=50"]
    result = forked.run("trainer.main", *flags, cwd=place)
    assert_one_line(result, "step ", "'ink'", "non-finite", code=1)
    assert (place / "run" / "config.json").exists()
    rows = [json.loads(line) for line in (place / "run" / "metrics.jsonl").read_text().splitlines()]
    failed = int(result.stderr.split("step ")[1].split(":")[0])
    assert all(row["step"] < failed for row in rows)
    assert not (place / "run" / "report.md").exists()


@pytest.mark.ci_only
def test_two_runs_of_the_default_configuration_are_identical_and_apart(place, root):
    """Convolutions, three losses and the default threads: every bit of the metrics and of the final variables.

    Without a workdir each is in a new folder of its own, named by its date.
    """
    for _ in range(2):
        result = run("--config.steps=40", "--config.report_every=10", "--config.eval_every=20", cwd=place, root=root)
        assert (result.returncode, result.stderr) == (0, "")
    a, b = (place / "runs").iterdir()
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()
    (saved,) = (a / "checkpoints" / "step_00000040").glob("*.data-*")
    assert saved.read_bytes() == (b / saved.relative_to(a)).read_bytes()
