"""Examples as a table: one in every column, its targets and features in rows."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.patches import Rectangle

from trainer.describe.picture_page import ACCENT, CHARACTER, GREY, INK, LINE, MARGIN, PALE, cut, page, png, write
from trainer.describe.picture_tensors import DASH, Tensor

MOST_EXAMPLES, MOST_ROWS = 8, 40
_CELL, _ROW = 1.15, 0.2  # inches


def table(inputs: Sequence[Tensor], targets: Sequence[Tensor], title: str) -> bytes:
    """A column for every example and a row for every target and feature, coloured by its values, as a PNG."""
    count = min(MOST_EXAMPLES, len(inputs[0].values))
    blocks = [("targets", list(_rows(targets, named=True)))]
    blocks += [(tensor.name if len(inputs) > 1 else "inputs", list(_rows([tensor], named=False))) for tensor in inputs]
    longest = max((len(name) for _, rows in blocks for name, *_ in rows), default=0)
    names = min(longest, 30) * CHARACTER + 0.15
    height = 2 * MARGIN + LINE + sum((len(rows[: MOST_ROWS + 1]) + 1.5) * _ROW for _, rows in blocks)
    axes = page(2 * MARGIN + names + count * _CELL, height, title)
    top = MARGIN + 2 * LINE
    for number, (heading, rows) in enumerate(blocks):
        write(axes, MARGIN, top + _ROW / 2, heading, color=ACCENT, weight="bold")
        top += _ROW
        for name, tensor, column in rows[:MOST_ROWS]:
            write(axes, MARGIN, top + _ROW / 2, cut(name, names), color=GREY)
            shades = _shades(tensor, column, count)
            for example in range(count):
                x, words = MARGIN + names + example * _CELL, tensor.words(example, column)
                face = PALE if number == 0 else shades[example]
                axes.add_patch(Rectangle((x, top), _CELL, _ROW, facecolor=face, edgecolor="white", linewidth=1.2))
                style = {"color": GREY if words == DASH else INK, "weight": "normal" if number else "bold"}
                write(axes, x + _CELL / 2, top + _ROW / 2, cut(words, _CELL - 0.05), ha="center", **style)
            top += _ROW
        if len(rows) > MOST_ROWS:
            write(axes, MARGIN, top + _ROW / 2, f"and {len(rows) - MOST_ROWS:,} more", color=GREY)
            top += _ROW
        top += _ROW / 2
    return png(axes)


def _rows(several: Sequence[Tensor], *, named: bool) -> Iterator[tuple[str, Tensor, int]]:
    """(name, tensor, column) of every number of an example."""
    for tensor in several:
        for column in range(tensor.size):
            own = tensor.columns[column] if tensor.columns else str(column)
            if named:
                own = tensor.name if tensor.size == 1 else f"{tensor.name} {own}"
            elif tensor.size == 1 and not tensor.columns:
                own = tensor.name
            yield own, tensor, column


def _shades(tensor: Tensor, column: int, count: int) -> np.ndarray:
    """(count, 4) colours: numbers from blue to red around 0, categories from the most frequent to the rarest."""
    values = tensor.values.reshape(len(tensor.values), -1)
    own = values[:count, column].astype(np.float64)
    if tensor.classes:
        most = len(tensor.classes[column if len(tensor.classes) > 1 else 0])
        depth = np.log1p(np.clip(own, 0, most)) / np.log1p(max(most, 1))
        return _pale(colormaps["Greens"](0.05 + 0.6 * depth))
    most = float(np.quantile(np.abs(values), 0.95)) or 1.0
    return _pale(colormaps["RdBu_r"](0.5 + 0.5 * np.clip(own / most, -1, 1)))


def _pale(colours: np.ndarray) -> np.ndarray:
    """The colours made light enough to write on."""
    colours[:, :3] = 0.45 * colours[:, :3] + 0.55
    return colours
