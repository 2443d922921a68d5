"""The picture of a run, whatever the number of losses."""

import time
import warnings

import numpy as np
import pytest
from matplotlib import image

from trainer.output import curves, panels, plots
from trainer.output.reports import TRAIN, VALIDATION, Report


def _reports(losses: list[str]) -> list[Report]:
    pairs = [f"cosine/{a}/{b}" for index, a in enumerate(losses) for b in losses[index + 1 :]]
    training = {name: 0.5 for loss in losses for name in (f"loss/{loss}", f"grad_norm/{loss}")}
    validation = {name: 0.5 for loss in losses for name in (f"loss/{loss}", f"{loss}/mae")}
    training |= dict.fromkeys(pairs, 0.1)
    validation["monitor/{loss0/mae} - 2"] = -1.5
    return [*(Report(step, TRAIN, training) for step in (1, 2)), Report(2, VALIDATION, validation)]


@pytest.mark.parametrize(("count", "of_pairs"), [(1, []), (3, ["cosines", "mean"])])
def test_each_loss_each_kind_of_metric_and_the_conflicts_have_a_panel(count, of_pairs, pictures):
    losses = [f"loss{index}" for index in range(count)]
    figure, _ = plots.draw(curves.of_reports(_reports(losses)), losses, "run · pcgrad")
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    expected = [f"loss {loss}" for loss in losses] + ["validation mae", "{loss0/mae} - 2", "gradient norms"]
    assert titles[: len(expected)] == expected
    assert [title.split()[0] for title in titles[len(expected) :]] == of_pairs
    assert figure.texts[0].get_text() == "run · pcgrad"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*losses, TRAIN, VALIDATION]
    lines = {axis.get_title(): len(axis.lines) for axis in figure.axes}
    assert lines["validation mae"] == lines["gradient norms"] == count
    figure.canvas.draw()
    legend = figure.legends[0].get_window_extent()
    assert all(not legend.overlaps(axis.get_tightbbox()) for axis in figure.axes if axis.get_title())


@pytest.mark.parametrize("count", [8, pytest.param(40, marks=pytest.mark.ci_only)])
def test_many_losses_are_drawn_soon_and_every_row_is_named(count, tmp_path, pictures):
    losses = [f"loss{index}" for index in range(count)]
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns where a panel has no room
        values = curves.of_reports(_reports(losses))
        cosines = plots.save_curves(values, losses, tmp_path / "curves.png", "run")
    assert time.process_time() - started < (3 if count == 8 else 8)  # 0.4 and 1.5 on an idle core
    picture = image.imread(tmp_path / "curves.png")
    assert picture.shape[1] > 1000
    assert cosines.shape[2] == 3
    assert cosines.shape[1] > 1000
    assert np.ptp(cosines) == 255  # black letters, white paper
    figure, boxes = plots.draw(values, losses, "run")
    rows = {axis.get_title(): [text.get_text() for text in axis.texts] for axis in figure.axes}
    for panel, box in boxes:
        if panel.rows:
            assert rows[panel.title][: panel.rows] == [*(losses if panel.kind == panels.MATRIX else panel.names)]
            assert box.height / panel.rows > 0.115  # inches, a line of 6 points with what is around it


def test_of_many_pairs_those_are_shown_that_conflict_most():
    losses = [f"l{index}" for index in range(12)]
    pairs = [f"cosine/{a}/{b}" for index, a in enumerate(losses) for b in losses[index + 1 :]]
    values = {pair: (index * 7 % 66) / 66 for index, pair in enumerate(pairs)}
    found = panels.panels_of(curves.of_reports([Report(5, TRAIN, values)]), losses)
    (panel,) = (panel for panel in found if panel.kind == panels.COSINE)
    assert list(panel.names.values()) == sorted(pairs, key=values.get)[:40]
    assert panel.title == "cosines of the 40 pairs of 66 that conflict most"


def test_an_interval_of_a_heat_map_is_the_mean_of_its_finite_values():
    means = panels.interval_means([1, 2, 3, 10], [1.0, 3.0, float("nan"), 5.0], np.array([0, 2, 4, 8, 10]))
    np.testing.assert_array_equal(means, [2.0, np.nan, np.nan, 5.0])


def test_every_column_of_a_heat_map_has_a_report_and_ends_with_one():
    """Whatever the distances between reports: the first are closer."""
    np.testing.assert_array_equal(panels.interval_edges([[1, 10, 100, 200], [100, 200]]), [0, 1, 10, 100, 200])
    many = [1.0, 10.0, *range(100, 50_000, 100)]
    edges = panels.interval_edges([many])
    assert (edges[0], edges[-1]) == (0, many[-1])
    assert len(edges) <= 26
    assert np.all(np.isfinite(panels.interval_means(many, many, edges)))
    np.testing.assert_array_equal(panels.interval_edges([[], []]), [0, 1])


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.09, 120, [0.1, 1, 10, 100]),
        (0.4, 12, [1, 3, 10]),
        (1.9, 5.1, [2, 5]),
        (1e-12, 1e12, 10.0 ** np.arange(-12, 13, 5)),
        (2.001, 2.999, [2.2505, 2.5, 2.7495]),
    ],
)
def test_a_logarithmic_axis_has_a_few_round_numbers(low, high, ticks):
    found = panels.log_ticks(low, high)
    assert all(low <= tick <= high for tick in found)
    assert 3 <= len(found) <= 6
    if len(ticks) > 2:
        np.testing.assert_allclose(found, ticks)
