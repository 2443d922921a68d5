"""The picture of a run, whatever the number of losses."""

import time
import warnings

import numpy as np
import pytest
from matplotlib import image

from trainer.output import plots
from trainer.output.reports import TRAIN, VALIDATION, Report


def _reports(losses: list[str]) -> list[Report]:
    pairs = [f"cosine/{a}/{b}" for index, a in enumerate(losses) for b in losses[index + 1 :]]
    training = {name: 0.5 for loss in losses for name in (f"loss/{loss}", f"grad_norm/{loss}")}
    validation = {name: 0.5 for loss in losses for name in (f"loss/{loss}", f"{loss}/mae")}
    training |= dict.fromkeys(pairs, 0.1)
    validation["monitor/{loss0/mae} - 2"] = -1.5
    return [*(Report(step, TRAIN, training) for step in (1, 2)), Report(2, VALIDATION, validation)]


@pytest.mark.parametrize(("count", "of_pairs"), [(1, []), (3, ["cosines", "mean"]), (8, ["cosines", "mean"])])
def test_each_loss_each_kind_of_metric_and_the_conflicts_have_a_panel(count, of_pairs, pictures):
    losses = [f"loss{index}" for index in range(count)]
    figure = plots.draw(plots._curves(_reports(losses)), losses, "run · pcgrad")
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


def test_forty_losses_are_rows_of_heat_maps_and_drawn_soon(tmp_path, pictures):
    losses = [f"loss{index}" for index in range(40)]
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns where a panel has no room
        plots.save_curves(_reports(losses), losses, tmp_path / "curves.png", "run")
    assert time.process_time() - started < 8  # 2 alone
    assert image.imread(tmp_path / "curves.png").shape[1] > 2000


def test_an_interval_of_a_heat_map_is_the_mean_of_its_finite_values():
    means = plots._interval_means([1, 2, 3, 10], [1.0, 3.0, float("nan"), 5.0], np.array([0, 2, 4, 8, 10]))
    np.testing.assert_array_equal(means, [2.0, np.nan, np.nan, 5.0])
