"""The picture of a run: every loss, gradient norms and conflicts over steps."""

import io
import math
import pathlib
from collections.abc import Sequence

from trainer.common import atomic_files
from trainer.output.reports import TRAIN, VALIDATION, Report

_WIDTH = 6  # panels beside one another
_LEGEND = 12  # names
_INCHES = (4.0, 3.2)  # of a panel: its width and height
# Around a panel's axes. The same for all: laying out by what is drawn takes longer than the drawing.
_LEFT, _RIGHT, _BELOW, _ABOVE = 0.85, 0.15, 0.5, 0.35


def save_curves(reports: Sequence[Report], losses: Sequence[str], path: pathlib.Path) -> None:
    """Draws losses (training and validation), metrics, gradient norms, cosines and coefficients against steps.

    Args:
      reports: all reports of the run.
      losses: names of the losses.
      path: PNG file to write.
    """
    from matplotlib.figure import Figure  # takes a second, which a start, and a worker that draws nothing, can spare

    has_metrics = any(name.split("/")[0] in losses for report in reports for name in report.values)
    panels = [
        ("gradient norms", "grad_norm/", TRAIN, "log"),
        ("cosines between gradients", "cosine/", TRAIN, "linear"),
        ("coefficients of the gradients", "coefficient/", TRAIN, "linear"),
    ]
    names = {prefix: _names(reports, lambda name, prefix=prefix: name.startswith(prefix)) for _, prefix, _, _ in panels}
    bottom = [panel for panel in panels if names[panel[1]]]  # nothing shared: no cosines; no step measured: none
    width = max(3, min(len(losses), _WIDTH), len(bottom) + has_metrics)
    height = -(-len(losses) // width) + 1
    figure = Figure(figsize=(_INCHES[0] * width, _INCHES[1] * height))
    axes = figure.subplots(height, width, squeeze=False)
    figure.subplots_adjust(**_margins(width, height))
    for axis, loss in zip(axes[:-1].flat, losses, strict=False):
        for split, style in ((TRAIN, {"alpha": 0.6}), (VALIDATION, {"marker": "o", "markersize": 3})):
            _draw(axis, reports, f"loss/{loss}", split, label=split, **style)
        positive = all(value > 0 for value in _values(reports, f"loss/{loss}"))
        axis.set(title=f"loss {loss}", yscale="log" if positive else "linear")
        _legend(axis)
    for axis, (title, prefix, split, scale) in zip(axes[-1], bottom, strict=False):
        for name in names[prefix]:
            _draw(axis, reports, name, split, label=name.removeprefix(prefix))
        axis.set(title=title, yscale=scale)
        if prefix == "cosine/":
            axis.axhline(0, color="black", linewidth=0.8)
        _legend(axis)
    if has_metrics:
        axis = axes[-1][len(bottom)]
        for name in _names(reports, lambda name: name.split("/")[0] in losses):
            _draw(axis, reports, name, VALIDATION, label=name, marker="o", markersize=3)
        axis.set(title="validation metrics")
        _legend(axis)
    for axis in axes.flat:
        if axis.has_data():
            axis.set_xlabel("step")
            axis.grid(alpha=0.3)
        else:
            axis.set_axis_off()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    atomic_files.write_whole(path, picture.getvalue())


def _margins(width: int, height: int) -> dict[str, float]:
    """Returns the places of the axes of `width` times `height` panels, as `subplots_adjust` takes them."""
    across, down = _INCHES[0] - _LEFT - _RIGHT, _INCHES[1] - _BELOW - _ABOVE
    return {
        "left": _LEFT / (_INCHES[0] * width),
        "right": 1 - _RIGHT / (_INCHES[0] * width),
        "bottom": _BELOW / (_INCHES[1] * height),
        "top": 1 - _ABOVE / (_INCHES[1] * height),
        "wspace": (_LEFT + _RIGHT) / across,
        "hspace": (_BELOW + _ABOVE) / down,
    }


def _names(reports: Sequence[Report], wanted) -> list[str]:
    return list(dict.fromkeys(name for report in reports for name in report.values if wanted(name)))


def _legend(axis) -> None:
    # A run may have no value of a kind at all; the pairs of many losses would leave no room for their curves.
    if 0 < len(axis.get_legend_handles_labels()[0]) <= _LEGEND:
        axis.legend()


def _values(reports: Sequence[Report], name: str) -> list[float]:
    values = [report.values.get(name) for report in reports]
    return [value for value in values if value is not None and math.isfinite(value)]


def _draw(axis, reports: Sequence[Report], name: str, split: str, **style) -> None:
    points = [
        (report.step, report.values[name])
        for report in reports
        if report.split == split and report.values.get(name) is not None
    ]
    if points:
        axis.plot(*zip(*points, strict=True), **style)
