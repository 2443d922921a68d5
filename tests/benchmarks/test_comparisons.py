"""The tables of comparisons show what their results.json hold; the picture has a place for what is far off."""

import dataclasses
import json

import pytest

from tests.benchmarks import comparisons, comparisons_plot
from tests.benchmarks.comparisons import Compared
from trainer.compare.results import CellResult, DeltaM, Difference, Estimate, Metric, Results

METRICS = (
    Metric("a/accuracy", "a", "up", True),
    Metric("b/mae", "b", "down", True),
    Metric("loss/a", "a", "down", False),
)


def _cell(
    name: str, numbers: tuple[float, float], *, alone: str | None = None, delta: float | None = None
) -> CellResult:
    values = dict(zip(("a/accuracy", "b/mae"), numbers, strict=True))
    own = {key: value for key, value in values.items() if alone is None or key.startswith(alone)}
    estimates = {key: Estimate(value, 0.002, 3) for key, value in own.items()}
    delta_m = None if delta is None else DeltaM(delta, 1.0, delta - 1.5, delta + 1.5, 3, {}, None)
    splits = {"test": {"final": estimates}, "validation": {"final": {key: Estimate(9.0, 9.0, 3) for key in own}}}
    rank = None if delta is None else 1.5
    return CellResult(name, "sum" if alone else name, {}, alone, (0, 1, 2), {}, splits, {}, rank, delta_m, None, None)


@pytest.fixture(scope="module")
def compared() -> Compared:
    """Two methods and two losses alone, by way of results.json."""
    cells = (
        _cell("weighted", (0.9, 0.3), delta=-2.0),
        _cell("pcgrad", (0.95, 0.25), delta=3.0),
        _cell("single_task=a", (0.91, 0.0), alone="a"),
        _cell("single_task=b", (0.0, 0.27), alone="b"),
    )
    differences = (
        Difference("pcgrad", "weighted", "fixed", "b/mae", -0.05, -0.1, 0.1, 3, "not distinguishable", True),
        Difference("pcgrad", "weighted", "fixed", "delta_m", 5.0, 4.0, 6.0, 3, "better", False),
        Difference("weighted", "pcgrad", "best", "delta_m", -5.0, -6.0, -4.0, 3, "worse", False),
    )
    shown = {"split": "test", "at": "final", "metrics": METRICS, "cells": cells, "differences": differences}
    fields = {field.name: None for field in dataclasses.fields(Results)}
    found = Results(**fields | shown)
    return comparisons.shown(json.loads(json.dumps(dataclasses.asdict(found))))


def test_table(compared):
    assert comparisons.table("digits", compared).splitlines() == [
        "| Digits (test) | a/accuracy ↑ | b/mae ↓ | Δm, % ↑ | mean rank ↓ |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| `weighted` | 0.9000 ± 0.0020 | 0.3000 ± 0.0020 | −2.0 [−3.5, −0.5] | 1.50 |",
        "| `pcgrad` | 0.9500 ± 0.0020 | 0.2500 ± 0.0020 | 3.0 [1.5, 4.5] better | 1.50 |",
        "| each loss alone | 0.9100 ± 0.0020 | 0.2700 ± 0.0020 | 0 |  |",
    ]


def test_tables_of_a_page_are_replaced(compared):
    """The one with the same title, wherever it stands."""
    page = "# A page\n\n| Digits (test) | old |\n| --- |\n| `x` |\n\n| Digits, tuned (test) | other |\n| --- |\n\nEnd\n"
    new = comparisons.table("digits", compared)
    expected = f"# A page\n\n{new}\n\n| Digits, tuned (test) | other |\n| --- |\n\nEnd\n"
    assert comparisons.updated(page, {"digits": compared}) == expected


@pytest.mark.parametrize(
    ("means", "low", "high"),
    [
        ((-2.0, 3.0, 1.0), -3.0, 4.0),
        ((2.0, 3.0, 4.0), 0.0, 5.0),  # 0, each loss alone, is always there
        ((-2.0, 3.0, 1.0, -4000.0), -3.0, 4.0),  # far off
        ((-38.0, -126.0, -94.0, -141.0, -336.0), -337.0, 0.0),
    ],
)
def test_ends_of_an_axis(means, low, high):
    """Intervals are within, with a margin; a method far below all others does not press them together."""
    found = comparisons_plot.ends([(mean, mean - 1, mean + 1) for mean in means])
    margin = 0.07 * (high - low)
    assert found == pytest.approx((low - margin, high + margin))
