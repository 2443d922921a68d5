"""A folder of TFDS names classes of features; those of other code are imported only where they are trusted."""

import json
import shlex
import shutil
import sys

import numpy as np
import pytest

from input_pipelines import data
from input_pipelines.configuration import DatasetConfig
from tests import config_files, forked
from tests.answers import assert_one_line
from tests.input_pipelines import reading, user_files
from trainer.common import schema, trust
from trainer.common.errors import ConfigError, UntrustedError

OTHERS = "features_of_others"
CLASS = f"{OTHERS}.Own"
CODE = """
import pathlib
import tensorflow_datasets as tfds

pathlib.Path({marker!r}).touch()


class Own(tfds.features.Scalar):
    pass
"""
TFDS = "tensorflow_datasets.core.features"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A prepared folder whose feature `about/size` is of a class of others; their code makes the file `imported`."""
    (tmp_path / "data").mkdir()
    user_files.write_foreign(tmp_path / "data")
    (tmp_path / f"{OTHERS}.py").write_text(CODE.format(marker=str(tmp_path / "imported")))
    monkeypatch.syspath_prepend(tmp_path)
    about = _features(tmp_path)["featuresDict"]["features"]["about"]["featuresDict"]["features"]
    _write(tmp_path, _with(_features(tmp_path), about["size"], {"pythonClassName": CLASS}))
    yield tmp_path
    sys.modules.pop(OTHERS, None)


def _features(folder):
    return json.loads((folder / "data" / "features.json").read_text())


def _write(folder, features):
    (folder / "data" / "features.json").write_text(json.dumps(features))


def _with(tree, old, changes):
    """`tree` with `changes` in the dictionary `old`, wherever that is."""
    if tree == old:
        return tree | changes
    return {key: _with(value, old, changes) for key, value in tree.items()} if isinstance(tree, dict) else tree


def _tree(folder, **changes):
    size = {"size": {"feature": "about/size", "prepare": ["standardise"]}}
    picture = {"picture": {"prepare": [{"name": "scale", "by": 1.0}]}}
    return {"name": "tfds", "path": str(folder / "data"), "inputs": picture, "targets": size, **changes}


def _build(tree, *packages):
    return data.build(schema.record(DatasetConfig)(tree, "dataset"), trust=trust.in_packages(packages))


def test_a_class_of_others(folder):
    with pytest.raises(UntrustedError, match=f"features.json names {CLASS}, which is not trusted") as found:
        reading.build(_tree(folder))
    assert found.value.packages == (OTHERS,)
    assert not (folder / "imported").exists()
    given = reading.in_order(_build(_tree(folder), OTHERS).splits["validation"])["targets.size"]
    size = user_files.examples("train")["size"].astype(np.float64)
    expected = (user_files.examples("validation")["size"] - size.mean()) / size.std()
    np.testing.assert_allclose(given, expected, rtol=1e-5)
    assert (folder / "imported").exists()


@pytest.mark.parametrize(
    "features",
    [
        {"pythonClassName": CLASS, "tensor": {"dtype": "float32"}},
        {"python_class_name": CLASS, "tensor": {"dtype": "float32"}},
        {"type": CLASS, "content": {}},
        {
            "pythonClassName": f"{TFDS}.sequence_feature.Sequence",
            "sequence": {"feature": {"pythonClassName": CLASS, "tensor": {"dtype": "float32"}}, "length": "-1"},
        },
        {
            "pythonClassName": f"{TFDS}.features_dict.FeaturesDict",
            "jsonFeature": {"json": json.dumps({"x": {"type": CLASS, "content": {}}})},
        },
    ],
    ids=["class", "snake case", "old form", "sequence", "json in json"],
)
def test_however_it_is_written(folder, features):
    _write(folder, features)
    with pytest.raises(UntrustedError, match=f"names {CLASS}"):
        _build(_tree(folder), "other")
    assert not (folder / "imported").exists()


def test_the_standard_library_is_never_imported(folder):
    _write(folder, {"pythonClassName": "antigravity.Own", "tensor": {}})
    with pytest.raises(ConfigError, match="antigravity is of the standard library") as found:
        _build(_tree(folder), OTHERS)
    assert not isinstance(found.value, UntrustedError)
    assert "antigravity" not in sys.modules


def test_a_folder_found_by_its_name(folder):
    shutil.copytree(folder / "data", folder / "all" / "own" / "1.0.0")
    tree = _tree(folder, path=None, name="tfds/own", data_dir=str(folder / "all"))
    with pytest.raises(UntrustedError, match=f"dataset.name='tfds/own': its features.json names {CLASS}"):
        _build(tree)
    assert not (folder / "imported").exists()


@pytest.mark.parametrize(
    ("module", "flags"),
    [
        ("trainer.cost", []),
        pytest.param("trainer.describe", [], marks=pytest.mark.ci_only),
        pytest.param("trainer.main", ["--workdir=run", "--config.steps=1"], marks=pytest.mark.ci_only),
    ],
)
def test_commands_say_how_to_trust(folder, module, flags):
    tree = {
        "dataset": _tree(folder),
        "model": {"trunk": [{"layer": "Flatten"}], "heads": {"size": [{"layer": "Dense", "units": 1}]}},
        "losses": {"size": {"loss": "mse"}},
        "batch_size": 8,
    }
    (folder / "own.py").write_text(config_files.text(tree))
    refused = forked.run(module, "--config=own.py", *flags, cwd=folder)
    assert_one_line(refused, f"names {CLASS}, which is not trusted", f"-m {module} --config=own.py")
    assert not (folder / "imported").exists()
    *_, command = refused.stderr.partition("trust it: ")
    trusted = forked.run(*shlex.split(command)[2:], cwd=folder)
    assert trusted.returncode == 0, trusted.stderr
    assert (folder / "imported").exists()
