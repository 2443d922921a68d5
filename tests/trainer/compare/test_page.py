"""The page of a comparison: its numbers are those of `results.json`; and it works in a browser."""

import dataclasses
import itertools
import json
import re
import statistics
import xml.etree.ElementTree as ET  # noqa: N817 (its usual name)

import numpy as np
import pytest

from tests import chromium
from tests.trainer.compare import made_up
from tests.trainer.output.pages import Page, is_rounded, pictures
from trainer.compare import computing, page, page_settings, results_verdict
from trainer.compare.collected import Comparison, Timing
from trainer.output.reports import TRAIN, VALIDATION

ATTACK = "<script>alert(1)</script>"
METHODS = ("weighted", "pcgrad", "mgda", "cagrad", "famo", "dwa")


def _reports(losses: list[str], place: float, count: int, random: np.random.Generator) -> list:
    pairs = list(itertools.combinations(losses, 2))
    reports = []
    for index in range(1, count + 1):
        noise = dict(zip(pairs, random.uniform(-1, 1, len(pairs)).tolist(), strict=True))
        values = {f"cosine/{a}/{b}": value for (a, b), value in noise.items()}
        values |= {f"{kind}/{loss}": place / index for loss in losses for kind in ("loss", "grad_norm", "coefficient")}
        reports.append((10 * index, TRAIN, values))
        if index % 5 == 0:
            validated = {f"loss/{loss}": place / index + k for k, loss in enumerate(losses)}
            errors = {f"{loss}/mae": (place if k % 2 else 1 / place) + index**-2 for k, loss in enumerate(losses)}
            reports.append((10 * index, VALIDATION, validated | errors))
    return reports


def comparison(losses: list[str], seeds: int, count: int) -> Comparison:
    """A made-up comparison of all methods, one of which fails, beside single tasks."""
    random = np.random.default_rng(0)
    config = made_up.config({loss: [{"name": "MeanAbsoluteError", "as": "mae"}] for loss in losses})
    cells = []
    for index, method in enumerate(METHODS):
        own = {**config, "combine": {**config["combine"], "name": method}}
        places = 1 + 0.1 * index + 0.02 * random.normal(size=seeds)
        runs = [_reports(losses, place, count, random) for place in places]
        cells.append(made_up.cell(method, own, runs, end=10 * count))
    cells.append(made_up.cell("uncertainty", config, [None] * seeds, failures=dict.fromkeys(range(seeds), ATTACK)))
    for loss in losses:
        alone = {**config, "losses": {loss: config["losses"][loss]}}
        runs = [_reports([loss], 1.2, count, random) for _ in range(seeds)]
        cells.append(made_up.cell(f"single_task={loss}", alone, runs, single_task=loss, end=10 * count))
    timing = {name: Timing(0.01 * (k + 1), 10**8, "CPU", passes="1 pass") for k, name in enumerate(("sum", *METHODS))}
    return made_up.comparison(cells, timing)


@pytest.fixture(scope="module")
def made():
    """(comparison, results, HTML) of a made-up comparison."""
    found = comparison(["a", "b", "c"], seeds=3, count=10)
    results = computing.compute(found)
    return found, results, page.page(found, results)


def _check(shown: Page, results: dict) -> None:
    """The first table has the values of `results.json`, with as many digits as it shows."""
    headings, *rows = shown.tables[0]
    names = [text.rstrip(" ↑↓") for text, _ in headings]
    table = {row[0][0].partition("\n")[0]: dict(zip(names, row, strict=True)) for row in rows}
    main = [cell for cell in results["cells"] if cell["single_task"] is None]
    assert list(table)[: len(main)] == [cell["name"] for cell in main]
    alone = {cell["single_task"]: cell for cell in results["cells"] if cell["single_task"] is not None}
    counted = [metric for metric in results["metrics"] if metric["counts"]]
    assert counted
    for cell in results["cells"]:
        row = table.get(cell["name"])
        if row is not None:
            assert row["mean rank"][1] == cell["mean_rank"]
            assert row.get("Δm", ("", None))[1] == (cell["delta_m"] or {"mean": None})["mean"]
            if cell["failures"]:
                assert all(reason in row["cell"][0] for reason in cell["failures"].values())
        for metric in counted:
            if row is None and alone.get(metric["task"]) is not cell:
                continue
            own = (row or table["single task"])[metric["name"]]
            found = cell["estimates"].get(results["split"], {}).get(results["at"], {}).get(metric["name"])
            assert own[1] == (found and found["mean"])
            if found:
                mean, _, deviation = own[0].partition(" ± ")
                assert is_rounded(mean, found["mean"])
                assert is_rounded(deviation or "0", found["deviation"] or 0.0)


def test_numbers_of_the_page_equal_results_json(compared):
    shown, results = ((compared.workdir / name).read_text() for name in ("report.html", "results.json"))
    _check(Page(shown), json.loads(results))


def test_all_parts_of_a_comparison_are_shown(made):
    found, results, html = made
    shown = Page(html)
    _check(shown, json.loads(json.dumps(dataclasses.asdict(results))))
    titles = re.findall("<h2>(.*?)</h2>", html)
    assert titles == [
        *(
            "Results",
            "Pareto fronts",
            "Losses",
            "Metrics",
            "Conflicts",
            "Gradient norms",
            "Coefficients",
            "What was run",
        )
    ]
    assert not shown.loaded
    assert shown.scripts == 1
    assert ATTACK in shown.text
    assert all(note.replace("`", "") in shown.text for note in results.notes)
    assert found.command in shown.text
    verdict = results_verdict.sentences(results)
    assert f"<h1>{verdict[0][:-1]}</h1>" in html
    assert " ".join(verdict[1:]) in shown.text
    drawn = [each.find("{*}title").text for each in pictures(html)]
    assert [title for title in drawn if " and " in title] == ["a/mae and b/mae", "a/mae and c/mae", "b/mae and c/mae"]
    assert set(METHODS) <= set(drawn)  # a heat map of conflicts each
    costs = {name: row for name, row in shown.named_rows().items() if name in METHODS}
    assert [row[-2] for row in costs.values()] == [
        (f"{10 * k:.1f}\n{k:.2f} × sum; 1 pass", pytest.approx(10.0 * k)) for k in range(2, len(METHODS) + 2)
    ]


def test_the_share_of_conflicts_is_over_the_reports_of_all_seeds(made):
    found, _, html = made
    for cell in found.cells[: len(METHODS)]:
        values = [r.values["cosine/a/c"] for run in cell.runs.values() for r in run.reports if r.split == TRAIN]
        index = 1 + 2 * METHODS.index(cell.name)
        share, mean = Page(html).named_rows()["a · c"][index : index + 2]
        assert share[1] == pytest.approx(sum(value < 0 for value in values) / len(values), abs=1e-5)
        assert mean[1] == pytest.approx(statistics.mean(values), abs=1e-5)


def test_the_headline_compares_the_conflicts_of_a_cell_with_each_other_only(made):
    """A share of means and one of single steps say different things, so that the cells' pairs are counted."""
    found, _, html = made
    pairs = []
    for cell in found.cells[: len(METHODS)]:
        reports = [each for run in cell.runs.values() for each in run.reports if each.split == TRAIN]
        names = [name for name in reports[0].values if name.startswith("cosine/")]
        pairs.append(max(names, key=lambda name: sum(each.values[name] < 0 for each in reports)))
    pair = max(dict.fromkeys(pairs), key=pairs.count)
    names = " and ".join(pair.split("/")[1:])
    expected = (
        f"The gradients of {names} are those most often in conflict in {pairs.count(pair)} of {len(METHODS)} cells."
    )
    assert expected in Page(html).text


def test_settings_that_differ_are_listed_and_no_others():
    first = {"seed": 0, "model": {"name": "a", "units": [1, 2]}, "combine": {"name": "sum"}}
    second = {"seed": 1, "model": {"name": "b", "units": [1, 2], "depth": 3}, "combine": {"name": "sum"}}
    assert page_settings.differences({"x": first, "y": second}) == {
        "model.name": {"x": "a", "y": "b"},
        "model.depth": {"x": "–", "y": "3"},
    }


@pytest.mark.ci_only
@pytest.mark.skipif(chromium.PROGRAM is None, reason=chromium.MISSING)
def test_in_a_browser(tmp_path):
    """The page of 18 runs with 8 losses: small, soon drawn, as wide as the window; sorting, downloads, the keyboard."""
    found = comparison([f"property_{k}" for k in range(8)], seeds=3, count=100)
    path = page.write(dataclasses.replace(found, workdir=tmp_path), computing.compute(found))
    assert path.stat().st_size < 3 * 2**20
    (tmp_path / "profile").mkdir()
    with chromium.Browser(tmp_path / "profile") as browser:
        assert statistics.median(browser.open(path) for _ in range(3)) < 2
        order = "[...document.querySelector('table').tBodies[0].rows].map(row => +row.cells[1].dataset.value || -99)"
        sort = "document.querySelectorAll('table.sortable thead button')[1]"
        for direction, is_reversed in (("ascending", False), ("descending", True)):
            browser.run(f"{sort}.focus(), document.activeElement.click()")
            assert browser.run(f"{sort}.parentElement.ariaSort") == direction
            values = [value for value in browser.run(order) if value != -99]
            assert len(values) == len(METHODS)
            assert values == sorted(values, reverse=is_reversed)
        browser.run("document.querySelector('.legend button[data-series=pcgrad]').focus()")
        dim = "[...new Set([...document.querySelectorAll('figure .dim')].map(each => each.dataset.series))].sort()"
        assert browser.run(dim) == sorted({*METHODS, "single task"} - {"pcgrad"})
        shown = "[...document.querySelectorAll('#pairs figure')].filter(each => !each.hidden).length"
        assert browser.run(shown) == 1
        saved = browser.run(
            "new Promise(done => { URL.createObjectURL = blob => { blob.text().then(done); return '#'; };"
            "document.querySelector('figure .save').click(); })"
        )
        assert ET.fromstring(saved).find("{*}style").text.strip()
        for width in (400, 1400):
            browser.open(path, width)
            assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.errors == []
        assert browser.requests == [path.as_uri()]
