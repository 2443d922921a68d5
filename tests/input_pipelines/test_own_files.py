"""Each kind of a user's own files, trained on: runs resume exactly, changed data and bad files are named."""

import io
import json
import pathlib
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from absl import logging
from rich.console import Console

from tests import config_files, forked, problems
from tests.input_pipelines import reading, user_files
from tests.properties import built_once, interrupted
from tests.properties.interrupted import results
from trainer.common.errors import ConfigError, RunError
from trainer.config import loading
from trainer.output import workdir
from trainer.run import evaluate, train

FEEDS_OF = [(kind, feed) for kind, (_, streams) in user_files.KINDS.items() for feed in reading.FEEDS[: 1 + streams]]
# CI has the time for all of them; by hand one of each way to feed.
BY_HAND = [("csv.gz", "memory"), ("tfds directory", "streaming")]


def _tree(dataset: dict, **changes) -> dict:
    """Two losses on one hidden layer; picture or columns alike."""
    return {
        "precision": "float64",
        "batch_size": 8,
        "steps": 12,
        "report_every": 4,
        "eval_every": 6,
        "checkpoint_every": 5,
        "keep_checkpoints": 9,
        "reduction": "fused",
        "dataset": {"window": reading.TINY_WINDOW, **dataset},
        "model": {
            "trunk": [{"layer": "Flatten"}, {"layer": "Dense", "units": 5, "activation": "tanh"}],
            "heads": {
                "kind": [{"layer": "Dense", "units": user_files.CLASSES}],
                "size": [{"layer": "Dense", "units": 90 if dataset["name"] == "image_folder" else 1}],
            },
        },
        "losses": {
            "kind": {
                "head": "kind",
                "target": "kind",
                "loss": {"name": "sparse_categorical_crossentropy", "from_logits": True},
            },
            "size": {"head": "size", "target": "size", "loss": "mse"},
        },
        **changes,
    }


def _train(path: pathlib.Path, dataset: dict, **changes) -> None:
    config = loading.resolve(_tree(dataset, **changes))
    train.train(config, str(path), problems.strategy(1), Console(file=io.StringIO()))


def _evaluate(path: pathlib.Path):
    run = workdir.open_run(str(path))
    config = loading.load_saved(run.config)
    return evaluate.evaluate(config, run, problems.strategy(1), Console(file=io.StringIO()))


@pytest.mark.parametrize(
    ("kind", "feed"),
    [pytest.param(*each, marks=[] if each in BY_HAND else [pytest.mark.ci_only]) for each in FEEDS_OF],
)
def test_interrupted_runs_go_on_exactly(tmp_path, kind, feed):
    """Every report, and every bit of every variable, in the middle of an epoch and of a report."""
    write, _ = user_files.KINDS[kind]
    (tmp_path / "files").mkdir()
    dataset = write(tmp_path / "files") | {"feed": feed}
    with built_once.building_once():
        _assert_goes_on_exactly(tmp_path, dataset, feed)


def _assert_goes_on_exactly(tmp_path: pathlib.Path, dataset: dict, feed: str) -> None:
    _train(tmp_path / "run", dataset)
    expected = results(tmp_path / "run", 12)
    learned = (tmp_path / "run" / "data.json").read_bytes()
    assert json.loads(learned)["feeds"] == {"dataset": feed}
    interrupted.forget_after(tmp_path / "run", 5)
    _train(tmp_path / "run", dataset)
    assert results(tmp_path / "run", 12) == expected
    assert (tmp_path / "run" / "data.json").read_bytes() == learned
    final = json.loads(expected["reports"].splitlines()[-1])
    assert _evaluate(tmp_path / "run").values == {name: final[name] for name in final if name not in ("step", "split")}


def test_statistics_are_those_of_the_training_split_and_last(tmp_path):
    """On resume and in evaluation, too: what is validated on has another mean, and does not count."""
    random = np.random.RandomState(0)
    sizes = {"train": random.normal(3, 2, 40), "validation": random.normal(-50, 9, 16)}
    for split, size in sizes.items():
        np.savez(tmp_path / f"{split}.npz", x=size[:, np.newaxis], size=size, kind=np.arange(len(size)) % 3)
    dataset = {
        "name": "npz",
        "path": str(tmp_path),
        "splits": {split: f"{split}.npz" for split in sizes},
        "inputs": {"x": {"prepare": ["standardise"]}},
        "targets": {"kind": {}, "size": {"prepare": ["standardise"]}},
    }
    _train(tmp_path / "run", dataset)
    learned = json.loads((tmp_path / "run" / "data.json").read_text())["statistics"]["dataset"]
    of_size = learned["dataset.targets.size"][0]
    assert of_size["mean"] == pytest.approx(sizes["train"].mean())
    assert of_size["deviation"] == pytest.approx(sizes["train"].std())
    # Other statistics than the data's own tell whether it is the saved ones that are used.
    of_size["mean"] += 5
    saved = json.loads((tmp_path / "run" / "data.json").read_text())
    saved["statistics"]["dataset"] = learned
    (tmp_path / "run" / "data.json").write_text(json.dumps(saved))
    for resumes in (_evaluate, lambda path: _train(path, dataset)):
        with pytest.raises(ConfigError, match=r"its data.json does not have the checksum that step_00000012 holds of"):
            resumes(tmp_path / "run")
    interrupted.accept_data(tmp_path / "run")
    before = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    after = _evaluate(tmp_path / "run").values
    assert after["loss/kind"] == before["loss/kind"]
    assert after["loss/size"] != pytest.approx(before["loss/size"], rel=0.01)
    _train(tmp_path / "run", dataset)
    assert json.loads((tmp_path / "run" / "data.json").read_text()) == saved


# ---------------------------------------------------------------------------------------------------------------------
# Data that changed.
# ---------------------------------------------------------------------------------------------------------------------


def _change_csv(folder: pathlib.Path) -> None:
    """Another class in one row."""
    path = folder / "validation.csv"
    header, first, *rest = path.read_text().splitlines()
    cells = first.rsplit(",", 2)
    cells[1] = str((int(cells[1]) + 1) % 3)
    path.write_text("\n".join([header, ",".join(cells), *rest]) + "\n")


def _change_npz(folder: pathlib.Path) -> None:
    arrays = dict(np.load(folder / "validation.npz"))
    arrays["kind"][3] = (arrays["kind"][3] + 1) % 3
    np.savez(folder / "validation.npz", **arrays)


def _change_tfrecord(folder: pathlib.Path) -> None:
    path = folder / "validation-00001-of-00003.tfrecord"
    records = [tf.train.Example.FromString(each) for each in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()]
    label = records[2].features.feature["kind"].int64_list.value
    label[0] = (label[0] + 1) % 3
    user_files.write_records(path, [each.SerializeToString() for each in records])


def _change_image_folder(folder: pathlib.Path) -> None:
    path = max((folder / "validation" / "a").iterdir())
    path.rename(folder / "validation" / "b" / path.name)


CHANGES = {
    "csv": _change_csv,
    "npz": _change_npz,
    "tfrecord": _change_tfrecord,
    "image_folder": _change_image_folder,
}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[] if kind == "csv" else [pytest.mark.ci_only]) for kind in CHANGES],
)
def test_one_changed_label_is_noticed(tmp_path, kind, monkeypatch):
    write, _ = user_files.KINDS[kind]
    (tmp_path / "files").mkdir()
    dataset = write(tmp_path / "files")
    _train(tmp_path / "run", dataset, steps=2)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "files", elsewhere)
    _train(tmp_path / "run", dataset | {"path": str(elsewhere)}, steps=2)  # the same data in another place
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    CHANGES[kind](elsewhere)
    with pytest.raises(ConfigError, match="dataset: the validation split has changed since the run began"):
        _train(tmp_path / "run", dataset | {"path": str(elsewhere)}, steps=4)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    CHANGES[kind](tmp_path / "files")
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda message, *values: warnings.append(message % values))
    _evaluate(tmp_path / "run")
    assert warnings == ["dataset: the validation split has changed since the run began"]


# ---------------------------------------------------------------------------------------------------------------------
# Labels outside the head's classes.
# ---------------------------------------------------------------------------------------------------------------------


def _write_wrong_class(folder: pathlib.Path, split: str) -> dict:
    """Record 4 of the second of three files is of a class that there is not."""
    dataset = user_files.write_tfrecords(folder)
    path = folder / f"{split}-00001-of-00003.tfrecord"
    records = [tf.train.Example.FromString(each) for each in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()]
    records[4].features.feature["kind"].int64_list.value[0] = 7
    user_files.write_records(path, [each.SerializeToString() for each in records])
    return dataset


@pytest.mark.parametrize("split", ["train", pytest.param("validation", marks=pytest.mark.ci_only)])
def test_a_class_that_there_is_not(tmp_path, split):
    """In memory it is found before the first step; streaming names the record where it is read."""
    (tmp_path / "files").mkdir()
    dataset = _write_wrong_class(tmp_path / "files", split)
    place = re.escape(str(tmp_path / "files" / f"{split}-00001-of-00003.tfrecord")) + ", record 4"
    words = "holds 7, which is none of the classes 0 to 2"
    place_of_head = rf" of head 'kind' \({split} split: {place}\)"
    with pytest.raises(ConfigError, match=rf"losses\.kind\.target='kind': {words}{place_of_head}"):
        _train(tmp_path / "memory", dataset | {"feed": "memory"})
    assert not (tmp_path / "memory").exists()
    with pytest.raises(RunError, match=rf"{place}: target 'kind' {words}") as found:
        _train(tmp_path / "streaming", dataset | {"feed": "streaming"})
    assert "\n" not in str(found.value)


# ---------------------------------------------------------------------------------------------------------------------
# The command line.
# ---------------------------------------------------------------------------------------------------------------------


def _assert_answered(home: pathlib.Path, dataset: dict, code: int, *words: str) -> None:
    """One line, no traceback, this exit code; no directory of a run where it was found before the first step."""
    (home / "config.py").write_text(config_files.text(_tree(dataset, steps=30)))
    result = forked.run("trainer.main", "--config=config.py", "--workdir=run", cwd=home)
    assert result.returncode == code, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line
    assert (home / "run").exists() == (code == 1)


def _flip(path: pathlib.Path) -> None:
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)


def _cut(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize(
    ("harm", "file", "changes", "code", "words"),
    [
        pytest.param(_cut, "train-00001-of-00003", {}, 2, ["cut off within record 17"], id="cut off"),
        pytest.param(
            _flip,
            "train-00001-of-00003",
            {"feed": "memory"},
            2,
            ["train-00001-of-00003.tfrecord, record 17", "corrupted"],
            id="a bit",
            marks=pytest.mark.ci_only,
        ),
        pytest.param(
            _flip,
            "validation-00001-of-00003",
            {"feed": "streaming"},
            1,
            ["evaluation after step 6", "validation-00001-of-00003.tfrecord, record 6", "corrupted"],
            id="a bit, while reading",
        ),
        pytest.param(
            None,
            "",
            {"targets": {"kind": {}, "size": {"feature": "sise"}}},
            2,
            ["dataset.targets.size.feature='sise'", "did you mean 'size'", "colour, index, kind"],
            id="feature",
        ),
    ],
)
def test_answers_of_the_command_line(tmp_path, harm, file, changes, code, words):
    (tmp_path / "files").mkdir()
    dataset = user_files.write_tfrecords(tmp_path / "files")
    if harm is not None:
        harm(tmp_path / "files" / f"{file}.tfrecord")
    _assert_answered(tmp_path, dataset | changes, code, file, *words)
