"""A picture (SVG) with its title, axes and the words that stand for it where it cannot be seen."""

import dataclasses

import numpy as np

from trainer.output.page.markup import Markup, element, joined, shortened
from trainer.output.page.scale import Scale

CHARACTER = 5.7  # the mean width of a character, in units of a picture
TITLE = 24  # the height above the axes
WIDTH = 320  # of a panel


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture as markup, and the table of its numbers.

    Attributes:
      svg: the picture.
      table: its numbers, headings first; None where the page has them elsewhere.
    """

    svg: Markup
    table: tuple[tuple[str, ...], ...] | None = None


def svg(title: str, description: str, width: float, height: float, *parts: str) -> Markup:
    """Returns a picture with a title above, of a size in units that are pixels where it has its natural width."""
    shown = shortened(title, int(width / (CHARACTER + 0.6)))
    return element(
        "svg",
        element("title", title),
        element("desc", description),
        words(shown, 0, 13, "title"),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
    )


def words(text: str, x: float, y: float, class_: str | None = None, anchor: str | None = None) -> Markup:
    """Returns text in a picture; `anchor` is `middle` or `end` where it is not to begin at `x`."""
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", class_=class_, text_anchor=anchor)


def path(x: np.ndarray, y: np.ndarray) -> str:
    """Returns the path through some places, to a tenth of a unit, as SVG writes it: the first one, then differences."""
    tenths = np.rint(10 * np.stack([x, y], axis=1)).astype(int)
    (across, down), *moves = [tenths[0].tolist(), *np.diff(tenths, axis=0).tolist()]
    return f"M{across / 10:g} {down / 10:g}l{' '.join(f'{a / 10:g} {b / 10:g}' for a, b in moves)}".rstrip("l")


def axes(x: Scale, y: Scale, name: str, x_ticks: int = 4, y_ticks: int = 5) -> Markup:
    """Returns the rules and the numbers of two axes, and the name of the horizontal one."""
    left, right, bottom = x.start, x.end, y.start
    parts, grid = [], ""
    for value, text in y.ticks(y_ticks):
        at = float(y.at(np.float64(value)))
        grid += f"M{left:.1f} {at:.1f}H{right:.1f}"
        parts.append(words(text, left - 5, at + 3.5, anchor="end"))
    rules = element("path", d=grid, class_="grid")
    return joined(rules, element("g", *parts, class_="ticks"), horizontal(x, bottom, name, x_ticks))


def horizontal(x: Scale, bottom: float, name: str, most: int = 4) -> Markup:
    """Returns a horizontal axis: its rule at `bottom`, its numbers and its name."""
    base, parts = f"M{x.start:.1f} {bottom:.1f}H{x.end:.1f}", []
    taken = -np.inf
    for value, text in x.ticks(most):
        at, half = float(x.at(np.float64(value))), CHARACTER * len(text) / 2
        base += f"M{at:.1f} {bottom:.1f}v4"
        if at - half > taken:
            parts.append(words(text, at, bottom + 15, anchor="middle"))
            taken = at + half + 4
    parts.append(words(name, (x.start + x.end) / 2, bottom + 28, "name", "middle"))
    return element("g", element("path", d=base, class_="base"), *parts, class_="ticks")


def left_margin(scale: Scale, most: int = 5) -> float:
    """Returns the room that the numbers of a vertical axis need."""
    return 8 + CHARACTER * max((len(text) for _, text in scale.ticks(most)), default=1)
