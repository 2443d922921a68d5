"""Digests of loaded modules and versions of installed packages."""

import hashlib
import importlib
import sys
import types

import pytest
import tensorflow as tf

from trainer.common import loaded_code
from trainer.common.loaded_code import LoadedCode

MINE = "def loss(target, prediction):\n    return 1.0\n"


@pytest.fixture
def imported(tmp_path, monkeypatch):
    """A function that loads the module `my_losses` from a new folder, and returns what is then loaded."""

    def load(folder: str, text: str) -> LoadedCode:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "my_losses.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path / folder))
        monkeypatch.delitem(sys.modules, "my_losses", raising=False)
        importlib.import_module("my_losses")
        return loaded_code.loaded()

    yield load
    sys.modules.pop("my_losses", None)


def test_a_module_goes_by_its_file_in_whatever_folder(imported):
    first, elsewhere, changed = imported("a", MINE), imported("b", MINE), imported("c", MINE.replace("1.0", "2.0"))
    assert first.digests["my_losses"] == hashlib.sha256(MINE.encode()).hexdigest()
    assert loaded_code.differences(first._asdict(), elsewhere) == []
    file = changed.files["my_losses"]
    assert file.endswith("/c/my_losses.py")
    assert loaded_code.differences(first._asdict(), changed) == [f"module my_losses ({file}) is not the same"]


def test_a_named_module_is_not_run(tmp_path, monkeypatch):
    package = tmp_path / "my_package"
    package.mkdir()
    for name in ("__init__", "my_models"):
        (package / f"{name}.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = loaded_code.loaded(["my_package.my_models", "my_package.absent", "absent.my_models", "os", "12"])
    assert found.digests.keys() - loaded_code.loaded().digests.keys() == {"my_package.my_models"}
    assert "my_package" not in sys.modules


def test_what_is_installed_goes_by_its_version(tmp_path, monkeypatch):
    packages = tmp_path / "site-packages"
    names = ("package", "loose", "_starts_python", "trainer")
    for name in names:
        (packages / name).mkdir(parents=True)
        (packages / name / "__init__.py").write_text("")
        module = types.ModuleType(name)
        module.__file__ = str(packages / name / "__init__.py")
        monkeypatch.setitem(sys.modules, name, module)
    for share, version in (("share_a", "1"), ("share_b", "2")):  # of one namespace
        about = packages / f"{share}-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Name: {share}\nVersion: {version}\n")
        (about / "RECORD").write_text(f"namespace/{share}.py,,\n")
    about = packages / "my_distribution-1.2+local.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: my_distribution\nVersion: 1.2+local\n")
    (about / "top_level.txt").write_text("package\ntrainer\n")
    shared = types.ModuleType("namespace.share_b")
    shared.__file__ = str(packages / "namespace" / "share_b.py")
    monkeypatch.setitem(sys.modules, "namespace.share_b", shared)
    monkeypatch.syspath_prepend(str(packages))
    loaded_code._distributions.cache_clear()
    found = loaded_code.loaded()
    loaded_code._distributions.cache_clear()
    assert found.versions["my_distribution"] == "1.2+local"
    assert found.versions["share_b"] == "2"
    assert "share_a" not in found.versions
    assert {name for name in names if name in found.digests} == {"loose", "trainer"}


def test_what_this_process_has_loaded():
    """Neither the standard library nor packages are among the digests; the trainer and its tests are."""
    found = loaded_code.loaded()
    assert {"Python", "tensorflow", "keras", "numpy", "pytest"} <= found.versions.keys()
    tops = {name.partition(".")[0] for name in found.digests}
    assert {"trainer", "input_pipelines", "tests"} <= tops
    assert not tops & {*sys.stdlib_module_names, "tensorflow", "keras", "numpy", "pytest", "rich"}


def test_code_that_tensorflow_makes_is_left_out():
    """It has another name in every process."""

    def doubled(value: tf.Tensor) -> tf.Tensor:
        if value > 0:
            value *= 2
        return value

    before = loaded_code.loaded()
    assert tf.function(doubled)(tf.constant(1)) == 2
    assert loaded_code.loaded().digests == before.digests


def test_no_module_is_asked_for_what_it_would_import(monkeypatch):
    class Lazy(types.ModuleType):
        def __getattr__(self, name: str) -> object:
            raise AssertionError(name)

    monkeypatch.setitem(sys.modules, "lazy_module", Lazy("lazy_module"))
    monkeypatch.setitem(sys.modules, "refused_module", None)
    loaded_code.loaded()


def test_differences():
    """Both must have the same of what both have loaded; one alone may load the trainer's modules and packages."""
    there = {
        "versions": {"Python": "3.11.7", "keras": "3.15.1", "rich": "15"},
        "digests": {"trainer.main": "1", "trainer.output.plots": "2", "mine": "3", "mine.fast": "4"},
    }
    digests = {"trainer.main": "0", "trainer.run": "2", "mine": "0", "mine.slow": "4"}
    here = LoadedCode({"Python": "3.11.7", "keras": "3.15.0", "tqdm": "4"}, digests, dict.fromkeys(digests, "/f.py"))
    shared = ["module mine (/f.py) is not the same", "module trainer.main (/f.py) is not the same"]
    keras = "keras is 3.15.1 there and 3.15.0 here"
    assert loaded_code.differences(there, here, of_both_only=True) == [*shared, keras]
    alone = ["module mine.fast is loaded there and not here", "module mine.slow (/f.py) is loaded here and not there"]
    assert loaded_code.differences(there, here) == [
        shared[0],
        *alone,
        "module trainer.main (/f.py) is not the same",
        keras,
    ]


def test_of_many_differences_a_few_are_named():
    names = [f"trainer.{number}" for number in range(9)]
    here = LoadedCode({}, dict.fromkeys(names, "0"), dict.fromkeys(names, "/f.py"))
    found = loaded_code.differences({"versions": {}, "digests": dict.fromkeys(names, "1")}, here)
    assert found[-2:] == ["module trainer.2 (/f.py) is not the same", "6 more modules differ"]
