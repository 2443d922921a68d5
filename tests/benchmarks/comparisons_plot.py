"""The picture of the comparisons: Δm of every method on every data set, with its interval."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from PIL import Image

_INK, _QUIET, _RULE = "#22303c", "#5c6b78", "#d5dce2"
_SHADE = {"": "#1f5f8b", "_tuned": "#c2571a"}
_MARKER = {"": "o", "_tuned": "D"}
_TUNED = "_tuned"
_BESIDE = 0.17  # of the height of a row, between a method as it is and tuned


def save(results: Mapping[str, Any], titles: Mapping[str, str], file: str) -> None:
    """Saves the picture of the results (`comparisons.Compared` by folder) as a PNG; a panel for each data set."""
    panels = [name for name in results if not name.endswith(_TUNED)]
    methods = [row.method for row in results[panels[0]].rows]
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(2.75 * len(panels) + 0.6, 0.36 * len(methods) + 1.35),
        sharey=True,
        layout="constrained",
    )
    for axis, name in zip(np.atleast_1d(axes), panels, strict=True):
        both = {kind: results[name + kind] for kind in ("", _TUNED) if name + kind in results}
        _panel(axis, both, methods)
        axis.set_title(f"{titles[name]}, {len(results[name].directions)} losses", fontsize=10, color=_INK, loc="left")
    np.atleast_1d(axes)[0].set_yticks(range(len(methods)), methods, family="monospace", fontsize=9, color=_INK)
    axis.invert_yaxis()
    figure.supxlabel(
        "Δm: better than each loss trained alone (0), in percent; with 95 % interval", fontsize=9, color=_INK
    )
    figure.legend(handles=_handles(any(name.endswith(_TUNED) for name in results)), **_LEGEND)
    with io.BytesIO() as picture:
        figure.savefig(picture, dpi=130)
        Image.open(picture).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1).save(file, optimize=True)
    plt.close(figure)


_LEGEND = {"loc": "outside upper center", "ncols": 3, "frameon": False, "fontsize": 9, "labelcolor": _INK}


def _handles(tuned: bool) -> list[Line2D]:
    line = {"color": _SHADE[""], "marker": _MARKER[""], "markersize": 6, "linewidth": 1.6}
    handles = [
        Line2D([], [], **line, label="differs from fixed weights"),
        Line2D([], [], **line, markerfacecolor="white", label="fixed weights, or no more than another seed changes"),
    ]
    if tuned:
        line |= {"color": _SHADE[_TUNED], "marker": _MARKER[_TUNED], "markersize": 5.5}
        handles.append(Line2D([], [], **line, label="each method tuned at equal cost"))
    return handles


def _panel(axis: Axes, both: Mapping[str, Any], methods: list[str]) -> None:
    """Draws one data set; what is far from the others stands at the edge, with its number."""
    rows = {(kind, row.method): row for kind, compared in both.items() for row in compared.rows if row.delta_m}
    low, high = ends([row.delta_m for row in rows.values()])
    axis.set_xlim(low, high)
    axis.axvline(0, color=_QUIET, linewidth=1.2, zorder=1)
    for (kind, method), row in rows.items():
        place = methods.index(method) + (0 if len(both) == 1 else _BESIDE if kind else -_BESIDE)
        mean, *interval = row.delta_m
        color = _SHADE[kind]
        if mean < low:
            axis.annotate(
                f"{mean:,.0f} %".replace("-", "\N{MINUS SIGN}"),
                (low, place),
                (low + 0.1 * (high - low), place),
                fontsize=8.5,
                color=color,
                va="center",
                arrowprops={"arrowstyle": "-|>", "color": color, "shrinkB": 0},
            )
            continue
        if None not in interval:
            axis.plot(interval, [place, place], color=color, linewidth=1.6, solid_capstyle="butt", zorder=2)
        is_open = row.verdict is None
        axis.plot(
            mean,
            place,
            _MARKER[kind],
            color=color,
            markersize=6 if kind == "" else 5.5,
            markerfacecolor="white" if is_open else color,
            zorder=3,
        )
    axis.grid(axis="x", color=_RULE, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8.5, colors=_INK, length=0)
    for side, spine in axis.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_edgecolor(_RULE)


def ends(values: Sequence[tuple[float, float | None, float | None]]) -> tuple[float, float]:
    """The ends of an axis with 0 and all values (mean, lower and upper end), but for those far below the others."""
    means = np.array([mean for mean, *_ in values])
    middle, highest = np.median(means), max(means.max(), 0.0)
    near = [value for value in values if value[0] >= middle - 5 * (highest - middle)]
    shown = [end for value in near for end in value if end is not None] + [0.0]
    margin = 0.07 * (max(shown) - min(shown))
    return min(shown) - margin, max(shown) + margin
