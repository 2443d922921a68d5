"""The Pareto picture of two metrics: a point for each cell with its deviation over seeds, and the front."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from trainer.output.page import digits, styles
from trainer.output.page.lines import apart
from trainer.output.page.markup import Markup, element, shortened
from trainer.output.page.picture import CHARACTER, TITLE, WIDTH, Picture, axes, left_margin, svg, words
from trainer.output.page.scale import Scale, of_values

_HEIGHT = 200
_BELOW = 34
_CHARACTERS = 16
UP = "up"  # a direction: more is better


@dataclasses.dataclass(frozen=True)
class Axis:
    """A metric.

    Attributes:
      name: of it.
      direction: "up" where more is better, else "down".
    """

    name: str
    direction: str

    @property
    def title(self) -> str:
        """Its name with the direction of better values."""
        return f"{shortened(self.name, 30)} ({'higher' if self.direction == UP else 'lower'} is better)"


@dataclasses.dataclass(frozen=True)
class Point:
    """A cell: its label, the number of its style, and means and sample deviations of both metrics."""

    label: str
    style: int
    x: float
    y: float
    x_deviation: float | None = None
    y_deviation: float | None = None


def front(points: Sequence[Point], x: Axis, y: Axis) -> list[Point]:
    """Returns the points than which no other is better in one metric and as good in the other, by increasing x."""
    signs = [1 if axis.direction == UP else -1 for axis in (x, y)]
    places = [(signs[0] * point.x, signs[1] * point.y) for point in points]

    def is_dominated(place: tuple[float, float]) -> bool:
        return any(other != place and other[0] >= place[0] and other[1] >= place[1] for other in places)

    kept = [point for point, place in zip(points, places, strict=True) if not is_dominated(place)]
    return sorted(kept, key=lambda point: (point.x, point.y))


def draw(points: Sequence[Point], x: Axis, y: Axis) -> Picture:
    """Returns the picture of some points, one at least, whose means are finite."""
    best = front(points, x, y)
    top, bottom = TITLE + 14, TITLE + 14 + _HEIGHT
    down = of_values(np.concatenate([_ends(p.y, p.y_deviation) for p in points]), bottom, top, can_be_log=False)
    across = of_values(
        np.concatenate([_ends(p.x, p.x_deviation) for p in points]), left_margin(down), WIDTH - 10, can_be_log=False
    )
    places = {id(p): (float(across.at(np.float64(p.x))), float(down.at(np.float64(p.y)))) for p in points}
    parts = [axes(across, down, x.title), words(y.title, 0, TITLE + 4, "name")]
    parts.append(element("path", d=_stairs(best, x, y, across, down), class_="front"))
    parts += [_bars(p, places[id(p)], across, down) for p in points]
    parts += _names(points, places, across)
    parts += [_mark(p, places[id(p)], is_hollow=p not in best) for p in points]
    description = (
        f"{digits.count(len(points), 'cell')}. On the Pareto front: {', '.join(p.label for p in best)}. "
        f"Across: {x.title}. Up: {y.title}."
    )
    picture = svg(f"{x.name} and {y.name}", description, WIDTH, bottom + _BELOW, *parts)
    headings = ("cell", x.name, y.name, "Pareto front")
    return Picture(picture, (headings, *(_row(p, p in best) for p in points)))


def _ends(mean: float, deviation: float | None) -> np.ndarray:
    return np.array([mean]) if deviation is None else np.array([mean - deviation, mean + deviation])


def _stairs(best: Sequence[Point], x: Axis, y: Axis, across: Scale, down: Scale) -> str:
    """The border of what some point of the front dominates, from one end of the axes to the other."""
    worst_x = across.low if x.direction == UP else across.high
    worst_y = down.low if y.direction == UP else down.high
    ordered = sorted(best, key=lambda point: point.x, reverse=x.direction != UP)
    corners = [(worst_x, ordered[0].y)]
    for point, following in zip(ordered, [*ordered[1:], None], strict=True):
        corners += [(point.x, point.y), (point.x, worst_y if following is None else following.y)]
    return "M" + "L".join(f"{across.at(np.float64(a)):.1f} {down.at(np.float64(b)):.1f}" for a, b in corners)


def _bars(point: Point, place: tuple[float, float], across: Scale, down: Scale) -> Markup:
    a, b = place
    bars = ""
    if point.x_deviation:
        ends = across.at(_ends(point.x, point.x_deviation))
        bars += f"M{ends[0]:.1f} {b:.1f}H{ends[1]:.1f}"
    if point.y_deviation:
        ends = down.at(_ends(point.y, point.y_deviation))
        bars += f"M{a:.1f} {ends[0]:.1f}V{ends[1]:.1f}"
    return _series(point, element("path", d=bars, class_="bars")) if bars else Markup()


def _mark(point: Point, place: tuple[float, float], *, is_hollow: bool) -> Markup:
    title = element("title", ", ".join((point.label, *_values(point))))
    return _series(point, title, styles.marks(point.style, [place], size=4.6, is_hollow=is_hollow))


def _series(point: Point, *parts: str, class_: str = "series") -> Markup:
    return element("g", *parts, class_=f"{class_} {styles.colour(point.style)}", data_series=point.label)


def _names(points: Sequence[Point], places: dict[int, tuple[float, float]], across: Scale) -> list[Markup]:
    """The cells' names beside their points, on the side that has room; names that would meet are moved apart."""
    sides: dict[bool, list[Point]] = {True: [], False: []}
    for point in points:
        width = 9 + CHARACTER * min(_CHARACTERS, len(point.label))
        sides[places[id(point)][0] + width <= across.end + 8].append(point)
    found = []
    for is_right, own in sides.items():
        own.sort(key=lambda point: places[id(point)][1])
        downs = apart([places[id(point)][1] for point in own], TITLE + 20, TITLE + 14 + _HEIGHT)
        for point, place in zip(own, downs, strict=True):
            at = places[id(point)][0] + (8 if is_right else -8)
            name = words(shortened(point.label, _CHARACTERS), at, place + 3.5, None, None if is_right else "end")
            found.append(_series(point, name, class_="series label"))
    return found


def _values(point: Point) -> tuple[str, str]:
    return digits.with_deviation(point.x, point.x_deviation), digits.with_deviation(point.y, point.y_deviation)


def _row(point: Point, is_best: bool) -> tuple[str, ...]:
    return (point.label, *_values(point), "yes" if is_best else "")
