"""Every name of a module, function or file that is kept as text leads somewhere."""

import dataclasses
import importlib
import importlib.util
import inspect
import pathlib
import re
import sys
from collections.abc import Iterator

import pytest

from input_pipelines.registry import DATASETS, SOURCES
from trainer.combine import registry

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOP = r"(?:trainer|input_pipelines|configs|launch|tests)"
READ = {".py", ".md", ".sh", ".sbatch", ".yaml", ".yml", ".toml", ""}
FUNCTION = re.compile(rf"[\"'`=](({TOP}(?:\.\w+)+):([A-Za-z]\w*))[\"'`]")
COMMAND = re.compile(rf"-m ({TOP}(?:\.\w+)+)")
FILE = re.compile(rf"(?<![\w./-])({TOP}(?:/\w+)*/\w+\.(?:py|sh|sbatch|lock|md|yaml))\b")
# Functions that tests name in order to be refused.
ABSENT = {
    "tests.trainer.components.test_losses:nothing",
    "tests.input_pipelines.test_operations:triple",
}


def _sources() -> list[pathlib.Path]:
    folders = (ROOT / name for name in ("trainer", "input_pipelines", "configs", "launch", "tests", ".ci", ".github"))
    inside = (path for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return sorted(path for path in (*inside, ROOT / "README.md") if path.is_file() and path.suffix in READ)


def _found(pattern: re.Pattern[str]) -> Iterator[tuple[str, re.Match[str]]]:
    for path in _sources():
        for match in pattern.finditer(path.read_text()):
            yield str(path.relative_to(ROOT)), match


@pytest.mark.parametrize("name", registry.METHODS)
def test_names_of_methods(name):
    """The name leads to an entry of that name in the file of its function, which takes the options by their names."""
    method = registry.METHODS[name]
    assert getattr(sys.modules[method.function.__module__], name.upper()) is method
    fields = () if method.options is None else dataclasses.fields(method.options)
    defaults = {field.name: field.metadata["default"] for field in fields}
    assert set(method.variants) <= set(defaults)
    for chosen in ({}, *({option: True} for option in method.variants)):
        variant, options = registry.resolve(name, defaults | chosen)
        given = 2 if variant.initial is not None or variant.looks_at is registry.LooksAt.ELEMENTS else 1
        for function, count in ((variant.function, given), (variant.initial, 1), (variant.observe, 3)):
            if function is not None:
                signature = inspect.signature(function)
                signature.bind(*range(count), **options)
                own = {key: signature.parameters[key].default for key in options if key in signature.parameters}
                assert all(value in (inspect.Parameter.empty, options[key]) for key, value in own.items()), function


@pytest.mark.parametrize("path", [*DATASETS.values(), *SOURCES.values()])
def test_functions_of_datasets_and_sources(path):
    module, _, function = path.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_functions_by_import_path():
    found = {match[1]: (file, match[2], match[3]) for file, match in _found(FUNCTION)}
    assert len(found) > 20
    for text, (file, module, name) in found.items():
        if text not in ABSENT:
            assert callable(getattr(importlib.import_module(module), name, None)), f"{file}: {text}"


def test_commands():
    found = {match[1]: file for file, match in _found(COMMAND)}
    assert len(found) > 10
    for module, file in found.items():
        spec = importlib.util.find_spec(module)
        assert spec is not None, f"{file}: {module}"
        if spec.submodule_search_locations is not None:
            assert importlib.util.find_spec(f"{module}.__main__") is not None, f"{file}: {module}"


def test_files():
    found = {match[1]: file for file, match in _found(FILE)}
    assert len(found) > 20
    for name, file in found.items():
        assert (ROOT / name).is_file(), f"{file}: {name}"
