"""A page to draw and to write on, in inches from its upper left corner."""

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from trainer.describe.picture_tensors import Tensor

INK, GREY, PALE, ACCENT, MISSING = "#22303c", "#7b8794", "#eef1f4", "#1b7f79", "#f0b8a4"
# Inches.
WIDTH, MARGIN, LINE, CHARACTER = 11.5, 0.3, 0.17, 0.068
_DPI = 130


def page(width: float, height: float, title: str, left_out: Sequence[Tensor] = ()) -> Axes:
    """Axes over a whole page, in inches from its upper left corner."""
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    write(axes, MARGIN, MARGIN, title, color=INK, weight="bold", fontsize=9.5)
    note = "training examples as the model gets them" + (f"; {len(left_out)} targets not shown" if left_out else "")
    write(axes, width - MARGIN, MARGIN, note, color=GREY, ha="right")
    return axes


def write(axes: Axes, x: float, y: float, text: str, **style: object) -> None:
    """Writes text as it is, small and from its middle line."""
    text = text.replace("$", r"\$")
    axes.text(x, y, text, **{"fontsize": 7.5, "va": "center", "clip_on": False, **style})


def cut(text: str, width: float) -> str:
    """The text, or so much of it as fits into a width."""
    most = max(1, int(width / CHARACTER))
    return text if len(text) <= most else f"{text[: most - 1]}…"


def png(axes: Axes) -> bytes:
    """The page as a PNG."""
    with io.BytesIO() as file:
        axes.figure.savefig(file, format="png")
        return file.getvalue()
