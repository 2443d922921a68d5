"""The picture of a run, whatever the number of losses."""

import warnings

import pytest
from matplotlib import image

from trainer.output import plots
from trainer.output.reports import TRAIN, VALIDATION, Report

PANEL = 440  # pixels: 4 inches at 110 dots


def _reports(losses: list[str]) -> list[Report]:
    pairs = [f"cosine/{a}/{b}" for index, a in enumerate(losses) for b in losses[index + 1 :]]
    training = {name: 0.5 for loss in losses for name in (f"loss/{loss}", f"grad_norm/{loss}")}
    validation = {name: 0.5 for loss in losses for name in (f"loss/{loss}", f"{loss}/mae")}
    training |= dict.fromkeys(pairs, 0.1)
    validation["monitor/{loss0/mae} - 2"] = -1.5
    return [*(Report(step, TRAIN, training) for step in (1, 2)), Report(2, VALIDATION, validation)]


@pytest.mark.parametrize(("count", "width", "height"), [(1, 3, 2), (6, 6, 2), (12, 6, 3)])
def test_the_panels_of_many_losses_stand_below_one_another(count, width, height, tmp_path, pictures):
    losses = [f"loss{index}" for index in range(count)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns where a panel has no room
        plots.save_curves(_reports(losses), losses, tmp_path / "curves.png")
    pixels = image.imread(tmp_path / "curves.png")
    assert pixels.shape[:2] == (height * 352, width * PANEL)
