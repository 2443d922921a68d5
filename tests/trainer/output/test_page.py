"""The page of a run: its numbers and pictures, whatever its losses, reports and names are."""

import math
import re
import time
import warnings
from array import array

import numpy as np
import pytest

from tests.trainer.output.pages import SVG, Page, picture, pictures, places
from trainer.output.curves import of_reports
from trainer.output.page import digits, heat_map, lines, over_time, run, scale, scatter, series
from trainer.output.page.scatter import Axis, Point
from trainer.output.reports import TRAIN, VALIDATION, Report

NAN = float("nan")


def _config(losses: list[str]) -> dict:
    own = {"head": "all", "metrics": [{"name": "MeanAbsoluteError", "as": "mae"}], "weighted_metrics": []}
    monitors = dict.fromkeys(("best", "early_stopping", "reduce_on_plateau"))
    combine = {"name": "pcgrad", "apply": "joint"}
    common = {"metrics": {}, "batch_size": 8, "seed": 3, "combine": combine, **monitors}
    return {"losses": dict.fromkeys(losses, own), **common}


def _reports(losses: list[str], steps: int = 3, cosine: float | None = -0.5) -> list[Report]:
    reports = []
    for step in range(1, steps + 1):
        training = {f"{kind}/{loss}": step / 10 for loss in losses for kind in ("loss", "grad_norm", "coefficient")}
        if cosine is not None:
            pairs = [(a, b) for index, a in enumerate(losses) for b in losses[index + 1 :]]
            training |= {f"cosine/{a}/{b}": cosine * (-1) ** step for a, b in pairs}
        validation = {name: 1 / (step + k) for k, loss in enumerate(losses) for name in (f"loss/{loss}", f"{loss}/mae")}
        reports += [Report(step, TRAIN, training), Report(step, VALIDATION, validation)]
    return reports


def _page(losses: list[str], reports: list[Report], name: str = "run", **arguments) -> str:
    return run.page(
        name, _config(losses), of_reports(reports), titles={VALIDATION: "Validation"}, words="pcgrad", **arguments
    )


HEADINGS = ["Results", "Losses", "Metrics", "Conflicts", "Gradient norms", "Coefficients", "What was run"]


@pytest.mark.parametrize(
    ("losses", "reports", "missing"),
    [
        (["a", "b", "c"], _reports(["a", "b", "c"]), []),
        ([f"property_{k}" for k in range(40)], _reports([f"property_{k}" for k in range(40)]), []),
        (["a"], _reports(["a"]), ["Conflicts"]),
        (["a", "b"], _reports(["a", "b"], cosine=None), ["Conflicts"]),
        (["a", "b"], _reports(["a", "b"], steps=1), []),
        (
            ["a", "b"],
            [Report(1, VALIDATION, {"loss/a": NAN, "loss/b": None, "a/mae": 0.0})],
            ["Losses", *HEADINGS[3:6]],
        ),
        (["a", "b"], [Report(4, VALIDATION, {"loss/a": 0.5, "loss/b": 0.25})], HEADINGS[2:6]),
    ],
    ids=["three", "forty", "one loss", "fused", "one report", "not finite", "no metrics"],
)
def test_sections_of_whatever_a_run_has_reported(losses, reports, missing):
    html = _page(losses, reports)
    page = Page(html)
    titles = [title for title in HEADINGS if f"<h2>{title}</h2>" in html]
    assert titles == [title for title in HEADINGS if title not in missing]
    assert not page.loaded
    assert page.scripts == 1
    for each in pictures(html):
        assert each.find(f"{SVG}desc").text
        assert "nan" not in " ".join(path.get("d", "") for path in each.iter(f"{SVG}path"))
    rows = page.named_rows()
    last = {name: value for report in reports if report.split == VALIDATION for name, value in report.values.items()}
    for loss in losses:
        expected = last[f"loss/{loss}"]
        shown = rows[loss][1]
        assert shown[1] == (None if expected is None or math.isnan(expected) else expected)


def test_names_are_text():
    name = "</script><script>alert(1)</script>&\x00\ud800"
    losses = [name, "b"]
    html = _page(losses, _reports(losses), name, notes=[name], versions={name: name}, commands=[name])
    page = Page(html)
    assert page.scripts == 1
    assert page.text.count("<script>alert(1)</script>&\ufffd") > 6
    assert any("<script>" in each.find(f"{SVG}title").text for each in pictures(html))
    html.encode()  # UTF-8 can hold it


def test_best_values_go_by_their_direction_and_say_their_step():
    reports = [Report(step, VALIDATION, {"loss/a": value}) for step, value in ((5, 0.5), (1_000, 0.25), (2_000, 1.0))]
    assert Page(_page(["a"], reports)).named_rows()["a"][1] == ("1.000\nbest 0.2500 at 1,000", 1.0)


def test_what_monitors_watch_is_drawn_once():
    watched = "monitor/{a/mae} * 2"
    curves = [of_reports([Report(1, VALIDATION, {watched: 0.5, "a/mae": 0.25})])]
    groups = [series.Group(label, curves, style) for style, label in enumerate(("x", "y"))]
    for some, metrics in ((groups, [watched, "a/mae"]), (groups[:1], ["a/mae"])):
        (section,) = over_time.sections(some, ["a"], metrics)
        titles = sorted(each.find(f"{SVG}title").text.removeprefix("monitor/") for each in pictures(section.body))
        assert titles == ["a/mae", "{a/mae} * 2"]


def test_a_long_run_is_thinned_to_its_means():
    steps = np.arange(1.0, 100_001)
    values = np.random.default_rng(0).normal(size=len(steps))
    pair = {TRAIN: (array("d", steps), array("d", values))}
    validated = {VALIDATION: (array("d", steps), array("d", np.abs(values)))}
    curves = {"cosine/a/b": pair, "cosine/a/c": pair, "grad_norm/a": pair, "loss/a": pair | validated}
    started = time.process_time()
    html = run.page("long", _config(["a", "b", "c"]), curves, titles={VALIDATION: "Validation"}, words="sum")
    assert time.process_time() - started < 2  # 0.2 alone
    assert len(html) < 150_000
    assert f"{(values < 0).mean():.0%}".replace("%", "\xa0%") in Page(html).text
    drawn = series.line(series.Group("a", [curves], 0), "grad_norm/a", TRAIN)
    inner = np.array([part.mean() for part in np.array_split(values, series.POINTS)])
    np.testing.assert_allclose(drawn.values, inner, atol=2e-3)
    assert (drawn.low.min(), drawn.high.max()) == (values.min(), values.max())


def test_a_line_of_several_runs_is_their_mean_with_the_sample_deviation():
    runs = [{1: 1.0, 2: 4.0, 3: 2.0}, {1: 3.0, 2: 5.0, 3: 2.0}, {1: 8.0, 2: NAN}]
    curves = [of_reports(Report(step, TRAIN, {"loss/a": value}) for step, value in own.items()) for own in runs]
    found = series.line(series.Group("a", curves, 0), "loss/a", TRAIN)
    np.testing.assert_array_equal(found.steps, [1, 2, 3])
    np.testing.assert_allclose(found.values, [4.0, 4.5, 2.0])
    np.testing.assert_allclose(found.high - found.values, [np.std([1, 3, 8], ddof=1), np.std([4, 5], ddof=1), 0.0])
    np.testing.assert_allclose(found.values - found.low, found.high - found.values)
    assert series.line(series.Group("a", curves, 0), "loss/b", TRAIN) is None


@pytest.mark.parametrize("values", [[1.0, 2.0, 4.0], [1.0, 10.0, 100.0]], ids=["linear", "logarithmic"])
def test_a_line_goes_through_its_values_by_the_numbers_of_the_axis(values):
    reports = [Report(step, VALIDATION, {"loss/a": value}) for step, value in zip((10, 20, 40), values, strict=True)]
    drawn = picture(_page(["a"], reports), "loss/a")
    line = next(each for each in drawn.iter(f"{SVG}path") if each.get("class") == "line")
    known = _vertical(drawn)
    transform = np.log if values[-1] == 100 else np.asarray
    slope, offset = np.polyfit(transform([number for number, _ in known]), [place for _, place in known], 1)
    for (_, down), value in zip(places(line.get("d")), values, strict=True):
        assert down == pytest.approx(slope * transform(value) + offset, abs=0.2)


def _vertical(drawn):
    """(number, place) of the vertical axis, as its text says and where it stands."""
    texts = [each for each in drawn.iter(f"{SVG}text") if each.get("text-anchor") == "end"]
    return [(float(each.text.replace(",", "")), float(each.get("y")) - 3.5) for each in texts]


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.9497, 0.9603), (-3, 7), (1e-9, 3e-9), (4e5, 9e8), (0, 2), (12, 13), (-1e-5, 1e-5)]
)
@pytest.mark.parametrize("is_log", [False, True])
def test_numbers_of_an_axis_say_where_they_stand(low, high, is_log):
    if is_log and low <= 0:
        low = high / 1e5
    axis = scale.Scale(low, high, 0.0, 100.0, is_log)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 8
    for value, text in ticks:
        assert low - 1e-9 * high <= value <= high * (1 + 1e-9)
        assert float(text.replace(",", "").replace("\N{MINUS SIGN}", "-")) == pytest.approx(
            value, abs=1e-3 * (high - low)
        )
    assert len({text for _, text in ticks}) == len(ticks)


def test_cosines_are_coloured_and_those_below_zero_counted():
    values = np.array([0.5, -0.2, -0.05, np.nan, 0.05, -1.0, 1.0])
    row = heat_map.Row("a · b", values, mean=0.1, below=0.5)
    drawn = picture(heat_map.draw("cosines", [row], np.arange(1.0, 8.0)), "cosines")
    paths = {each.get("class"): each.get("d") for each in drawn.iter(f"{SVG}path")}
    assert {class_ for class_ in paths if class_[0] == "q"} == {"q6", "q2", "q3", "q4", "q0", "q7"}
    assert [path.count("M") for class_, path in paths.items() if class_[0] == "q"] == [1] * 6
    width = (float(paths["q0"].split("H")[1].split("v")[0]) - float(paths["q0"][1:].split(" ")[0])) / 1
    assert width == pytest.approx((float(paths["q7"].split("H")[1].split("v")[0]) - _left(drawn)) / 7, abs=0.1)
    losses = ["a", "b", "c"]
    reports = [
        Report(step, TRAIN, {"cosine/a/b": ab, "cosine/a/c": 0.5, "cosine/b/c": None})
        for step, ab in enumerate((-0.5, 0.25, -0.25, 0.1), start=1)
    ]
    page = Page(_page(losses, [*reports, Report(4, VALIDATION, {"loss/a": 1.0})]))
    rows = {name: cells[1:] for name, cells in page.named_rows().items()}
    assert rows["a · b"] == [("50\xa0%", 0.5), ("−0.10", pytest.approx(-0.1))]
    assert rows["a · c"] == [("0\xa0%", 0.0), ("0.50", 0.5)]
    assert "The gradients of a and b conflict in 50\xa0% of the reports" in page.text


def _left(drawn):
    base = next(each for each in drawn.iter(f"{SVG}path") if each.get("class") == "base")
    return float(base.get("d")[1:].split(" ")[0])


@pytest.mark.parametrize("directions", [("up", "up"), ("up", "down"), ("down", "down")])
def test_the_pareto_front_equals_a_search_through_all_points(directions):
    random = np.random.default_rng(1)
    places_ = random.integers(0, 6, (25, 2)).astype(float)
    points = [Point(f"cell{index}", index, *place) for index, place in enumerate(places_)]
    x, y = (Axis(name, direction) for name, direction in zip("xy", directions, strict=True))
    signs = [1 if direction == "up" else -1 for direction in directions]
    better = lambda a, b: all(a >= b) and any(a > b)  # noqa: E731
    signed = places_ * signs
    expected = {f"cell{k}" for k, own in enumerate(signed) if not any(better(other, own) for other in signed)}
    assert {point.label for point in scatter.front(points, x, y)} == expected
    table = scatter.draw(points, x, y).table
    assert {row[0] for row in table[1:] if row[3]} == expected


def test_names_at_the_ends_of_lines_do_not_meet():
    moved = lines.apart([10.0, 11.0, 12.0, 100.0, 118.0, 119.0], 0.0, 120.0)
    assert all(after - before >= 11.4 for before, after in zip(moved, moved[1:], strict=False))
    assert moved[0] >= 0
    assert moved[-1] <= 120


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (digits.number(0.123456), "0.1235"),
        (digits.number(-12345.6), "−12,346"),
        (digits.number(1.5e-7), "1.50e−7"),
        (digits.number(0.0), "0"),
        (digits.number(NAN), "–"),
        (digits.with_deviation(0.95074, 0.00312), "0.9507 ± 0.0031"),
        (digits.with_deviation(1234.5, 67.8), "1,234 ± 68"),
        (digits.with_deviation(0.5, None), "0.5000"),
        (digits.with_deviation(0.5, 0.0), "0.5000 ± 0"),
        (digits.signed(-0.0321, 1), "0.0"),
        (digits.signed(3.21, 1), "+3.2"),
        (digits.percent(0.425), "42\xa0%"),
    ],
)
def test_numbers_have_digits_that_say_something(text, expected):
    assert text == expected


@pytest.mark.parametrize(
    "values",
    [
        (1e308, -1e308, 1e308),
        (5e-324, 1e-322, 0.0),
        (1.0, 1.0 + 2**-52, 1.0),
        (1e-310, 1.0, 1e305),
        (1e-140, 1.0, 1e140),
        (-0.0, 0.0, 0.0),
    ],
)
@pytest.mark.parametrize("runs", [1, 3])
def test_any_numbers_are_drawn(values, runs):
    reports = [Report(step, VALIDATION, {"loss/a": value}) for step, value in enumerate(values, start=1)]
    groups = [series.Group(label, [of_reports(reports)] * runs, 0) for label in "xy"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        html = over_time.sections(groups, ["a"], [])[0].body + _page(["a"], reports)
    for each in pictures(html):
        words = " ".join(path.get("d", "") for path in each.iter(f"{SVG}path"))
        assert max(abs(float(number)) for number in re.findall(r"-?[\d.]+(?:e[+-]?\d+)?", words)) < 1000
        assert not re.search("nan|inf", words)
