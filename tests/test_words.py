"""One word for each thing: names and phrases that must not come back, and how docstrings begin."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ("trainer", "input_pipelines", "configs", "launch", "tests")
# Old name → the one that is used instead.
IDENTIFIERS = {
    "active_and_means": "active_and_normalizers",
    "averages_of_weights": "averages_of_variables",
    "build_updates": "build_groups",
    "can_rest": "can_be_skipped",
    "copy_from_chief": "broadcast_variables",
    "finds_weights": "finds_coefficients",
    "goes_on": "resumes",
    "going_on": "continues",
    "joint_weights": "joint_coefficients",
    "keeps_weights": "keeps_coefficients",
    "moving_rows": "gradient_averages",
    "MovingRows": "GradientAverages",
    "number_of_chief": "broadcast_number",
    "of_chief": "broadcast",
    "row_scales": "scales_of_averaged",
    "row_means": "shared_normalizers",
    "seed_systems": "worked_examples",
    "WeightAverage": "VariableAverage",
    "without_weights_or_every": "without_coefficients_or_every",
    "word_of_chief": "broadcast_text",
    "yields_weights": "yields_coefficients",
}
PHRASES = {
    "answered with": "say what is printed",
    "cadence": "interval",
    "goes on": "resumes, or continues",
    "so many": "N, or the given number of",
}
_UNCLEAR = re.compile(r"(What|Where|Which|Who|Whose|How|When|Whether|That|If)\b")


def _files(*patterns: str) -> list[pathlib.Path]:
    """The project's own files of these patterns, but this one."""
    found = [path for package in PACKAGES for pattern in patterns for path in (ROOT / package).rglob(pattern)]
    found += [path for pattern in patterns for path in ROOT.glob(pattern)]
    return sorted({*found} - {pathlib.Path(__file__).resolve()})


@pytest.mark.parametrize("old", IDENTIFIERS)
def test_old_names_do_not_come_back(old):
    pattern = re.compile(rf"(?<![A-Za-z0-9_]){old}(?![A-Za-z0-9_])")
    found = [str(path.relative_to(ROOT)) for path in _files("*.py", "*.md", "*.sh") if pattern.search(path.read_text())]
    assert not found, f"{old} is called {IDENTIFIERS[old]}"


@pytest.mark.parametrize("phrase", PHRASES)
def test_texts_are_in_plain_words(phrase):
    pattern = re.compile(rf"\b{phrase}", re.IGNORECASE)
    found = [str(path.relative_to(ROOT)) for path in _files("*.py", "*.md", "*.sh") if pattern.search(path.read_text())]
    assert not found, f"instead of {phrase!r}: {PHRASES[phrase]}"


def test_docstrings_begin_with_what_a_thing_returns_is_or_does():
    unclear = []
    for path in _files("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
                text = ast.get_docstring(node) or ""
                if _UNCLEAR.match(text):
                    unclear.append(f"{path.relative_to(ROOT)}: {text.splitlines()[0]}")
    assert not unclear, "\n".join(unclear)
