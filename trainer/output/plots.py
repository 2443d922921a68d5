"""The picture of a run: every loss, metrics, gradient norms, coefficients and conflicts over steps."""

import io
import math
import pathlib
import textwrap
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from trainer.common import atomic_files
from trainer.config import monitors
from trainer.output.reports import TRAIN, VALIDATION, Report

_LINES = 8  # of losses in one panel; more are rows of a heat map
_NAMED = 16  # rows of a heat map that have room for a name
_CHARACTERS = 18  # of a row's name
_MANY = 20  # panels, which are drawn in less detail: half of the time goes into text and pixels
_COLUMNS = 100  # of a heat map, each the mean of the reports in its steps
_INCHES = (3.6, 2.7)  # of a panel: its width and height
_LEFT, _RIGHT, _BELOW, _ABOVE = 0.95, 0.25, 0.5, 0.35  # around a panel's axes
_HEAD = 0.45  # above all panels, for the title; a line of the legend takes _LINE more
_LINE = 0.22
_COLOURS = ("#1f77b4", "#d95f02", "#1b9e77", "#9467bd", "#8c564b", "#e377c2", "#555555", "#bcbd22")

# A name of reports → split → steps and values, as machine numbers: a long run has millions of them.
Curves = Mapping[str, Mapping[str, tuple[array, array]]]


def save_curves(reports: Iterable[Report], losses: Sequence[str], path: pathlib.Path, title: str = "") -> None:
    """Draws losses (training and validation), metrics, gradient norms, coefficients and cosines against steps.

    Args:
      reports: all reports of the run, which are read once.
      losses: names of the losses, and of metrics without one.
      path: PNG file to write.
      title: above all panels.
    """
    figure = draw(_curves(reports), losses, title)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110 if len(figure.axes) <= _MANY else 80)
    atomic_files.write_whole(path, picture.getvalue())


def draw(curves: Curves, losses: Sequence[str], title: str) -> Any:
    """Returns the figure: a panel for each loss, one for each kind of metric, then those of the gradients."""
    from matplotlib.figure import Figure  # takes a second, which a start, and a worker that draws nothing, can spare

    colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(losses)}
    panels = _panels(curves, losses)
    width = min(len(panels), max(2, min(8, math.ceil(math.sqrt(1.3 * len(panels))))))
    height = -(-len(panels) // width)
    inches = (_INCHES[0] * width, _INCHES[1] * height)
    shown = [name for name in losses if len(losses) <= _LINES]
    columns = max(1, int(inches[0] / (0.6 + 0.09 * max(map(len, [*shown, VALIDATION])))))
    head = _HEAD + _LINE * -(-(len(shown) + 2) // columns)
    figure = Figure(figsize=(inches[0], inches[1] + head))
    axes = figure.subplots(height, width, squeeze=False)
    figure.subplots_adjust(**_margins(width, height, head))
    for axis, (kind, name, names) in zip(axes.flat, panels, strict=False):
        _PAINTERS[kind](axis, curves, names, colours)
        axis.set_title("\n".join(textwrap.wrap(name, 46)[:2]), fontsize=9)
        axis.tick_params(which="both", labelsize=7)
        if len(panels) > _MANY:
            axis.yaxis.set_minor_formatter("")
        axis.set_xlabel("" if kind == "matrix" else "step", fontsize=8)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    top = inches[1] + head
    figure.text(0.1 / inches[0], 1 - 0.15 / top, title, ha="left", va="top", fontsize=12, weight="bold")
    handles = [
        *(_handle(name, color=colours[name]) for name in shown),
        _handle(TRAIN, color="black", alpha=0.6),
        _handle(VALIDATION, color="black", linestyle="--", marker="o", markersize=3),
    ]
    place = (0.05 / inches[0], 1 - (_HEAD - 0.05) / top)
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=place, ncols=columns, frameon=False, fontsize=8)
    return figure


def _panels(curves: Curves, losses: Sequence[str]) -> list[tuple[str, str, dict[str, str]]]:
    """(kind, title, label → name of reports) of every panel that has values, in their order."""
    panels = [("loss", f"loss {loss}", {loss: f"loss/{loss}"}) for loss in losses if f"loss/{loss}" in curves]
    kinds: dict[str, dict[str, str]] = {}
    for name in curves:
        loss, _, kind = name.partition("/")
        if kind and loss in losses and loss not in _PREFIXES:
            kinds.setdefault(kind, {})[loss] = name
    panels += [(_lines_or_rows("metric", of), f"{VALIDATION} {kind}", of) for kind, of in kinds.items()]
    watched = {name.removeprefix(monitors.PREFIX): name for name in curves if name.startswith(monitors.PREFIX)}
    panels += [("metric", label, {label: name}) for label, name in watched.items()]
    for prefix, (kind, title) in _PREFIXES.items():
        names = {name.removeprefix(f"{prefix}/"): name for name in curves if name.startswith(f"{prefix}/")}
        if names:
            panels.append((_lines_or_rows(kind, names), title, names))
    pairs = {name.removeprefix("cosine/"): name for name in curves if name.startswith("cosine/")}
    if pairs:
        panels.append(("cosine", "cosines between gradients", pairs))
    if len(pairs) > 1:
        panels.append(("matrix", "mean cosine of each pair", pairs))
    return panels


_PREFIXES = {"grad_norm": ("norm", "gradient norms"), "coefficient": ("coefficient", "coefficients of the gradients")}


def _lines_or_rows(kind: str, names: Mapping[str, str]) -> str:
    return kind if len(names) <= _LINES else f"{kind} rows"


def _loss(axis: Any, curves: Curves, names: Mapping[str, str], colours: Mapping[str, str]) -> None:
    for label, name in names.items():
        _draw(axis, curves, name, TRAIN, color=colours[label], alpha=0.6)
        _draw(axis, curves, name, VALIDATION, color=colours[label], linestyle="--", marker="o", markersize=3)
        if all(value > 0 for value in _values(curves, name)):
            axis.set_yscale("log")
    axis.grid(alpha=0.3)


def _lines(axis: Any, curves: Curves, names: Mapping[str, str], colours: Mapping[str, str]) -> None:
    for label, name in names.items():
        split = TRAIN if name.split("/")[0] in _PREFIXES else VALIDATION
        style = {} if split == TRAIN else {"linestyle": "--", "marker": "o", "markersize": 3}
        _draw(axis, curves, name, split, color=colours.get(label, "black"), **style)
    axis.grid(alpha=0.3)


def _norms(axis: Any, curves: Curves, names: Mapping[str, str], colours: Mapping[str, str]) -> None:
    _lines(axis, curves, names, colours)
    axis.set_yscale("log")


def _rows(axis: Any, curves: Curves, names: Mapping[str, str], colours: Mapping[str, str], **style: Any) -> None:
    """Paints a row for each name: its mean over the reports of each interval of steps."""
    del colours
    splits = [TRAIN if name.split("/")[0] in (*_PREFIXES, "cosine") else VALIDATION for name in names.values()]
    found = [curves[name].get(split, ((), ())) for name, split in zip(names.values(), splits, strict=True)]
    last = max((steps[-1] for steps, _ in found if len(steps)), default=1.0)
    columns = min(_COLUMNS, max([1, *(len(steps) for steps, _ in found)]))
    edges = np.linspace(0, last, columns + 1)
    image = axis.pcolormesh(
        edges,
        np.arange(len(names) + 1) - 0.5,
        np.ma.masked_invalid([_interval_means(steps, values, edges) for steps, values in found]),
        **{"cmap": "viridis"} | style,
    )
    axis.set_facecolor("#dddddd")  # no value
    _name_rows(axis, list(names))
    axis.figure.colorbar(image, ax=axis, pad=0.02).ax.tick_params(labelsize=7)


def _log_rows(axis: Any, curves: Curves, names: Mapping[str, str], colours: Mapping[str, str]) -> None:
    from matplotlib.colors import LogNorm

    positive = any(value > 0 for name in names.values() for value in _values(curves, name))
    _rows(axis, curves, names, colours, **({"norm": LogNorm()} if positive else {}))


def _cosines(axis: Any, curves: Curves, names: Mapping[str, str], colours: Mapping[str, str]) -> None:
    _rows(axis, curves, names, colours, cmap="RdBu", vmin=-1, vmax=1)


def _matrix(axis: Any, curves: Curves, names: Mapping[str, str], colours: Mapping[str, str]) -> None:
    losses = list(colours)
    means = np.full((len(losses), len(losses)), np.nan)
    for pair, name in names.items():
        first, _, second = pair.partition("/")
        values = _values(curves, name)
        if values and first in colours and second in colours:
            at = losses.index(first), losses.index(second)
            means[at] = means[at[::-1]] = np.mean(values)
    image = axis.imshow(np.ma.masked_invalid(means), cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    axis.set_facecolor("#dddddd")
    _name_rows(axis, losses)
    axis.set_xticks([])  # the columns are the rows once more
    axis.figure.colorbar(image, ax=axis, pad=0.02).ax.tick_params(labelsize=7)


_PAINTERS = {
    "loss": _loss,
    "metric": _lines,
    "metric rows": _rows,
    "norm": _norms,
    "norm rows": _log_rows,
    "coefficient": _lines,
    "coefficient rows": _rows,
    "cosine": _cosines,
    "matrix": _matrix,
}


def _name_rows(axis: Any, names: Sequence[str]) -> None:
    """Names the rows from the top, where there is room for their names."""
    axis.set_ylim(len(names) - 0.5, -0.5)
    if len(names) <= _NAMED:
        axis.set_yticks(range(len(names)), [_short(name, _CHARACTERS) for name in names], fontsize=6)
    else:
        axis.set_yticks([])
        axis.set_ylabel(f"{len(names)} pairs" if "/" in names[0] else f"{len(names)} losses", fontsize=8)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _interval_means(steps: Sequence[float], values: Sequence[float], edges: np.ndarray) -> np.ndarray:
    """Returns the mean of the finite values in each interval (after an edge, up to the next); NaN where none is."""
    at, values = np.asarray(steps, float), np.asarray(values, float)
    at, values = at[finite := np.isfinite(values)], values[finite]
    index = np.clip(np.searchsorted(edges, at, side="left") - 1, 0, len(edges) - 2)
    counts, sums = (np.bincount(index, weights, len(edges) - 1) for weights in (None, values))
    return np.divide(sums, counts, out=np.full(len(edges) - 1, np.nan), where=counts > 0)


def _margins(width: int, height: int, head: float) -> dict[str, float]:
    """Returns the places of the axes of `width` times `height` panels, as `subplots_adjust` takes them."""
    across, down = _INCHES[0] - _LEFT - _RIGHT, _INCHES[1] - _BELOW - _ABOVE
    total = _INCHES[1] * height + head
    return {
        "left": _LEFT / (_INCHES[0] * width),
        "right": 1 - _RIGHT / (_INCHES[0] * width),
        "bottom": _BELOW / total,
        "top": 1 - (_ABOVE + head) / total,
        "wspace": (_LEFT + _RIGHT) / across,
        "hspace": (_BELOW + _ABOVE) / down,
    }


def _curves(reports: Iterable[Report]) -> Curves:
    curves: dict[str, dict[str, tuple[array, array]]] = {}
    for report in reports:
        for name, value in report.values.items():
            steps, values = curves.setdefault(name, {}).setdefault(report.split, (array("d"), array("d")))
            if value is not None:
                steps.append(report.step)
                values.append(value)
    return curves


def _handle(label: str, **style: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **style)


def _values(curves: Curves, name: str) -> list[float]:
    return [value for _, values in curves.get(name, {}).values() for value in values if math.isfinite(value)]


def _draw(axis: Any, curves: Curves, name: str, split: str, **style: Any) -> None:
    steps, values = curves.get(name, {}).get(split, ((), ()))
    if steps:
        axis.plot(steps, values, **style)
