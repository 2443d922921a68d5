"""The section of conflicts: cosines between the losses' gradients, when and how often they are below 0."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from trainer.output.page import digits, document, heat_map, lines, series
from trainer.output.page.document import Cell, Section
from trainer.output.page.heat_map import Row
from trainer.output.page.markup import Markup, element, joined
from trainer.output.page.picture import Picture, words
from trainer.output.page.series import Group, Line
from trainer.output.reports import TRAIN

PREFIX = "cosine/"
_COLUMNS = 25  # single steps vary much: each column is the mean of several where there are more
_POINTS = 16  # of the lines, which jump from report to report
_DECIMALS = 5  # that a table of pairs is sorted by
_ROWS = 28  # pairs in one heat map; those that conflict most
_TEXT = (
    "The cosine between two losses' gradients over their shared variables. Below 0 (hatched) they conflict: a step "
    "along one makes the other worse. A column is the mean of the reports in its steps; the number right of a row says "
    "in how many of all reports the pair conflicts. Where every step knows its cosines (methods that look at the "
    "Gramian), a report has the mean over its steps, else that of one step: means vary less, so that these numbers do "
    "not compare between methods of the two kinds."
)


@dataclasses.dataclass(frozen=True)
class Found:
    """The cosines of a group.

    Attributes:
      group: the group.
      rows: its pairs in the order of the losses.
      edges: the ends of the intervals, float64.
      over_time: the share of its pairs in conflict.
    """

    group: Group
    rows: tuple[Row, ...]
    edges: np.ndarray
    over_time: Line


def found(groups: Sequence[Group]) -> list[Found]:
    """Returns the cosines of every group that has reported some."""
    return [each for group in groups if (each := _found(group)) is not None]


def most(cosines: Sequence[Found]) -> list[Row]:
    """Returns of every group the pair that is most often in conflict, where one ever is.

    Shares of one group compare; those of two may be of means and of single steps.
    """
    found = (max(each.rows, key=lambda row: row.below) for each in cosines)
    return [row for row in found if row.below > 0]


def section(cosines: Sequence[Found]) -> Section | None:
    """Returns the section; None where there is nothing to show."""
    if not cosines:
        return None
    pairs = list(dict.fromkeys(row.label for each in cosines for row in each.rows))
    pictures = []
    if len(pairs) > 1 or len(cosines) > 1:
        over_time = [each.over_time for each in cosines]
        share = lines.panel("share of pairs in conflict (%)", over_time, can_be_log=False, around=(-4.0, 104.0))
        pictures.append(share)
    shown = _often(cosines, pairs)
    pictures += [_heat_map(each, shown, len(cosines) > 1) for each in cosines]
    body = [document.paragraph(_TEXT), _scale()]
    if len(pairs) > _ROWS:
        note = f"Heat maps show {_ROWS} of {len(pairs)} pairs, those most often in conflict; the table has all."
        body.append(document.paragraph(note))
    body.append(document.figures(pictures))
    body.append(document.folded("How often each pair conflicts, and its mean cosine", _table(cosines, pairs)))
    return Section("Conflicts", "conflicts", joined(*body))


def _found(group: Group) -> Found | None:
    names = dict.fromkeys(name for curves in group.runs for name in curves if name.startswith(PREFIX))
    points = {name: own for name in names if (own := series.points(group.runs, name, TRAIN))}
    if not points:
        return None
    steps = np.unique(np.concatenate([steps for own in points.values() for steps, _ in own]))
    edges = steps if len(steps) <= _COLUMNS else np.linspace(0, steps[-1], _COLUMNS + 1)[1:]
    rows = []
    for name, own in points.items():
        at, values = (np.concatenate(each) for each in zip(*own, strict=True))
        label = heat_map.SEPARATOR.join(name.removeprefix(PREFIX).split("/"))
        means = series.interval_means(at, values, edges)
        rows.append(Row(label, means, float(values.mean()), float((values < 0).mean())))
    return Found(group, tuple(rows), edges, _over_time(group, points))


def _over_time(group: Group, points: dict[str, list[tuple[np.ndarray, np.ndarray]]]) -> Line:
    """The share of the pairs whose cosine is below 0, in percent, over the reports of all runs."""
    at, values = (np.concatenate([each[part] for own in points.values() for each in own]) for part in (0, 1))
    steps = np.unique(at)
    shares = 100 * series.interval_means(at, (values < 0).astype(float), steps)
    drawn = series.of_points([(steps, shares)], group.label, group.style, most=_POINTS)
    assert drawn is not None
    return dataclasses.replace(drawn, low=drawn.values, high=drawn.values)


def _often(cosines: Sequence[Found], pairs: Sequence[str]) -> list[str]:
    """All pairs where they are few, else those that conflict most often, these first; the same ones for all groups."""
    if len(pairs) <= _ROWS:
        return list(pairs)
    sums = dict.fromkeys(pairs, 0.0)
    for each in cosines:
        for row in each.rows:
            sums[row.label] += row.below
    return sorted(pairs, key=lambda pair: -sums[pair])[:_ROWS]


def _heat_map(each: Found, pairs: Sequence[str], is_named: bool) -> Picture:
    known = {row.label: row for row in each.rows}
    rows = [known[pair] for pair in pairs if pair in known] or each.rows[:_ROWS]
    return Picture(heat_map.draw(each.group.label if is_named else "cosines of each pair", rows, each.edges))


def _table(cosines: Sequence[Found], pairs: Sequence[str]) -> Markup:
    several = len(cosines) > 1
    headings = ["pair"]
    for each in cosines:
        headings += [f"{each.group.label}: below 0" if several else "below 0", "mean cosine"]
    known = [{row.label: row for row in each.rows} for each in cosines]
    rows = []
    for pair in pairs:
        cells = [Cell(pair)]
        for own in known:
            row = own.get(pair)
            if row is None:
                cells += [Cell(digits.MISSING)] * 2
            else:
                below, mean = (round(value, _DECIMALS) for value in (row.below, row.mean))
                cells += [Cell(digits.percent(below), below), Cell(digits.fixed(mean, 2), mean)]
        rows.append(cells)
    return document.table(headings, rows, label="Conflicts of each pair", is_sortable=True)


def _scale() -> Markup:
    """The colours of cosines from -1 to 1."""
    parts = []
    for index in range(len(heat_map.EDGES) + 1):
        parts.append(element("rect", x=30 * index, y=0, width=30, height=10, class_=f"q{index}"))
    for index, edge in enumerate(heat_map.EDGES):
        parts.append(words(digits.number(edge, 1), 30 * (index + 1), 21, anchor="middle"))
    label = "Colours of cosines: hatched below 0"
    return element("svg", *parts, viewBox="0 0 240 24", width="240", height="24", role="img", aria_label=label)
