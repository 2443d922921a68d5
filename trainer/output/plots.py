"""The picture of a run: every loss, metrics, gradient norms, coefficients and conflicts over steps."""

import io
import math
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from trainer.common import atomic_files
from trainer.output import panels as panels_lib
from trainer.output.curves import Curves
from trainer.output.panels import COSINE, MATRIX, MOST_LINES, Panel
from trainer.output.reports import TRAIN, VALIDATION

_SMALL = 16  # rows of a heat map that have room for their names in a panel of the usual size
_MANY = 20  # panels, which are drawn in fewer pixels
_INCHES = (3.6, 2.7)  # of a panel: its width and height; large ones are wider, and as high as their rows need
_ROW = 0.115  # inches
_AROUND = {False: (0.95, 0.25, 0.5, 0.35), True: (2.3, 0.25, 0.5, 0.35)}  # a panel's axes: left, right, below, above
_COLUMN_NAMES = 0.4  # inches more below a matrix
_SCALE = 0.25  # inches more beside a heat map, for the numbers of its scale
_CHARACTERS = {False: 18, True: 42}  # of a row's name
_HEAD = 0.45  # above all panels, for the title; a line of the legend takes _LINE more
_LINE = 0.22
_STYLE = {  # given to axes when they are made, which is quicker than to change them
    "axes.grid": True,
    "axes.labelsize": 8,
    "axes.titlesize": 9,
    "axes.titley": 1.0,  # matplotlib looks for a place otherwise
    "grid.alpha": 0.3,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
}
_COLOURS = ("#1f77b4", "#d95f02", "#1b9e77", "#9467bd", "#8c564b", "#e377c2", "#555555", "#bcbd22")

Picture = np.ndarray  # (height, width, 3) uint8


class Box(NamedTuple):
    """The place of a panel in inches from the lower left corner, with what is around its axes."""

    left: float
    bottom: float
    width: float
    height: float


def save_curves(curves: Curves, losses: Sequence[str], path: pathlib.Path, title: str = "") -> Picture | None:
    """Draws losses (training and validation), metrics, gradient norms, coefficients and cosines against steps.

    Args:
      curves: all values of the run.
      losses: names of the losses, and of metrics without one.
      path: PNG file to write.
      title: above all panels.

    Returns:
      The part of the picture that shows the cosines over steps; None where there are none.
    """
    from PIL import Image

    figure, boxes = draw(curves, losses, title)
    figure.canvas.draw()
    pixels, file = np.asarray(figure.canvas.buffer_rgba())[:, :, :3], io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    atomic_files.write_whole(path, file.getvalue())
    return next((_part(pixels, box, figure.dpi) for panel, box in boxes if panel.kind == COSINE), None)


def draw(curves: Curves, losses: Sequence[str], title: str) -> tuple[Any, list[tuple[Panel, Box]]]:
    """Returns the figure and its panels: for each loss, for each kind of metric, then those of the gradients."""
    # Takes a second, which a start, and a worker that draws nothing, can spare.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = panels_lib.panels_of(curves, losses)
    boxes, width, height = _layout(panels)
    handles, columns, head = _legend(losses, width)
    figure = Figure(figsize=(width, height + head), dpi=110 if len(panels) <= _MANY else 90)
    FigureCanvasAgg(figure)
    last = max((steps[-1] for own in curves.values() for steps, _ in own.values() if steps), default=1.0)
    colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(losses)}
    with rc_context(_STYLE):
        for panel, box in zip(panels, boxes, strict=True):
            _add(figure, panel, box, curves, colours, last)
            if len(panels) > _MANY and any(_is_below(other, box) for other in boxes):
                figure.axes[-1].xaxis.set_visible(False)  # the lowest one of a column has the steps of all
    top = figure.get_figheight()
    figure.text(0.1 / width, 1 - 0.15 / top, title, ha="left", va="top", fontsize=12, weight="bold")
    place = (0.05 / width, 1 - (_HEAD - 0.05) / top)
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=place, ncols=columns, frameon=False, fontsize=8)
    return figure, list(zip(panels, boxes, strict=True))


def _add(figure: Any, panel: Panel, box: Box, curves: Curves, colours: Mapping[str, str], last: float) -> None:
    """Paints a panel in its box; all of them show the steps up to `last`."""
    large = _is_large(panel)
    left, right, below, above = _AROUND[large]
    right += _SCALE if panel.rows else 0
    below += _COLUMN_NAMES if panel.kind == MATRIX else 0
    inside = (box.left + left, box.bottom + below, box.width - left - right, box.height - below - above)
    axis = figure.add_axes([each / of for each, of in zip(inside, (*figure.get_size_inches(),) * 2, strict=True)])
    panels_lib.paint(panel, axis, curves, colours, _CHARACTERS[large])
    axis.set_title("\n".join(textwrap.wrap(panel.title, 90 if large else 46)[:2]))
    if panel.kind != MATRIX:
        axis.locator_params(axis="x", nbins=10 if large else 4)
        axis.set_xlim(0 if panel.rows else -0.02 * last, last if panel.rows else 1.02 * last)
        axis.set_xlabel("step")


def _legend(losses: Sequence[str], width: float) -> tuple[list[Any], int, float]:
    """Returns the lines of the legend, its columns, and the height of it and the title in inches."""
    from matplotlib.lines import Line2D

    shown = [name for name in losses if len(losses) <= MOST_LINES]
    columns = max(1, int(width / (0.6 + 0.09 * max(map(len, [*shown, VALIDATION])))))
    handles = [
        *(Line2D([], [], label=name, color=_COLOURS[index]) for index, name in enumerate(shown)),
        Line2D([], [], label=TRAIN, color="black", alpha=0.6),
        Line2D([], [], label=VALIDATION, color="black", linestyle="--", marker="o", markersize=3),
    ]
    return handles, columns, _HEAD + _LINE * -(-len(handles) // columns)


def _is_below(other: Box, box: Box) -> bool:
    return (other.left, other.width) == (box.left, box.width) and other.bottom < box.bottom


def _is_large(panel: Panel) -> bool:
    return panel.rows > _SMALL


def _layout(panels: Sequence[Panel]) -> tuple[list[Box], float, float]:
    """Returns the panels' places, those of large ones below all others, and the width and height of all together."""
    large = [panel for panel in panels if _is_large(panel)]
    small = len(panels) - len(large)
    wanted = max(2, min(8, math.ceil(math.sqrt(1.3 * small + 4 * len(large)))))
    near = [columns for columns in (wanted, wanted - 1, wanted + 1) if 2 <= columns <= min(8, max(small, 2))]
    columns = min(near or [max(small, 2)], key=lambda columns: -small % columns)  # as few empty places as can be
    width = _INCHES[0] * columns
    bands = -(-len(large) // max(1, columns // 2))
    most = -(-len(large) // max(1, bands))  # in a band
    sides = _AROUND[True][2] + _AROUND[True][3]
    heights = [
        sides + max(_ROW * each.rows + (_COLUMN_NAMES if each.kind == MATRIX else 0) for each in band)
        for band in (large[at : at + most] for at in range(0, len(large), max(1, most)))
    ]
    height = _INCHES[1] * -(-small // columns) + sum(heights)
    at_small, at_large, boxes = 0, 0, []
    for panel in panels:
        if _is_large(panel):
            band, place = divmod(at_large, most)
            in_band = len(large[band * most : (band + 1) * most])
            bottom = sum(heights[band + 1 :])
            boxes.append(Box(place * width / in_band, bottom, width / in_band, heights[band]))
            at_large += 1
        else:
            row, place = divmod(at_small, columns)
            boxes.append(Box(place * _INCHES[0], height - (row + 1) * _INCHES[1], *_INCHES))
            at_small += 1
    return boxes, width, height


def _part(pixels: Picture, box: Box, dpi: float) -> Picture:
    bottom = len(pixels) - round(box.bottom * dpi)
    return pixels[
        max(0, bottom - round(box.height * dpi)) : bottom, round(box.left * dpi) : round((box.left + box.width) * dpi)
    ]
