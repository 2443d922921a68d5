"""`python -m trainer.describe`: what it prints and leaves, and mistakes in one line."""

import os
import pathlib
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tests import forked
from tests.answers import NO_TENSORFLOW_SECONDS, assert_at_once, assert_one_line
from tests.trainer.describe.records import records_tree, write_records
from trainer.combine.registry import METHODS

_EXPERIMENT = """
import ml_collections


def get_config():
    return ml_collections.ConfigDict(
        {{
            "dataset": {dataset!r},
            "model": {{"heads": {{"head": [{{"layer": "Flatten"}}, {{"layer": "Dense", "units": 1}}]}}}},
            "losses": {{"label": {{"head": "head", "target": "label", "loss": "mse"}}}},
            "batch_size": 8,
        }}
    )
"""


def _run(*arguments: str, cwd, root) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(root), "COLUMNS": "120"}
    command = [sys.executable, "-m", "trainer.describe", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def _forked(*arguments: str, cwd) -> subprocess.CompletedProcess:
    return forked.run("trainer.describe", *arguments, cwd=cwd, COLUMNS="120")


def _assert_one_line(result: subprocess.CompletedProcess, *words: str) -> None:
    assert_one_line(result, *words)
    assert result.stdout == ""


def test_describes_an_experiment_and_keeps_what_is_there(records):
    folder, _, _ = records
    (folder / "my.py").write_text(_EXPERIMENT.format(dataset=records_tree(folder, feed="streaming", window=16)))
    result = _forked("--config=my.py", "--output=shown.png", cwd=folder)
    assert result.returncode == 0, result.stderr
    for words in ("streaming, in windows of 16", "25.0 %", "label: balance", "all 40 examples of train", " a second"):
        assert words in result.stdout
    for words in ("shared 0, task-specific 25", "only label", "head_head_1_dense", "Reduced per step"):
        assert words in result.stdout
    assert result.stdout.splitlines()[-1] == "Picture: shown.png"
    with Image.open(folder / "shown.png") as image:
        assert image.format == "PNG"
    before = (folder / "shown.png").read_bytes()
    again = _forked("--config=my.py", "--output=shown.png", cwd=folder)
    _assert_one_line(again, "--output='shown.png'", "exists already")
    assert (folder / "shown.png").read_bytes() == before
    _assert_a_run_begins_with(result.stdout.partition("\n\n")[0].splitlines(), folder)


def _assert_a_run_begins_with(summary: list[str], folder: pathlib.Path) -> None:
    flags = ["--config=my.py", "--config.steps=1", "--config.eval_every=1", "--workdir=run"]
    trained = forked.run("trainer.main", *flags, cwd=folder)
    assert trained.returncode == 0, trained.stderr
    first, *said = trained.stdout.splitlines()
    assert " steps on " in first
    assert [line.removeprefix("  ") for line in said[: len(summary)]] == summary
    assert summary[0] in (folder / "run" / "log.txt").read_text()


def test_a_scan_ends_with_what_is_wrong(records):
    folder, images, labels = records
    write_records(folder / "other.tfrecord", images[:20] // 2, labels[:20])
    splits = {"train": "train.tfrecord", "validation": "other.tfrecord"}
    (folder / "my.py").write_text(_EXPERIMENT.format(dataset=records_tree(folder, splits=splits)))
    result = _forked("--config=my.py", "--scan", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == "Nothing is wrong."
    pictures = [image if number % 15 else b"no picture" for number, image in enumerate(images)]
    write_records(folder / "train.tfrecord", pictures, labels)
    result = _forked("--config=my.py", "--scan", cwd=folder)
    assert (result.returncode, result.stderr) == (1, "")
    *_, first, second, third, verdict = result.stdout.splitlines()
    for line, number in zip((first, second, third), (0, 15, 30), strict=True):
        assert line.startswith(f"wrong: {folder / 'train.tfrecord'}, record {number}: ")
    assert verdict == "3 things are wrong: training would fail."


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--output=there.png"], ["--output='there.png'", "exists already"]),
        (["--combine=pcgrd"], ["--combine='pcgrd'", "did you mean 'pcgrad'"]),
        (["--output=data.jpg"], ["--output='data.jpg'", "PNG"]),
        (["--output=nowhere/data.png"], ["--output='nowhere/data.png'", "no folder nowhere"]),
        (["--output="], ["--output=''", "PNG"]),
        ([f"--output={300 * 'a'}.png"], ["--output='aaa", "cannot be used: File name too long"]),
        (["--config=nowhere.py"], ["--config='nowhere.py'", "existing Python file"]),
        (["--config.dataset.name=mnits"], ["dataset.name='mnits'", "digits"]),
        (["--scan", "--output=new.png"], ["--output='new.png'", "leave it out with --scan"]),
        (["--outptu=a.png"], ["outptu", "output"]),
        (["digits"], ["arguments='digits'"]),
    ],
)
def test_mistakes_that_need_no_tensorflow(tmp_path, arguments, words):
    (tmp_path / "there.png").write_text("kept")
    start = arguments == ["--output=there.png"]
    assert_at_once("trainer.describe", *arguments, words=words, cwd=tmp_path, start=start)
    assert [path.name for path in tmp_path.iterdir()] == ["there.png"]


def test_help_is_quick(tmp_path, root):
    start = time.monotonic()
    result = _run("--help", cwd=tmp_path, root=root)
    assert time.monotonic() - start < NO_TENSORFLOW_SECONDS
    assert (result.returncode, result.stderr) == (0, "")
    for flag in ("--config", "--output", "--[no]scan", "--combine", "--reduction", "--[no]download"):
        assert flag in result.stdout
    assert "--help=methods" in result.stdout.partition("--combine:")[2].partition("--config:")[0]
    assert "auto: fused if possible" in " ".join(result.stdout.partition("--reduction:")[2].split())


def test_data_that_are_not_prepared_are_answered_with_the_command(tmp_path):
    dataset = {"name": "tfds/mnist", "data_dir": str(tmp_path), "inputs": {"image": {}}, "targets": {"label": {}}}
    (tmp_path / "my.py").write_text(_EXPERIMENT.format(dataset=dataset))
    result = _forked("--config=my.py", cwd=tmp_path)
    _assert_one_line(result, "tfds/mnist", "python -m trainer.describe --config=my.py --download")
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.ci_only
def test_a_record_that_does_not_decode_is_named(tmp_path):
    images = [*np.zeros((20, 6, 4, 1), np.uint8)]
    images[13] = b"no picture"
    write_records(tmp_path / "train.tfrecord", images, np.arange(20))
    (tmp_path / "my.py").write_text(_EXPERIMENT.format(dataset=records_tree(tmp_path, feed="streaming")))
    result = _forked("--config=my.py", cwd=tmp_path)
    _assert_one_line(result, f"{tmp_path / 'train.tfrecord'}, record 13")
    assert not list(tmp_path.glob("*.png"))


def test_the_default_experiment_without_a_picture(tmp_path):
    """Numbers that are known by hand."""
    result = _forked("--combine=pcgrad", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert not list(tmp_path.iterdir())
    trunk = sum((9 * inputs + 1) * filters for inputs, filters in ((1, 32), (32, 64), (64, 64))) + (1024 + 1) * 128
    heads = {"digit": 129 * 10, "redraw": 129 * 128 + 129 * 64, "ink": 129}
    summary = result.stdout.partition("\n\n")[0].splitlines()
    assert len(summary) <= 8
    for line in (
        f"parameters: shared {trunk:,}, task-specific {sum(heads.values()):,}",
        f"reach:      {trunk:,} shared by all; " + "; ".join(f"{size:,} only {loss}" for loss, size in heads.items()),
        f"method:     pcgrad: {METHODS['pcgrad'].summary}; looks at {METHODS['pcgrad'].sees({})}",
        "steps:      a backward pass for every loss (chosen by reduction='auto': 'pcgrad' looks at inner products of "
        "the losses' gradients over all shared variables); applied jointly",
    ):
        assert line in summary
    products = 2 * (64 * 9 * 32 + 64 * 9 * 32 * 64 + 16 * 9 * 64 * 64 + 1024 * 128)  # of the trunk, an example
    assert 0.95 < products / (1e6 * float(re.search(r"forward ([\d.]+) M", result.stdout)[1])) < 1
    assert re.search(rf"shared +Adam +cosine_decay \(.*warmup_steps=1 epoch\) +8 +{trunk:,}", result.stdout)


def test_a_mistake_in_the_model_is_one_line(tmp_path):
    result = _forked("--config.model.heads.digit.0.units=5", cwd=tmp_path)
    _assert_one_line(result, "losses.digit.target='digit'", "holds 7", "none of the classes 0 to 4")
