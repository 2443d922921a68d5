"""The picture of a run: every loss, gradient norms and conflicts over steps."""

import io
import math
import pathlib
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence

from trainer.common import atomic_files
from trainer.config import monitors
from trainer.output.reports import TRAIN, VALIDATION, Report

_WIDTH = 6  # panels beside one another
_LEGEND = 12  # names
_WATCHED = "best and early stopping"
_INCHES = (4.0, 3.2)  # of a panel: its width and height
# Around a panel's axes. The same for all: laying out by what is drawn takes longer than the drawing.
_LEFT, _RIGHT, _BELOW, _ABOVE = 0.85, 0.15, 0.5, 0.35


# A name of reports → split → steps and values, as machine numbers: a long run has millions of them.
Curves = Mapping[str, Mapping[str, tuple[array, array]]]


def save_curves(reports: Iterable[Report], losses: Sequence[str], path: pathlib.Path) -> None:
    """Draws losses (training and validation), metrics, gradient norms, cosines and coefficients against steps.

    Args:
      reports: all reports of the run, which are read once.
      losses: names of the losses, and of metrics without one.
      path: PNG file to write.
    """
    from matplotlib.figure import Figure  # takes a second, which a start, and a worker that draws nothing, can spare

    curves = _curves(reports)
    metrics = _names(curves, lambda name: name.split("/")[0] in losses)
    watched = _names(curves, lambda name: name.startswith(monitors.PREFIX))
    losses = [name for name in losses if f"loss/{name}" in curves]
    panels = [
        ("gradient norms", "grad_norm/", TRAIN, "log"),
        ("cosines between gradients", "cosine/", TRAIN, "linear"),
        ("coefficients of the gradients", "coefficient/", TRAIN, "linear"),
    ]
    names = {prefix: _names(curves, lambda name, prefix=prefix: name.startswith(prefix)) for _, prefix, _, _ in panels}
    bottom = [panel for panel in panels if names[panel[1]]]  # nothing shared: no cosines; no step measured: none
    of_validation = [panel for panel in (("validation metrics", metrics), (_WATCHED, watched)) if panel[1]]
    width = max(3, min(len(losses), _WIDTH), len(bottom) + len(of_validation))
    height = -(-len(losses) // width) + 1
    figure = Figure(figsize=(_INCHES[0] * width, _INCHES[1] * height))
    axes = figure.subplots(height, width, squeeze=False)
    figure.subplots_adjust(**_margins(width, height))
    for axis, loss in zip(axes[:-1].flat, losses, strict=False):
        for split, style in ((TRAIN, {"alpha": 0.6}), (VALIDATION, {"marker": "o", "markersize": 3})):
            _draw(axis, curves, f"loss/{loss}", split, label=split, **style)
        positive = all(value > 0 for value in _values(curves, f"loss/{loss}"))
        axis.set(title=f"loss {loss}", yscale="log" if positive else "linear")
        _legend(axis)
    for axis, (title, prefix, split, scale) in zip(axes[-1], bottom, strict=False):
        for name in names[prefix]:
            _draw(axis, curves, name, split, label=name.removeprefix(prefix))
        axis.set(title=title, yscale=scale)
        if prefix == "cosine/":
            axis.axhline(0, color="black", linewidth=0.8)
        _legend(axis)
    for axis, (title, of_panel) in zip(axes[-1][len(bottom) :], of_validation, strict=False):
        for name in of_panel:
            label = name.removeprefix(monitors.PREFIX)
            _draw(axis, curves, name, VALIDATION, label=label, marker="o", markersize=3)
        axis.set(title=title)
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


def _curves(reports: Iterable[Report]) -> Curves:
    curves: dict[str, dict[str, tuple[array, array]]] = {}
    for report in reports:
        for name, value in report.values.items():
            steps, values = curves.setdefault(name, {}).setdefault(report.split, (array("d"), array("d")))
            if value is not None:
                steps.append(report.step)
                values.append(value)
    return curves


def _names(curves: Curves, wanted: Callable[[str], bool]) -> list[str]:
    return [name for name in curves if wanted(name)]


def _legend(axis) -> None:
    # A run may have no value of a kind at all; the pairs of many losses would leave no room for their curves.
    if 0 < len(axis.get_legend_handles_labels()[0]) <= _LEGEND:
        axis.legend()


def _values(curves: Curves, name: str) -> list[float]:
    return [value for _, values in curves.get(name, {}).values() for value in values if math.isfinite(value)]


def _draw(axis, curves: Curves, name: str, split: str, **style) -> None:
    steps, values = curves.get(name, {}).get(split, ((), ()))
    if steps:
        axis.plot(steps, values, **style)
