"""`python -m trainer.describe`: what it prints and leaves, and mistakes in one line."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tests import forked
from tests.answers import NO_TENSORFLOW_SECONDS, assert_one_line
from tests.trainer.describe.records import records_tree, write_records

_EXPERIMENT = """
import ml_collections


def get_config():
    return ml_collections.ConfigDict(
        {{
            "dataset": {dataset!r},
            "model": {{"heads": {{"head": [{{"layer": "Dense", "units": 1}}]}}}},
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


def test_shows_a_dataset_and_keeps_what_is_there(records):
    folder, _, _ = records
    (folder / "my.py").write_text(_EXPERIMENT.format(dataset=records_tree(folder, feed="streaming", window=16)))
    result = _forked("--config=my.py", "--output=shown.png", cwd=folder)
    assert result.returncode == 0, result.stderr
    for words in ("streaming, in windows of 16", "25.0 %", "label: balance", "all 40 examples of train", " a second"):
        assert words in result.stdout
    assert result.stdout.splitlines()[-1] == "Picture: shown.png"
    with Image.open(folder / "shown.png") as image:
        assert image.format == "PNG"
    before = (folder / "shown.png").read_bytes()
    again = _forked("--config=my.py", "--output=shown.png", cwd=folder)
    _assert_one_line(again, "--output='shown.png'", "exists already")
    assert (folder / "shown.png").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--output=there.png"], ["--output='there.png'", "exists already"]),
        (["--output=data.jpg"], ["--output='data.jpg'", "PNG"]),
        (["--output=nowhere/data.png"], ["--output='nowhere/data.png'", "no folder nowhere"]),
        (["--output="], ["--output=''", "PNG"]),
        (["--config=nowhere.py"], ["--config='nowhere.py'", "existing Python file"]),
        (["--config.dataset.name=mnits"], ["dataset.name='mnits'", "digits"]),
        (["--outptu=a.png"], ["outptu", "output"]),
        (["digits"], ["arguments='digits'"]),
    ],
)
def test_mistakes_that_need_no_tensorflow(tmp_path, root, arguments, words):
    (tmp_path / "there.png").write_text("kept")
    start = time.monotonic()
    result = _run(*arguments, cwd=tmp_path, root=root)
    assert time.monotonic() - start < NO_TENSORFLOW_SECONDS
    _assert_one_line(result, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["there.png"]


def test_help_is_quick_and_has_no_list_of_methods(tmp_path, root):
    start = time.monotonic()
    result = _run("--help", cwd=tmp_path, root=root)
    assert time.monotonic() - start < NO_TENSORFLOW_SECONDS
    assert (result.returncode, result.stderr) == (0, "")
    for flag in ("--config", "--output", "--[no]download"):
        assert flag in result.stdout
    assert "pcgrad" not in result.stdout


def test_data_that_are_not_prepared_are_answered_with_the_command(tmp_path):
    dataset = {"name": "tfds/mnist", "data_dir": str(tmp_path), "inputs": {"image": {}}, "targets": {"label": {}}}
    (tmp_path / "my.py").write_text(_EXPERIMENT.format(dataset=dataset))
    result = _forked("--config=my.py", cwd=tmp_path)
    _assert_one_line(result, "tfds/mnist", "python -m trainer.describe --config=my.py --download")
    assert not (tmp_path / "data.png").exists()


def test_a_record_that_does_not_decode_is_named(tmp_path):
    images = [*np.zeros((20, 6, 4, 1), np.uint8)]
    images[13] = b"no picture"
    write_records(tmp_path / "train.tfrecord", images, np.arange(20))
    (tmp_path / "my.py").write_text(_EXPERIMENT.format(dataset=records_tree(tmp_path, feed="streaming")))
    result = _forked("--config=my.py", cwd=tmp_path)
    _assert_one_line(result, f"{tmp_path / 'train.tfrecord'}, record 13")
    assert not (tmp_path / "data.png").exists()
