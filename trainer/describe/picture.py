"""A picture of a few training examples: inputs after augmentation, each with its targets.

Examples with pictures, long vectors or targets of that kind become cards; rows of numbers and categories a table.
"""

import dataclasses
import io
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from input_pipelines.feed import splits
from input_pipelines.feed.splits import Split, Structure
from input_pipelines.names import Names

DASH = "–"
_INK, _GREY, _PALE, _ACCENT, _MISSING = "#22303c", "#7b8794", "#eef1f4", "#1b7f79", "#f0b8a4"
_DPI = 130
_WORDS = 4  # numbers of a vector that are written out
# Inches.
_WIDTH, _MARGIN, _GAP, _LINE, _CHARACTER = 11.5, 0.3, 0.1, 0.17, 0.068
_CELL, _ROW = 1.15, 0.2
_TABLE_EXAMPLES, _TABLE_ROWS = 8, 40
_CARD_ROWS, _CARD_LINES, _MOST_CARDS = 2, 12, 14


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One input or target of the examples that are drawn.

    Attributes:
      name: what it is called.
      values: (examples, ...).
      present: of the values' shape, where there is a label.
      columns: names of a vector's numbers; empty where they have none.
      classes: names of the classes, for each column or once for all; empty where they have none.
    """

    name: str
    values: np.ndarray
    present: np.ndarray
    columns: tuple[str, ...] = ()
    classes: tuple[tuple[str, ...], ...] = ()

    @property
    def size(self) -> int:
        """Numbers of an example."""
        return int(np.prod(self.values.shape[1:]))

    def words(self, example: int, column: int | None = None) -> str:
        """Values of an example, or one column of them, in words: names of classes, a dash where a label is missing."""
        values, present = self.values[example].ravel(), self.present[example].ravel()
        chosen = range(len(values)) if column is None else [column]
        return ", ".join(self._word(values[index], index) if present[index] else DASH for index in chosen)

    def _word(self, value: np.generic, column: int) -> str:
        names = self.classes[column if len(self.classes) > 1 else 0] if self.classes else ()
        if names and float(value).is_integer() and 0 <= value < len(names):
            return names[int(value)]
        return str(value) if np.issubdtype(value.dtype, np.integer) else f"{value:.3g}"


def draw(split: Split, names: Names, batch_size: int, seed: int, title: str) -> bytes:
    """The first training examples as a PNG.

    Args:
      split: the training split.
      names: of columns and classes.
      batch_size: of training.
      seed: of order and augmentation.
      title: what stands above.
    """
    size = min(batch_size, split.largest_batch)
    batches = split.training(batch_size=size, seed=seed, first_step=0, ends=[0, size])
    count = max(_MOST_CARDS, _TABLE_EXAMPLES)
    batch = next(batches.unbatch().batch(min(count, len(split))).as_numpy_iterator())
    inputs, targets = tensors(batch, names)
    drawn = _table if _fits_a_table(inputs, targets) else _cards
    return drawn(inputs, targets, title)


def tensors(batch: Structure, names: Names) -> tuple[list[Tensor], list[Tensor]]:
    """The inputs and the targets of a batch of arrays."""
    leaves = dict(splits.per_example(batch))
    found: dict[str, list[Tensor]] = {"inputs": [], "targets": []}
    for at, values in leaves.items():
        part, _, own = at.partition(".")
        if part in found:
            weights = leaves.get(f"weights.{own}") if part == "targets" else None
            tensor = Tensor(own or "input", values, splits.labelled(values, weights))
            columns, classes = names.columns.get(at, ()), names.classes.get(at, ())
            found[part].append(dataclasses.replace(tensor, columns=columns, classes=classes))
    return found["inputs"], found["targets"]


def _fits_a_table(inputs: Sequence[Tensor], targets: Sequence[Tensor]) -> bool:
    """Whether all is short rows of numbers, or rows whose numbers have names."""
    flat = all(tensor.values.ndim <= 2 or tensor.size <= _WORDS for tensor in (*inputs, *targets))
    return flat and all(tensor.size <= _TABLE_ROWS or tensor.columns for tensor in inputs)


# ---------------------------------------------------------------------------------------------------------------------
# Cards.
# ---------------------------------------------------------------------------------------------------------------------


def _cards(inputs: Sequence[Tensor], targets: Sequence[Tensor], title: str) -> bytes:
    """Pictures and vectors side by side, what is said in words above them."""
    panels = [tensor for tensor in (*inputs, *targets) if tensor.size > _WORDS]
    lines = [tensor for tensor in (*inputs, *targets) if tensor.size <= _WORDS]
    left_out = lines[_CARD_LINES:]
    lines = lines[:_CARD_LINES]
    side = 1.55 if len(panels) == 1 else 1.25
    caption = _LINE if len(panels) > 1 else 0
    per_row = max(1, int((_WIDTH - _MARGIN - side) // (side + _GAP)) + 1)
    panel_rows = -(-len(panels) // per_row)
    across = min(len(panels), per_row)
    card_width = across * (side + _GAP) - _GAP
    card_height = len(lines) * _LINE + panel_rows * (side + caption) + (panel_rows - 1) * _GAP + 0.06
    columns = max(1, int((_WIDTH - _MARGIN) // (card_width + _MARGIN)))
    count = min(columns * (_CARD_ROWS if columns > 2 else _CARD_ROWS + 1), _MOST_CARDS, len(panels[0].values))
    rows = -(-count // columns)
    width = max(_MARGIN + columns * (card_width + _MARGIN), 5.0)
    axes = _page(width, 2 * _MARGIN + _LINE + rows * (card_height + _MARGIN), title, left_out)
    ranges = [_range(panel.values[:count][panel.present[:count]]) for panel in panels]
    for example in range(count):
        left = _MARGIN + example % columns * (card_width + _MARGIN)
        top = _MARGIN + 2 * _LINE + example // columns * (card_height + _MARGIN)
        top = _write_lines(axes, lines, example, left, top, card_width)
        for number, (panel, limits) in enumerate(zip(panels, ranges, strict=True)):
            x = left + number % per_row * (side + _GAP)
            y = top + number // per_row * (side + caption + _GAP)
            if caption:
                shown = panel.name if panel in targets or len(inputs) > 1 else "input"
                _text(axes, x, y + _LINE / 2, _cut(shown, side), color=_GREY)
            _panel(axes, panel, example, limits, (x, y + caption, side))
    return _png(axes)


def _write_lines(axes: Axes, lines: Sequence[Tensor], example: int, left: float, top: float, width: float) -> float:
    """Writes names and values below one another; returns where it ends."""
    longest = max((len(tensor.name) for tensor in lines), default=0)
    indent = min((longest + 1) * _CHARACTER, 0.6 * width)
    for number, tensor in enumerate(lines):
        y = top + (number + 0.5) * _LINE
        words = tensor.words(example)
        missing = set(words) <= {DASH, ",", " "}
        _text(axes, left, y, _cut(tensor.name, indent), color=_GREY)
        _text(axes, left + indent, y, _cut(words, width - indent), color=_GREY if missing else _INK, weight="bold")
    return top + len(lines) * _LINE + 0.06 * bool(lines)


def _panel(
    axes: Axes, tensor: Tensor, example: int, limits: tuple[float, float], square: tuple[float, float, float]
) -> None:
    """Draws an example of a tensor into the square (left, top, side)."""
    left, top, side = square
    values, present = tensor.values[example], tensor.present[example]
    if not present.any():
        axes.add_patch(Rectangle((left, top), side, side, facecolor=_PALE, edgecolor="none"))
        _text(axes, left + side / 2, top + side / 2, DASH, color=_GREY, ha="center", fontsize=14)
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
        cmap=colormaps["gray"].with_extremes(bad=_MISSING),
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
    axes.add_patch(Rectangle((left, top), side, side, facecolor=_PALE, edgecolor="none"))
    heights = top + side * (1 - (np.where(present, values, 0) - low) / max(high - low, 1e-12))
    zero = top + side * (1 + low / max(high - low, 1e-12))
    step = side / len(values)
    if len(values) > 100:  # bars would be thinner than a dot
        axes.plot(left + step * (np.arange(len(values)) + 0.5), heights, color=_ACCENT, linewidth=0.7)
        return
    for index, (y, there) in enumerate(zip(heights, present, strict=True)):
        x = left + index * step
        if there:
            axes.add_patch(Rectangle((x, zero), 0.85 * step, y - zero, facecolor=_ACCENT, edgecolor="none"))
        else:
            axes.plot([x, x + 0.85 * step], [zero, zero], color=_MISSING, linewidth=1.5)


def _range(values: np.ndarray) -> tuple[float, float]:
    """What is black and what is white: those of pictures of 0 to 1 or to 255, else the least and the most there is."""
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if values.dtype == np.uint8:
        return 0.0, 255.0
    if values.dtype.kind == "f" and low >= -0.5 and high <= 1.5:
        return 0.0, 1.0
    return low, high


# ---------------------------------------------------------------------------------------------------------------------
# Tables.
# ---------------------------------------------------------------------------------------------------------------------


def _table(inputs: Sequence[Tensor], targets: Sequence[Tensor], title: str) -> bytes:
    """A column for every example and a row for every target and feature, coloured by what it holds."""
    count = min(_TABLE_EXAMPLES, len(inputs[0].values))
    blocks = [("targets", list(_rows(targets, named=True)))]
    blocks += [(tensor.name if len(inputs) > 1 else "inputs", list(_rows([tensor], named=False))) for tensor in inputs]
    longest = max((len(name) for _, rows in blocks for name, *_ in rows), default=0)
    names = min(longest, 30) * _CHARACTER + 0.15
    height = 2 * _MARGIN + _LINE + sum((len(rows[: _TABLE_ROWS + 1]) + 1.5) * _ROW for _, rows in blocks)
    axes = _page(2 * _MARGIN + names + count * _CELL, height, title)
    top = _MARGIN + 2 * _LINE
    for number, (heading, rows) in enumerate(blocks):
        _text(axes, _MARGIN, top + _ROW / 2, heading, color=_ACCENT, weight="bold")
        top += _ROW
        for name, tensor, column in rows[:_TABLE_ROWS]:
            _text(axes, _MARGIN, top + _ROW / 2, _cut(name, names), color=_GREY)
            shades = _shades(tensor, column, count)
            for example in range(count):
                x, words = _MARGIN + names + example * _CELL, tensor.words(example, column)
                face = _PALE if number == 0 else shades[example]
                axes.add_patch(Rectangle((x, top), _CELL, _ROW, facecolor=face, edgecolor="white", linewidth=1.2))
                style = {"color": _GREY if words == DASH else _INK, "weight": "normal" if number else "bold"}
                _text(axes, x + _CELL / 2, top + _ROW / 2, _cut(words, _CELL - 0.05), ha="center", **style)
            top += _ROW
        if len(rows) > _TABLE_ROWS:
            _text(axes, _MARGIN, top + _ROW / 2, f"and {len(rows) - _TABLE_ROWS:,} more", color=_GREY)
            top += _ROW
        top += _ROW / 2
    return _png(axes)


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
    """Light enough to write on."""
    colours[:, :3] = 0.45 * colours[:, :3] + 0.55
    return colours


# ---------------------------------------------------------------------------------------------------------------------
# The page.
# ---------------------------------------------------------------------------------------------------------------------


def _page(width: float, height: float, title: str, left_out: Sequence[Tensor] = ()) -> Axes:
    """Axes over a whole page, in inches from its upper left corner."""
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    _text(axes, _MARGIN, _MARGIN, title, color=_INK, weight="bold", fontsize=9.5)
    note = "training examples as the model gets them" + (f"; {len(left_out)} targets not shown" if left_out else "")
    _text(axes, width - _MARGIN, _MARGIN, note, color=_GREY, ha="right")
    return axes


def _text(axes: Axes, x: float, y: float, text: str, **style: object) -> None:
    text = text.replace("$", r"\$")
    axes.text(x, y, text, **{"fontsize": 7.5, "va": "center", "clip_on": False, **style})


def _cut(text: str, width: float) -> str:
    most = max(1, int(width / _CHARACTER))
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _png(axes: Axes) -> bytes:
    with io.BytesIO() as file:
        axes.figure.savefig(file, format="png")
        return file.getvalue()
