"""A heat map of cosines: a row for each pair of losses, a column for each interval of steps."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from trainer.output.page import digits
from trainer.output.page.markup import Markup, element, joined, shortened
from trainer.output.page.picture import CHARACTER, TITLE, WIDTH, horizontal, svg, words
from trainer.output.page.scale import of_steps

# The upper ends of the cosines of one colour (`q0` ... of picture.css); those below 0, conflicts, are hatched there.
EDGES = (-0.6, -0.3, -0.1, 0.0, 0.1, 0.3, 0.6)
SEPARATOR = " · "  # of the losses of a pair
_ROW = 17.0
_RIGHT = 48.0  # for the share of reports in conflict
_CHARACTERS = 22  # of a row's name
_BELOW = 34


@dataclasses.dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
      label: its name.
      values: float64, the mean cosine in each interval; NaN where there is none.
      mean: of all reports.
      below: the share of the reports whose cosine is below 0.
    """

    label: str
    values: np.ndarray
    mean: float
    below: float

    @property
    def names(self) -> str:
        """Both losses, in words."""
        return self.label.replace(SEPARATOR, " and ")


def draw(title: str, rows: Sequence[Row], edges: np.ndarray) -> Markup:
    """Returns the picture.

    Args:
      title: above it.
      rows: one at least.
      edges: float64, the ends of the intervals, whose first one begins at step 0.
    """
    left = 8 + CHARACTER * min(_CHARACTERS, max(len(row.label) for row in rows))
    right, bottom = WIDTH - _RIGHT, TITLE + 12 + _ROW * len(rows)
    x = of_steps(float(edges[-1]), left, right)
    places = x.at(np.concatenate([[0.0], edges]))
    painted: dict[str, str] = {}  # class → path
    texts: list[str] = [words("below 0", WIDTH, TITLE + 5, "name", "end")]
    for index, row in enumerate(rows):
        top = TITLE + 12 + _ROW * index
        for class_, path in _cells(row.values, places, top):
            painted[class_] = painted.get(class_, "") + path
        texts.append(_row(row, left, right, top))
    cells = [element("path", d=path, class_=class_) for class_, path in sorted(painted.items())]
    parts = joined(element("g", *cells, class_="cells"), element("g", *texts, class_="ticks"))
    most = max(rows, key=lambda row: row.below)
    description = (
        f"Cosines of {digits.count(len(rows), 'pair')} over steps; hatched where below 0. "
        f"{most.label} is below 0 in {digits.percent(most.below)} of the reports, the most of all."
    )
    return svg(title, description, WIDTH, bottom + _BELOW, parts, horizontal(x, bottom, "step"))


def _cells(values: np.ndarray, places: np.ndarray, top: float) -> list[tuple[str, str]]:
    """(class, path) of each run of cells of one colour."""
    kinds = np.where(np.isfinite(values), np.searchsorted(EDGES, values, side="right"), -1)
    starts = np.flatnonzero(np.diff(kinds, prepend=-2))
    found = []
    for start, end in zip(starts, [*starts[1:], len(kinds)], strict=True):
        if (number := int(kinds[start])) >= 0:
            path = f"M{places[start]:.1f} {top:.1f}H{places[end]:.1f}v{_ROW - 1:g}H{places[start]:.1f}z"
            found.append((f"q{number}", path))
    return found


def _row(row: Row, left: float, right: float, top: float) -> Markup:
    share = digits.percent(row.below)
    text = f"{row.label}: mean cosine {digits.fixed(row.mean, 2)}, below 0 in {share} of the reports"
    return element(
        "g",
        element("title", text),
        element("rect", x=0, y=f"{top:.1f}", width=WIDTH, height=_ROW, class_="hit"),
        words(shortened(row.label, _CHARACTERS), left - 6, top + 12, anchor="end"),
        words(share, WIDTH, top + 12, anchor="end"),
    )
