"""A panel of lines over steps, each named where it ends."""

from collections.abc import Sequence

import numpy as np

from trainer.output.page import digits, styles
from trainer.output.page.markup import Markup, element, shortened
from trainer.output.page.picture import CHARACTER, TITLE, WIDTH, Picture, axes, left_margin, path, svg, words
from trainer.output.page.scale import Scale, of_steps, of_values
from trainer.output.page.series import Line

_HEIGHT = 150  # of the axes
_BELOW = 34
_NAMES = 13  # lines that have room for a name at their end
_CHARACTERS = 13  # of such a name
_LINE = 11.5  # the least distance of two names
_DESCRIBED = 8
_MARKS = 3  # of a line, beside that at its end
HEADINGS = ("line", "first", "lowest", "at step", "highest", "at step", "last", "at step")


def panel(
    title: str, lines: Sequence[Line], *, can_be_log: bool = True, around: tuple[float, float] | None = None
) -> Picture:
    """Returns the panel of some lines, one at least.

    Args:
      title: above it.
      lines: those that are faint are drawn first and not named.
      can_be_log: the values have a logarithmic scale where they are positive and far apart.
      around: the range of values; None takes what the lines need.
    """
    named = [each for each in lines if not each.is_faint]
    shows_names = 1 < len(named) <= _NAMES
    right = WIDTH - (18 + CHARACTER * max(len(_name(each)) for each in named) if shows_names else 8)
    top, bottom = TITLE, TITLE + _HEIGHT
    y = _scale(lines, bottom, top, can_be_log) if around is None else Scale(*around, bottom, top)
    x = of_steps(max(float(each.steps[-1]) for each in lines), left_margin(y), right)
    dashes = {each.style: styles.dash(each.style) for each in named if len(named) > 1}
    drawn = [_drawn(each, x, y, dashes.get(each.style)) for each in sorted(lines, key=lambda each: not each.is_faint)]
    names = _names(named, x, y) if shows_names else []
    description = f"{digits.count(len(lines), 'line')} over steps. " + " ".join(
        f"{each.label} ends at {digits.number(each.values[-1])}." for each in named[:_DESCRIBED]
    )
    height = bottom + _BELOW
    picture = svg(title, description, WIDTH, height, axes(x, y, "step"), *drawn, *names)
    return Picture(picture, (HEADINGS, *map(_row, lines)))


def _scale(lines: Sequence[Line], start: float, end: float, can_be_log: bool) -> Scale:
    """The scale of the lines and, where that does not make it logarithmic no longer, their bands."""
    means = np.concatenate([each.values for each in lines])
    bands = np.concatenate([edge for each in lines for edge in (each.low, each.high)])
    scale = of_values(means, start, end, can_be_log=can_be_log)
    if scale.is_log:
        bands = bands[bands >= scale.low / 2]
    return of_values(np.concatenate([means, bands]), start, end, can_be_log=can_be_log)


def _drawn(line: Line, x: Scale, y: Scale, dashes: str | None) -> Markup:
    across, down = x.at(line.steps), y.at(line.values)
    parts: list[str] = [element("title", _described(line))]
    if (line.high > line.low).any():
        edge = path(np.concatenate([across, across[::-1]]), y.at(np.concatenate([line.high, line.low[::-1]])))
        parts.append(element("path", d=f"{edge}Z", class_="band"))
    parts.append(
        element("path", d=path(across, down), class_="line", stroke_dasharray=None if line.is_faint else dashes)
    )
    count = len(across)
    if not line.is_faint or count == 1:
        every = max(1, -(-count // _MARKS))
        chosen = sorted({*range(min(line.style % every, count - 1), count, every), count - 1})
        parts.append(styles.marks(line.style, [(float(across[at]), float(down[at])) for at in chosen], size=2.6))
    classes = f"series {styles.colour(line.style)}{' faint' if line.is_faint else ''}"
    return element("g", *parts, class_=classes, data_series=line.label)


def _names(lines: Sequence[Line], x: Scale, y: Scale) -> list[Markup]:
    """The lines' names right of the axes, each as near to the line's end as the others allow."""
    ends = [float(y.at(each.values[-1:])[0]) for each in lines]
    order = sorted(range(len(lines)), key=ends.__getitem__)
    places = apart([ends[index] for index in order], y.end, y.start)
    return [
        element(
            "g",
            styles.marks(lines[index].style, [(x.end + 8, place)], size=2.6),
            words(_name(lines[index]), x.end + 14, place + 3.5),
            class_=f"series label {styles.colour(lines[index].style)}",
            data_series=lines[index].label,
        )
        for index, place in zip(order, places, strict=True)
    ]


def apart(places: Sequence[float], low: float, high: float, distance: float = _LINE) -> list[float]:
    """Returns places in increasing order, moved as little as keeps them apart and, if there is room, in a range."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + distance if moved else low))
    limit = high
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], limit)
        limit = moved[index] - distance
    return moved


def _name(line: Line) -> str:
    return shortened(line.label, _CHARACTERS)


def _described(line: Line) -> str:
    _, (lowest, at_lowest), (highest, at_highest), (last, at_last) = _numbers(line)
    return f"{line.label}: {last} at step {at_last}; lowest {lowest} at {at_lowest}, highest {highest} at {at_highest}"


def _row(line: Line) -> tuple[str, ...]:
    (first, _), *others = _numbers(line)
    return (line.label, first, *(text for pair in others for text in pair))


def _numbers(line: Line) -> list[tuple[str, str]]:
    """(value, step) of the first, the lowest, the highest and the last point."""
    places = (0, int(line.values.argmin()), int(line.values.argmax()), -1)
    return [(digits.number(float(line.values[at])), f"{line.steps[at]:,.0f}") for at in places]
