"""A run's own file and the data are data: of the code that they name, only what is trusted is imported and called."""

import ast
import sys

import pytest

from tests.test_layers import modules
from trainer.common import trust
from trainer.common.errors import ConfigError, UntrustedError

MINE = "mine_to_trust"
UNPICKLING = {"pickle", "dill", "joblib", "marshal", "shelve"}


def _check(tree, *, packages=(), own=None):
    allowed = trust.in_packages(packages)
    if own is not None:
        allowed = allowed.naming(own)
    allowed.check(tree, "run")
    allowed.check_definitions(tree, "run")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module of the user's own, which makes a file where it is imported."""
    marker = tmp_path / "imported"
    (tmp_path / f"{MINE}.py").write_text(
        f"import functools, os, pathlib\nfrom os import system\nfrom keras.layers import TFSMLayer as Hidden\n"
        f"from configs.own_model import build\nfrom numpy.random import RandomState\n"
        f"pathlib.Path({str(marker)!r}).touch()\n"
        "def own(): ...\nclass Own: ...\nclass Caller:\n    def __call__(self): ...\ncaller = Caller()\n"
        "part = functools.partial(system, 'true')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield marker
    sys.modules.pop(MINE, None)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"model": {"name": "os:system"}}, ["os:system (model.name)", "os is of the standard library"]),
        ({"losses": {"a": {"metrics": [{"name": "builtins:exec"}]}}}, ["losses.a.metrics.0.name", "builtins is of"]),
        ({"any": {"key": ["posix:system"]}}, ["posix:system (any.key.0)"]),
        ({"a": "os.path:join"}, ["os is of the standard library"]),
        ({"a": "__main__:main"}, ["__main__ is of"]),
        ({"a": ".os:system"}, ["'.os' is no name of a module"]),
        ({"a": f"{MINE}..os:system"}, ["is no name of a module"]),
        ({"a": "trainer.common.import_paths:load"}, ["of this project itself, only configs, input_pipelines.datasets"]),
        ({"a": "input_pipelines.sources.catalogue:prepare"}, ["of this project itself"]),
        ({"a": "launch.workers:main"}, ["of this project itself"]),
        ({"trunk": [{"layer": "TFSMLayer", "filepath": "x"}]}, ["gives trunk.0 the layer TFSMLayer", "--config=FILE"]),
        ({"trunk": [{"layer": "tfsm_layer", "filepath": "x"}]}, ["the layer TFSMLayer"]),
        ({"heads": {"a": [{"layer": "lambda", "function": "x"}]}}, ["heads.a.0", "Lambda"]),
        ({"a": {"b": {"layer": "jax_layer"}}}, ["a.b", "JaxLayer"]),
        ({"layer": "StringLookup", "vocabulary": "/etc/passwd"}, ["StringLookup"]),
        ({"cell": {"class_name": "Lambda", "config": {}}}, ["gives cell an object of Keras by class_name (Lambda)"]),
        ({"kernel_regularizer": {"class_name": "f", "config": {}, "module": "m"}}, ["by class_name (f)"]),
        ({"kernel_regularizer": {"class_name": "L2", "config": {"l2": {"class_name": "f"}}}}, ["config.l2"]),
    ],
)
def test_never(mine, tree, words):
    """Nor where the module is trusted, or where the user's own configuration names the standard library."""
    for own in (None, {"b": "os:system", "c": "posix:system"}):
        with pytest.raises(ConfigError) as found:
            _check({"first": f"{MINE}:own", **tree}, packages=[MINE], own=own)
        assert all(word in str(found.value) for word in words), str(found.value)
        assert not isinstance(found.value, UntrustedError)
    assert not mine.exists()


def test_packages_that_are_not_trusted_are_all_named_at_once(mine):
    tree = {"a": f"{MINE}:own", "b": {"c": ["other.part:f", "configs.own_model:build"]}}
    with pytest.raises(UntrustedError) as found:
        _check(tree, packages=["third"])
    assert found.value.packages == (MINE, "other", "third")
    assert f"{MINE}:own (a), other.part:f (b.c.0);" in str(found.value)
    assert "configs" not in str(found.value)
    assert not mine.exists()


def test_what_is_called(mine):
    _check({"name": "configs.own_model:build", "layer": "trainer.models.coulomb:CoulombMatrix"})
    _check(
        {"kernel_regularizer": {"class_name": "L2", "config": {"l2": 0.5}}, "when": "12:30:15", "a": "tfds/mnist:3.0.1"}
    )
    _check({"layer": "StringLookup", "vocabulary": ["a"]})
    assert not mine.exists()
    _check({"a": f"{MINE}:own", "b": f"{MINE}:Own", "c": f"{MINE}:build"}, packages=[MINE])
    assert mine.exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("system", ["posix", "of the standard library"]),
        ("part", ["a partial", "only classes and functions"]),
        ("caller", ["a Caller", "only classes and functions"]),
        ("os", ["names a module"]),
        ("RandomState", ["numpy.random", "not trusted"]),
    ],
)
def test_a_trusted_module_also_has_what_it_imports(mine, name, words):
    with pytest.raises(ConfigError) as found:
        _check({"a": f"{MINE}:{name}"}, packages=[MINE])
    assert all(word in str(found.value) for word in words), str(found.value)


def test_a_layer_that_loads_files_under_another_name(mine):
    for path in (f"{MINE}:Hidden", "keras.layers:TFSMLayer"):
        with pytest.raises(ConfigError, match="which may load files or run code"):
            _check({"layer": path}, packages=[MINE, "keras"])


def test_what_the_users_own_configuration_names(mine):
    """Exactly that: another function of the same module is not named."""
    loads = {"layer": "TFSMLayer", "filepath": "x"}
    own = {"model": f"{MINE}:part", "trunk": [loads]}
    _check({"trunk": [loads], "loss": f"{MINE}:part"}, own=own)
    assert not mine.exists()
    with pytest.raises(UntrustedError):
        _check({"model": f"{MINE}:own"}, own=own)
    with pytest.raises(ConfigError, match="TFSMLayer"):
        _check({"trunk": [loads | {"filepath": "y"}]}, own=own)


def test_another_package_of_the_name_of_one_of_the_projects(tmp_path, monkeypatch):
    """`configs` of the folder in which the command is given is not the project's."""
    monkeypatch.delitem(sys.modules, "configs", raising=False)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    others = {"a": "configs.own_model:build"}
    with pytest.raises(UntrustedError, match=r"configs\.own_model:build"):
        trust.NOBODY.check(others, "run")
    trust.in_packages(["configs"]).check(others, "run")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("os", "of the standard library"),
        ("trainer", "of this project itself"),
        ("my.part", "without a dot"),
        ("", "without a dot"),
    ],
)
def test_what_cannot_be_trusted(name, words):
    with pytest.raises(ConfigError, match=f"^--trust={name!r}: .*{words}"):
        trust.in_packages(["mine", name])


def test_nothing_unpickles_or_loads_whole_models():
    """No module of the project loads a `.keras` file or a SavedModel, or reads a pickle.

    But for the program that tries an export, which loads what has just been written.
    """
    read = []
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not UNPICKLING & {alias.name for alias in node.names}, name
            called = getattr(node, "func", None)
            function = getattr(called, "attr", getattr(called, "id", None))
            tries = name == "trainer.export.own_runtime" and function == "load_model"
            assert tries or function not in ("load_model", "load_weights", "enable_unsafe_deserialization"), name
            if function == "load" and ast.unparse(called) == "np.load":
                read.append(ast.unparse(node))
    assert set(read) == {"np.load(path, allow_pickle=False)"}
