"""The panels of a run's picture: which there are, and how each is painted."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from trainer.config import monitors
from trainer.output.curves import Curves
from trainer.output.reports import TRAIN, VALIDATION

LOSS, METRIC, NORM, COEFFICIENT, COSINE, MATRIX = "loss", "metric", "norm", "coefficient", "cosine", "matrix"
ROWS = " rows"  # after a kind: its panel is a heat map
MOST_LINES = 8  # in one panel; more are rows of a heat map
_MOST_PAIRS = 40  # rows of a heat map of pairs; of more, those that conflict most
_COLUMNS = 25  # of a heat map, each the mean of the reports in its steps
_TICKS = 6


class Panel(NamedTuple):
    """One picture of several.

    Attributes:
      kind: one of `LOSS` and so on.
      title: above it.
      names: label → name of reports.
      rows: the number of rows, and of their names, where it is a heat map; else 0.
    """

    kind: str
    title: str
    names: Mapping[str, str]
    rows: int = 0


def panels_of(curves: Curves, losses: Sequence[str]) -> list[Panel]:
    """Every panel that has values, in their order: losses, metrics, gradient norms, coefficients, cosines."""
    panels = [Panel(LOSS, f"loss {loss}", {loss: f"loss/{loss}"}) for loss in losses if f"loss/{loss}" in curves]
    kinds: dict[str, dict[str, str]] = {}
    for name in curves:
        loss, _, kind = name.partition("/")
        if kind and loss in losses and loss not in _PREFIXES:
            kinds.setdefault(kind, {})[loss] = name
    panels += [_lines_or_rows(METRIC, f"{VALIDATION} {kind}", of) for kind, of in kinds.items()]
    watched = {name.removeprefix(monitors.PREFIX): name for name in curves if name.startswith(monitors.PREFIX)}
    panels += [Panel(METRIC, label, {label: name}) for label, name in watched.items()]
    for prefix, (kind, title) in _PREFIXES.items():
        names = {name.removeprefix(f"{prefix}/"): name for name in curves if name.startswith(f"{prefix}/")}
        if names:
            panels.append(_lines_or_rows(kind, title, names))
    pairs = {name.removeprefix("cosine/"): name for name in curves if name.startswith("cosine/")}
    if pairs:
        shown, title = pairs, "cosines between gradients"
        if len(pairs) > _MOST_PAIRS:
            means = {pair: _mean(curves, name) for pair, name in pairs.items()}
            shown = {pair: pairs[pair] for pair in sorted(means, key=means.get)[:_MOST_PAIRS]}
            title = f"cosines of the {_MOST_PAIRS} pairs of {len(pairs)} that conflict most"
        panels.append(Panel(COSINE, title, shown, len(shown)))
    if len(pairs) > 1:
        panels.append(Panel(MATRIX, "mean cosine of each pair", pairs, len(losses)))
    return panels


_PREFIXES = {"grad_norm": (NORM, "gradient norms"), "coefficient": (COEFFICIENT, "coefficients of the gradients")}


def _lines_or_rows(kind: str, title: str, names: Mapping[str, str]) -> Panel:
    return Panel(kind, title, names) if len(names) <= MOST_LINES else Panel(f"{kind}{ROWS}", title, names, len(names))


def paint(panel: Panel, axis: Any, curves: Curves, colours: Mapping[str, str], characters: int) -> None:
    """Paints a panel.

    Args:
      panel: the panel.
      axis: matplotlib's axes.
      curves: all values.
      colours: loss → its colour, in the order of the losses.
      characters: the most of a row's name.
    """
    if panel.kind == MATRIX:
        _matrix(axis, curves, panel.names, list(colours), characters)
    elif panel.rows:
        _rows(axis, curves, panel, characters)
    else:
        _lines(axis, curves, panel, colours)


def _lines(axis: Any, curves: Curves, panel: Panel, colours: Mapping[str, str]) -> None:
    for label, name in panel.names.items():
        colour = colours.get(label, "black")
        if panel.kind != METRIC:
            _draw(axis, curves, name, TRAIN, color=colour, alpha=0.6 if panel.kind == LOSS else 1)
        if panel.kind in (LOSS, METRIC):
            _draw(axis, curves, name, VALIDATION, color=colour, linestyle="--", marker="o", markersize=3)
    values = [value for name in panel.names.values() for value in _values(curves, name)]
    if panel.kind in (LOSS, NORM) and values and min(values) > 0:
        _scale_log(axis, min(values), max(values))


def _scale_log(axis: Any, low: float, high: float) -> None:
    """Gives an axis a logarithmic scale with a few plain numbers; matplotlib's own are formulas, slow and small."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    axis.set_yscale("log")
    axis.yaxis.set_minor_locator(NullLocator())
    margin = (high / low) ** 0.05 if high > low * 1.001 else 1.05
    low, high = low / margin, high * margin
    axis.set_ylim(low, high)
    ticks = log_ticks(low, high)
    axis.yaxis.set_major_locator(FixedLocator(ticks))  # matplotlib's own function would make each tick twice
    axis.yaxis.set_major_formatter(FixedFormatter([f"{tick:.3g}" for tick in ticks]))


def log_ticks(low: float, high: float) -> list[float]:
    """A few numbers between two positive ones, as round as there is room for."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)):
        found = [tick for n in decades for digit in digits if low <= (tick := digit * 10.0**n) <= high]
        if len(found) >= 3:
            return found[:: -(-len(found) // _TICKS)]
    return [float(tick) for tick in np.linspace(low, high, 5)[1:4]]


def _rows(axis: Any, curves: Curves, panel: Panel, characters: int) -> None:
    """Paints a row for each name: its mean over the reports of each interval of steps."""
    from matplotlib.colors import LogNorm

    split = VALIDATION if panel.kind.startswith(METRIC) else TRAIN
    found = [curves[name].get(split, ((), ())) for name in panel.names.values()]
    edges = interval_edges([steps for steps, _ in found])
    means = np.ma.masked_invalid([interval_means(steps, values, edges) for steps, values in found])
    style: dict[str, Any] = {"cmap": "viridis"}
    if panel.kind == COSINE:
        style = {"cmap": "RdBu", "vmin": -1, "vmax": 1}
    elif panel.kind.startswith(NORM) and means.count() and means.max() > 0:
        means = np.ma.masked_less_equal(means, 0)
        style["norm"] = LogNorm()
    image = axis.pcolormesh(edges, np.arange(len(found) + 1) - 0.5, means, **style)
    axis.set_facecolor("#dddddd")  # no value
    _name_rows(axis, list(panel.names), characters)
    _add_scale(axis, image)


def interval_edges(steps: Sequence[Sequence[float]]) -> np.ndarray:
    """Returns the edges of the columns of a heat map: 0 and the steps of reports, of many every n-th from the last on.

    Args:
      steps: of each row's reports, ascending.
    """
    every = np.unique(np.concatenate([[1.0] if not any(map(len, steps)) else [], *map(np.asarray, steps)]))
    kept = every[::-1][:: -(-len(every) // _COLUMNS)][::-1]
    return np.concatenate([[0.0], kept[kept > 0]])


def interval_means(steps: Sequence[float], values: Sequence[float], edges: np.ndarray) -> np.ndarray:
    """Returns the mean of the finite values in each interval (after an edge, up to the next); NaN where none is."""
    at, values = np.asarray(steps, float), np.asarray(values, float)
    at, values = at[finite := np.isfinite(values)], values[finite]
    index = np.clip(np.searchsorted(edges, at, side="left") - 1, 0, len(edges) - 2)
    counts, sums = (np.bincount(index, weights, len(edges) - 1) for weights in (None, values))
    return np.divide(sums, counts, out=np.full(len(edges) - 1, np.nan), where=counts > 0)


def _matrix(axis: Any, curves: Curves, pairs: Mapping[str, str], losses: Sequence[str], characters: int) -> None:
    means = np.full((len(losses), len(losses)), np.nan)
    for pair, name in pairs.items():
        first, _, second = pair.partition("/")
        if first in losses and second in losses:
            at = losses.index(first), losses.index(second)
            means[at] = means[at[::-1]] = _mean(curves, name)
    image = axis.imshow(np.ma.masked_invalid(means), cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    axis.set_facecolor("#dddddd")
    _name_rows(axis, losses, characters)
    axis.xaxis.set_visible(False)
    style = {"transform": axis.get_xaxis_transform(), "rotation": 90, "ha": "center", "va": "top", "fontsize": 6}
    for place, name in enumerate(losses):
        axis.text(place, -0.02, _short(name, _COLUMN_CHARACTERS), **style)
    _add_scale(axis, image)


_COLUMN_CHARACTERS = 14


def _name_rows(axis: Any, names: Sequence[str], characters: int) -> None:
    """Names the rows, the first one at the top: as texts, since a tick takes three times as long."""
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.yaxis.set_visible(False)
    style = {"transform": axis.get_yaxis_transform(), "ha": "right", "va": "center", "fontsize": 6}
    for place, name in enumerate(names):
        axis.text(-0.01, place, _short(name, characters), **style)


def _add_scale(axis: Any, image: Any) -> None:
    axis.grid(visible=False)
    axis.figure.colorbar(image, ax=axis, pad=0.02, aspect=30, fraction=0.05)


def _short(text: str, most: int) -> str:
    """A name of `most` characters at most; both parts of a pair's keep their beginnings."""
    if len(text) <= most:
        return text
    first, slash, second = text.partition("/")
    if not slash:
        return f"{text[: most - 1]}…"
    half = (most - 1) // 2
    room = max(half, most - 1 - len(second)), max(half, most - 1 - len(first))
    return "/".join(_short(each, most_of) for each, most_of in zip((first, second), room, strict=True))


def _values(curves: Curves, name: str) -> list[float]:
    return [value for _, values in curves.get(name, {}).values() for value in values if math.isfinite(value)]


def _mean(curves: Curves, name: str) -> float:
    values = _values(curves, name)
    return float(np.mean(values)) if values else math.nan


def _draw(axis: Any, curves: Curves, name: str, split: str, **style: Any) -> None:
    steps, values = curves.get(name, {}).get(split, ((), ()))
    if steps:
        axis.plot(steps, values, **style)
