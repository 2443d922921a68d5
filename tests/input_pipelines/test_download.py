"""`--download`: of several processes one prepares, what fails leaves nothing, and answers have the command."""

import contextlib
import fcntl
import pathlib

import pytest

from tests import forked

# A dataset that needs no network and can be made to fail; importing it registers it.
CONFIG = """
import os

import ml_collections
import numpy as np
import tensorflow_datasets as tfds


class HomeMade(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict({"x": np.float32, "y": np.float32, "kind": np.int64})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        with open("preparations", "a") as file:
            file.write("one\\n")
        return {"train": self._generate_examples(60), "validation": self._generate_examples(20)}

    def _generate_examples(self, count):
        for index in range(count):
            if index == 7 and "FAIL" in os.environ:
                raise KeyError("the seventh example")
            yield index, {"x": index / 10, "y": index / 20, "kind": index % 2}


def get_config():
    return ml_collections.ConfigDict(
        {
            "steps": 3,
            "batch_size": 8,
            "dataset": {
                "name": "tfds/home_made",
                "data_dir": "data",
                "inputs": {"x": {}},
                "targets": {"y": {}, "kind": {}},
            },
            "model": {
                "trunk": [{"layer": "Reshape", "target_shape": [1]}],
                "heads": {"y": [{"layer": "Dense", "units": 1}], "kind": [{"layer": "Dense", "units": 2}]},
            },
            "losses": {
                "y": {"head": "y", "target": "y", "loss": "mse"},
                "kind": {
                    "head": "kind",
                    "target": "kind",
                    "loss": {"name": "sparse_categorical_crossentropy", "from_logits": True},
                },
            },
        }
    )
"""


@pytest.fixture
def home(tmp_path):
    (tmp_path / "config.py").write_text(CONFIG)
    return tmp_path


def _left(home: pathlib.Path) -> set[str]:
    """All below the data's folder, except the file by which processes wait for one another."""
    return {str(path.relative_to(home / "data")) for path in (home / "data").rglob("*") if path.name != ".preparing"}


@pytest.mark.ci_only
def test_of_several_processes_one_prepares(home):
    """This test prepares, as it were, until all of them wait; then one does, and all of them train."""
    (home / "data").mkdir()
    with contextlib.ExitStack() as stack:
        with (home / "data" / ".preparing").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            commands = [["--config=config.py", f"--workdir=run{number}", "--download"] for number in range(3)]
            processes = [stack.enter_context(forked.started("trainer.main", *own, cwd=home)) for own in commands]
            for process in processes:
                assert process.warns("waiting for another process that prepares data in "), process.wait()
        for number, process in enumerate(processes):
            ended = process.wait()
            assert ended.returncode == 0, ended.stderr
            assert (home / f"run{number}" / "report.md").exists()
    assert (home / "preparations").read_text() == "one\n"
    assert {path.split("/")[0] for path in _left(home)} == {"downloads", "home_made"}
    assert not any("incomplete" in path for path in _left(home))


def test_what_cannot_be_prepared_leaves_nothing(home):
    arguments = ["--config=config.py", "--workdir=run0", "--download"]
    result = forked.run("trainer.main", *arguments, cwd=home, FAIL="1")
    assert result.returncode == 2, result.stderr
    line = result.stderr.splitlines()[-1]
    assert line.startswith("error: dataset.name='tfds/home_made': cannot be prepared: ")
    assert "the seventh example" in line
    assert "Traceback" not in result.stderr
    assert not (home / "run0").exists()
    assert not [path for path in _left(home) if "1.0.0" in path]


def test_the_answer_has_the_command_that_prepares(home):
    arguments = ["--config=config.py", "--workdir=run", "--config.steps=4"]
    result = forked.run("trainer.main", *arguments, cwd=home)
    (line,) = result.stderr.splitlines()
    assert result.returncode == 2
    assert line.startswith("error: dataset.name='tfds/home_made': is not prepared in ")
    command = f"python -m trainer.main {' '.join(arguments)} --download"
    assert line.endswith(f"this prepares it: {command}")
    assert not (home / "run").exists()
