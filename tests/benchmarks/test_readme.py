"""The tables of README.md beside this file are those that the programs print, as far as these can be run in a test."""

import re

import numpy as np
import pytest
from PIL import Image

from tests import forked
from tests.benchmarks import comparisons, comparisons_plot
from tests.readmes import FRONT, MEASURED, PAGES, ROOT, section
from trainer.combine.registry import METHODS

PAGE = PAGES[MEASURED]
PICTURE = ROOT / ".github" / "comparison.png"


def _run(*arguments: str) -> str:
    with forked.started(*arguments, cwd=ROOT) as program:
        result = program.wait(1200)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_numbers_of_the_front_page():
    """They are the measured ones, rounded."""
    shown = {
        "`keras_conv_2`": "1.96",
        "`torchjd_pcgrad_one_at_a_time`": "1.34",
        "`weights_40`": "14",
        "plain TFDS at its best / in memory, 128 examples": "30",
        "plain TFDS at its best / streaming, 128 examples": "2.5",
    }
    rows = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
    for name, number in shown.items():
        (row,) = (row for row in rows if row[0] == f"| {name}")
        measured = float(row[3] if name.startswith("`") else row[2])
        assert float(f"{measured:.{len(number.replace('.', ''))}g}") == float(number), name
        assert re.search(rf"(?<![\d.]){re.escape(number)} times", section(FRONT, "Four numbers")), name


def test_table_of_methods_is_complete():
    """One row for every method, in the registry's order, with its paper and a measured cost."""
    (table,) = re.findall(r"^\| `--combine` \| .*\n\|.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \| ([\d.]+) \|$", table, re.MULTILINE)
    assert [name for name, *_ in rows] == list(METHODS)
    for name, title, *_ in rows:
        assert METHODS[name].summary in title
        assert all(part in title for part in METHODS[name].paper)


def test_tables_of_comparisons():
    """They are those of the committed results, all methods on all data sets."""
    results = comparisons.committed()
    assert {"digits", "census", "fashion", "river"} <= {*results} <= {*comparisons.TITLES}
    for name, compared in results.items():
        assert comparisons.table(name, compared) in PAGE
        assert len(compared.rows) == 8
        assert {*compared.alone} == {*compared.directions}


def test_picture_of_comparisons(tmp_path):
    """The committed picture is of the committed results; another version of what draws it may draw a little else."""
    comparisons_plot.save(comparisons.committed(), comparisons.TITLES, str(tmp_path / "picture.png"))
    drawn, shown = (np.asarray(Image.open(path).convert("L"), float) for path in (tmp_path / "picture.png", PICTURE))
    assert drawn.shape == shown.shape
    assert np.abs(drawn - shown).mean() < 1


@pytest.mark.ci_only
def test_table_of_worked_examples():
    """The benchmark gives the table's rows of a quick example of each kind; other processors round differently."""
    names = ["partially_shared", "separate_optimizers", "weighted_slices"]
    output = _run("tests.benchmarks.worked_examples", f"--config={','.join(names)}")
    for name in names:
        measured, promised = (
            {key: float(value) for key, value in re.findall(r"([a-z_]+ [a-z_0-9]+) (-?[\d.]+)", row.split("|")[3])}
            for row in (re.search(rf"^\| `{name}` .*$", text, re.MULTILINE)[0] for text in (output, PAGE))
        )
        assert len(promised) == 2
        assert measured == pytest.approx(promised, abs=0.03), name


@pytest.mark.ci_only
def test_table_of_costs():
    """The prediction is arithmetic: its rows are the table's, to the digit. 40 losses take minutes to trace."""
    (command,) = re.findall(r"`python -m (trainer\.cost .*--markdown)`", PAGE)
    assert "--losses=3,10,40" in command
    fewer = command.replace("--losses=3,10,40", "--losses=3,10")
    rows = [line for line in _run(*fewer.split()).splitlines() if line.startswith("| ")]
    assert len(rows) > 10
    for row in rows:
        assert f"{row}\n" in PAGE


@pytest.mark.ci_only
def test_bounds_that_do_not_depend_on_the_machine():
    """The bytes reduced are those of the formula; step times are measured by hand."""
    output = _run("tests.benchmarks.step", "--check", "--only=payload")
    assert output.count("| yes |") == 3
