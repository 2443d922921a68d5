"""The picture of the toy problem: every combination's paths over the contours of the losses' sum."""

import io
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from matplotlib import colors, patheffects
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from PIL import Image

from configs import toy_problem
from tests.benchmarks import toy_problem_runs

_COLUMNS = 4
_EDGE = 10.8
_PATHS = ("#d1495b", "#1b7f79", "#7a4fa3")
_PARETO = "#f2b705"
_INK = "#22303c"
_REACHED, _ELSEWHERE = {"marker": "*", "markersize": 13}, {"marker": "X", "markersize": 8}
_OUTLINE = (patheffects.Stroke(linewidth=3.4, foreground="white"), patheffects.Normal())


def save(combinations: Sequence[str], file: str) -> None:
    """Saves the picture of the committed paths of some combinations as a PNG."""
    committed = toy_problem_runs.committed_paths()
    paths = {name: committed[name] for name in combinations}
    rows = -(-len(paths) // _COLUMNS)
    figure, axes = plt.subplots(
        rows,
        _COLUMNS,
        figsize=(2.5 * _COLUMNS, 2.62 * rows + 0.5),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat[len(paths) :]:
        axis.set_axis_off()
    for axis, (combine, of_starts) in zip(axes.flat, paths.items(), strict=False):
        _landscape(axis)
        axis.plot(*toy_problem_runs.pareto_set().T, color=_PARETO, linewidth=6, solid_capstyle="round")
        reached = sum(toy_problem_runs.reaches(path[-1]) for path in of_starts)
        axis.set_title(f"{combine}  {reached} of {len(of_starts)}", fontsize=10, color=_INK, family="monospace", pad=4)
        for path, color in zip(of_starts, _PATHS, strict=True):
            x1, x2 = np.transpose(path)
            axis.plot(x1, x2, color=color, linewidth=1.8, solid_joinstyle="round", path_effects=_OUTLINE)
            axis.plot(x1[0], x2[0], "o", color=color, markersize=6, markeredgecolor="white")
            end = _REACHED if toy_problem_runs.reaches(path[-1]) else _ELSEWHERE
            axis.plot(x1[-1], x2[-1], color=color, markeredgecolor="white", markeredgewidth=0.8, clip_on=False, **end)
    handles = [
        Line2D([], [], color=_PARETO, linewidth=6, label="Pareto set"),
        Line2D([], [], marker="o", linestyle="", color=_INK, markersize=6, label="start"),
        Line2D([], [], **_REACHED, linestyle="", color=_INK, label="ends on the Pareto set"),
        Line2D([], [], **_ELSEWHERE, linestyle="", color=_INK, label="ends elsewhere"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=10)
    with io.BytesIO() as picture:
        figure.savefig(picture, dpi=120)
        Image.open(picture).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1).save(file, optimize=True)
    plt.close(figure)


def _landscape(axis: Axes) -> None:
    grid = np.linspace(-_EDGE, _EDGE, 401)
    x1, x2 = np.meshgrid(grid, grid)
    total = sum(loss.numpy() for loss in toy_problem.losses(tf.constant(x1), tf.constant(x2)).values())
    levels = np.linspace(-32.0, 16.0, 17)
    shades = colors.LinearSegmentedColormap.from_list("shades", ("#a9c7de", "#dbe7f0", "#faf7f1"))
    axis.contourf(x1, x2, total, levels, cmap=shades, extend="both")
    axis.contour(x1, x2, total, levels, colors="#7c93a6", linewidths=0.5, linestyles="solid", alpha=0.7)
    axis.set(xlim=(-_EDGE, _EDGE), ylim=(-_EDGE, _EDGE), xticks=(-7, 0, 7), yticks=(-8, 0, 8), aspect="equal")
    axis.tick_params(labelsize=8, colors=_INK, length=2)
    for spine in axis.spines.values():
        spine.set_edgecolor("#b9c6d0")
