"""Examples as cards: pictures and vectors side by side, labels in words above them."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from trainer.describe.picture_page import (
    ACCENT,
    CHARACTER,
    GREY,
    INK,
    LINE,
    MARGIN,
    MISSING,
    PALE,
    WIDTH,
    cut,
    page,
    png,
    write,
)
from trainer.describe.picture_tensors import DASH, Tensor

WORDS = 4  # numbers of a vector that are written out
MOST_CARDS = 14
_ROWS, _LINES = 2, 12
_GAP = 0.1  # inches


def cards(inputs: Sequence[Tensor], targets: Sequence[Tensor], title: str) -> bytes:
    """Pictures and vectors side by side, labels in words above them, as a PNG."""
    panels = [tensor for tensor in (*inputs, *targets) if tensor.size > WORDS]
    lines = [tensor for tensor in (*inputs, *targets) if tensor.size <= WORDS]
    left_out = lines[_LINES:]
    lines = lines[:_LINES]
    side = 1.55 if len(panels) == 1 else 1.25
    caption = LINE if len(panels) > 1 else 0
    per_row = max(1, int((WIDTH - MARGIN - side) // (side + _GAP)) + 1)
    panel_rows = -(-len(panels) // per_row)
    across = min(len(panels), per_row)
    card_width = across * (side + _GAP) - _GAP
    card_height = len(lines) * LINE + panel_rows * (side + caption) + (panel_rows - 1) * _GAP + 0.06
    columns = max(1, int((WIDTH - MARGIN) // (card_width + MARGIN)))
    count = min(columns * (_ROWS if columns > 2 else _ROWS + 1), MOST_CARDS, len(panels[0].values))
    rows = -(-count // columns)
    width = max(MARGIN + columns * (card_width + MARGIN), 5.0)
    axes = page(width, 2 * MARGIN + LINE + rows * (card_height + MARGIN), title, left_out)
    ranges = [_range(panel.values[:count][panel.present[:count]]) for panel in panels]
    for example in range(count):
        left = MARGIN + example % columns * (card_width + MARGIN)
        top = MARGIN + 2 * LINE + example // columns * (card_height + MARGIN)
        top = _write_lines(axes, lines, example, left, top, card_width)
        for number, (panel, limits) in enumerate(zip(panels, ranges, strict=True)):
            x = left + number % per_row * (side + _GAP)
            y = top + number // per_row * (side + caption + _GAP)
            if caption:
                shown = panel.name if panel in targets or len(inputs) > 1 else "input"
                write(axes, x, y + LINE / 2, cut(shown, side), color=GREY)
            _panel(axes, panel, example, limits, (x, y + caption, side))
    return png(axes)


def _write_lines(axes: Axes, lines: Sequence[Tensor], example: int, left: float, top: float, width: float) -> float:
    """Writes names and values below one another; returns where it ends."""
    longest = max((len(tensor.name) for tensor in lines), default=0)
    indent = min((longest + 1) * CHARACTER, 0.6 * width)
    for number, tensor in enumerate(lines):
        y = top + (number + 0.5) * LINE
        words = tensor.words(example)
        missing = set(words) <= {DASH, ",", " "}
        write(axes, left, y, cut(tensor.name, indent), color=GREY)
        write(axes, left + indent, y, cut(words, width - indent), color=GREY if missing else INK, weight="bold")
    return top + len(lines) * LINE + 0.06 * bool(lines)


def _panel(
    axes: Axes, tensor: Tensor, example: int, limits: tuple[float, float], square: tuple[float, float, float]
) -> None:
    """Draws an example of a tensor into the square (left, top, side)."""
    left, top, side = square
    values, present = tensor.values[example], tensor.present[example]
    if not present.any():
        axes.add_patch(Rectangle((left, top), side, side, facecolor=PALE, edgecolor="none"))
        write(axes, left + side / 2, top + side / 2, DASH, color=GREY, ha="center", fontsize=14)
    elif values.ndim == 1:
        _vector(axes, values, present, limits, square)
    else:
        _image(axes, values, present, limits, square)


def _image(
    axes: Axes,
    values: np.ndarray,
    present: np.ndarray,
    limits: tuple[float, float],
    square: tuple[float, float, float],
) -> None:
    while values.ndim > 3:  # of several pictures the middle one
        values, present = values[len(values) // 2], present[len(present) // 2]
    if values.ndim == 3 and values.shape[2] not in (1, 3, 4):
        values, present = values.mean(axis=2), present.all(axis=2)
    low, high = limits
    if values.ndim == 3 and values.shape[2] > 1:
        shown = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
        shown[~present.all(axis=2), :3] = np.array([0xF0, 0xB8, 0xA4]) / 255
    else:
        flat = values.reshape(values.shape[:2]), present.reshape(values.shape[:2])
        shown = np.ma.masked_array(flat[0], ~flat[1])
    height, width = values.shape[:2]
    left, top, side = square
    scale = side / max(height, width)
    x, y = left + (side - scale * width) / 2, top + (side - scale * height) / 2
    axes.imshow(
        shown,
        cmap=colormaps["gray"].with_extremes(bad=MISSING),
        vmin=low,
        vmax=high,
        extent=(x, x + scale * width, y + scale * height, y),
        interpolation="nearest" if max(height, width) <= 64 else "auto",
    )


def _vector(
    axes: Axes,
    values: np.ndarray,
    present: np.ndarray,
    limits: tuple[float, float],
    square: tuple[float, float, float],
) -> None:
    left, top, side = square
    low, high = min(limits[0], 0.0), max(limits[1], 0.0)
    axes.add_patch(Rectangle((left, top), side, side, facecolor=PALE, edgecolor="none"))
    heights = top + side * (1 - (np.where(present, values, 0) - low) / max(high - low, 1e-12))
    zero = top + side * (1 + low / max(high - low, 1e-12))
    step = side / len(values)
    if len(values) > 100:  # bars would be thinner than a dot
        axes.plot(left + step * (np.arange(len(values)) + 0.5), heights, color=ACCENT, linewidth=0.7)
        return
    for index, (y, there) in enumerate(zip(heights, present, strict=True)):
        x = left + index * step
        if there:
            axes.add_patch(Rectangle((x, zero), 0.85 * step, y - zero, facecolor=ACCENT, edgecolor="none"))
        else:
            axes.plot([x, x + 0.85 * step], [zero, zero], color=MISSING, linewidth=1.5)


def _range(values: np.ndarray) -> tuple[float, float]:
    """The values of black and of white: those of pictures of 0 to 1 or to 255, else the least and the most there is."""
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if values.dtype == np.uint8:
        return 0.0, 255.0
    if values.dtype.kind == "f" and low >= -0.5 and high <= 1.5:
        return 0.0, 1.0
    return low, high
