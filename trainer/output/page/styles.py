"""Looks of lines and points that can be told apart without colour: strokes and marks."""

from trainer.output.page.markup import Markup, element

COLOURS = 8  # picture.css has a colour for each
_DASHES = (None, "7 3", "2 2.5", "9 3 2 3", "4 2", "1 3", "12 4", "6 2 1 2 1 2")
_SIZE = 3.2


def dash(style: int) -> str | None:
    """Returns the dashes of a line's stroke, as SVG writes them; None for a whole line."""
    return _DASHES[(style + style // COLOURS) % len(_DASHES)]


def colour(style: int) -> str:
    """Returns the class of a colour."""
    return f"s{style % COLOURS}"


def marks(style: int, places: list[tuple[float, float]], *, size: float = _SIZE, is_hollow: bool = False) -> Markup:
    """Returns the marks of a style at some places, as one path."""
    shape = _SHAPES[(style + style // COLOURS) % len(_SHAPES)]
    path = "".join(f"M{x:.1f} {y:.1f}{shape(size)}" for x, y in places)
    return element("path", d=path, class_="mark hollow" if is_hollow else "mark") if places else Markup()


def _circle(r: float) -> str:
    return f"m{-r:g} 0a{r:g} {r:g} 0 1 0 {2 * r:g} 0a{r:g} {r:g} 0 1 0 {-2 * r:g} 0z"


def _square(r: float) -> str:
    return f"m{-0.9 * r:g} {-0.9 * r:g}h{1.8 * r:g}v{1.8 * r:g}h{-1.8 * r:g}z"


def _triangle(r: float) -> str:
    return f"m0 {-1.2 * r:g}l{1.1 * r:g} {2 * r:g}h{-2.2 * r:g}z"


def _diamond(r: float) -> str:
    return f"m0 {-1.3 * r:g}l{1.2 * r:g} {1.3 * r:g}l{-1.2 * r:g} {1.3 * r:g}l{-1.2 * r:g} {-1.3 * r:g}z"


def _upside_down(r: float) -> str:
    return f"m0 {1.2 * r:g}l{1.1 * r:g} {-2 * r:g}h{-2.2 * r:g}z"


def _upright(r: float) -> str:
    return f"m{-0.45 * r:g} {-1.3 * r:g}h{0.9 * r:g}v{2.6 * r:g}h{-0.9 * r:g}z"


def _bar(r: float) -> str:
    return f"m{-1.3 * r:g} {-0.45 * r:g}h{2.6 * r:g}v{0.9 * r:g}h{-2.6 * r:g}z"


_SHAPES = (_circle, _square, _triangle, _diamond, _upside_down, _upright, _bar)
