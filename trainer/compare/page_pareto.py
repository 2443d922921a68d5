"""The Pareto pictures of a comparison's page: one for each pair of metrics."""

import itertools
import math
from collections.abc import Mapping, Sequence

from trainer.compare.results import Metric, Results
from trainer.output.page import document, scatter
from trainer.output.page.document import Section
from trainer.output.page.markup import Markup, element, joined
from trainer.output.page.picture import Picture
from trainer.output.page.scatter import Axis, Point

_FIRST = 6  # pictures that are shown at once
_MOST = 66  # pictures, those of 12 metrics
_FEW = 4  # metrics of which each pair is shown, also where two are of one task
_TEXT = (
    "A point for each cell: its mean over seeds, with the sample deviation. Filled points are on the Pareto front "
    "(dashed); no cell is better than them in one metric without being worse in the other."
)


def section(results: Results, styles: Mapping[str, int]) -> Section | None:
    """Returns the section; None where there are fewer than two metrics, or no cell has values of both.

    Args:
      results: the numbers.
      styles: cell's name → the number of its style; cells that are not named are not drawn.
    """
    every = list(itertools.combinations(_metrics(results), 2))
    drawn = [(pair, picture) for pair in every[:_MOST] if (picture := _picture(results, styles, *pair)) is not None]
    if not drawn:
        return None
    parts: list[Markup] = [
        document.paragraph(_TEXT),
        document.legend([(cell, style) for cell, style in styles.items() if _has_values(results, cell)]),
        document.figures([picture for _, picture in drawn[:_FIRST]]),
    ]
    if len(drawn) > _FIRST:
        parts.append(_chosen(drawn[_FIRST:]))
    if len(every) > _MOST:
        parts.append(document.paragraph(f"Of {len(every)} pairs the first {_MOST} have a picture."))
    return Section("Pareto fronts", "pareto", joined(*parts))


def _metrics(results: Results) -> Sequence[Metric]:
    """The metrics that count; where there are many, the first one of each task."""
    counted = results.counted
    return counted if len(counted) <= _FEW else list({each.task: each for each in reversed(counted)}.values())[::-1]


def _picture(results: Results, styles: Mapping[str, int], x: Metric, y: Metric) -> Picture | None:
    points = []
    for cell, style in styles.items():
        across, up = (results.estimate(cell, metric.name) for metric in (x, y))
        if across is not None and up is not None and _is_number(across.mean) and _is_number(up.mean):
            points.append(Point(cell, style, across.mean, up.mean, across.deviation, up.deviation))
    axes = [Axis(metric.name, metric.direction or "down") for metric in (x, y)]
    return scatter.draw(points, *axes) if points else None


def _has_values(results: Results, cell: str) -> bool:
    return any((found := results.estimate(cell, each.name)) and _is_number(found.mean) for each in results.counted)


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _chosen(drawn: Sequence[tuple[tuple[Metric, Metric], Picture]]) -> Markup:
    """The pictures of further pairs, of which one is shown."""
    options = (element("option", f"{x.name} and {y.name}") for (x, y), _ in drawn)
    select = element("select", *options, class_="pairs", data_of="pairs")
    return element(
        "div",
        element("label", "Another pair: ", select),
        document.figures([p for _, p in drawn], folds=False),
        id="pairs",
    )
