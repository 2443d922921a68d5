"""Sections of values over steps: losses, metrics, gradient norms and coefficients.

Of one group, a run, lines are of its losses or of its splits; of several groups, the cells of a comparison, every panel
is of one value and has a line for each group.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from trainer.config import monitors
from trainer.output.page import document, lines
from trainer.output.page.document import Section
from trainer.output.page.markup import Markup, joined
from trainer.output.page.picture import Picture
from trainer.output.page.series import POINTS, Group, Line, line
from trainer.output.reports import TRAIN, VALIDATION

_TOGETHER = 8  # losses whose lines fit in one panel
_POINTS = 32  # of each line where a panel has one for each cell; fewer in more panels than 25, to keep the page small
_ALL_POINTS = 800
_COEFFICIENT = "coefficient"
_PREFIXES = ("loss", "grad_norm", _COEFFICIENT, "cosine", "learning_rate", "labels", "segment", "monitor")


def sections(groups: Sequence[Group], losses: Sequence[str], metrics: Sequence[str]) -> list[Section]:
    """Returns the sections of losses and metrics.

    Args:
      groups: one at least.
      losses: names of the losses.
      metrics: names of the metrics as reports have them, `<loss>/<metric>`.
    """
    found = [_losses(groups, losses)]
    watched = [name for name in values(groups) if name.startswith(monitors.PREFIX)]
    metrics = list(dict.fromkeys([*metrics, *watched]))
    alone = len(groups) == 1
    pictures = _by_kind(groups[0], metrics, losses) if alone else _each(groups, metrics, VALIDATION)
    if pictures:
        found.append(Section("Metrics", "metrics", joined(_note(groups, "On the validation split."), _all(pictures))))
    return [each for each in found if each is not None]


def gradients(groups: Sequence[Group], losses: Sequence[str]) -> list[Section]:
    """Returns the sections of gradient norms and of coefficients, those of them that runs have reported."""
    norms = "The norm of each loss's gradient over all variables that it reaches, in the reported steps."
    coefficients = "How much of each loss's gradient the method applied; only of methods that find coefficients."
    found = []
    for title, prefix, text in (
        ("Gradient norms", "grad_norm", norms),
        ("Coefficients", _COEFFICIENT, coefficients),
    ):
        names = {loss: f"{prefix}/{loss}" for loss in losses}
        own = [group for group in groups if any(name in curves for curves in group.runs for name in names.values())]
        if len(groups) == 1 and len(losses) <= _TOGETHER:
            pictures = _together(title.lower(), groups[0], names, TRAIN, losses)
        else:
            pictures = _each(own, names.values(), TRAIN)
        if pictures:
            found.append(Section(title, prefix.replace("_", "-"), joined(_note(own, text), _all(pictures))))
    return found


def metric_names(groups: Sequence[Group], losses: Sequence[str], others: Iterable[str] = ()) -> list[str]:
    """Returns the names of all metrics that runs report for the validation split, in the order of their losses.

    Args:
      groups: of runs.
      losses: names of the losses.
      others: names of metrics without a loss.
    """
    found = values(groups)
    return [
        name
        for loss in (*losses, *others)
        for name in found
        if name.startswith(f"{loss}/") and loss not in _PREFIXES and VALIDATION in found[name]
    ]


def values(groups: Sequence[Group]) -> dict[str, set[str]]:
    """Returns every name that runs report → the splits that have it, in the order of the reports."""
    found: dict[str, set[str]] = {}
    for group in groups:
        for curves in group.runs:
            for name, splits in curves.items():
                found.setdefault(name, set()).update(splits)
    return found


def _losses(groups: Sequence[Group], losses: Sequence[str]) -> Section | None:
    names = [f"loss/{loss}" for loss in losses]
    if len(groups) > 1:
        pictures, training = (_each(groups, names, split) for split in (VALIDATION, TRAIN))
        text = "On the validation split. Bands are a sample deviation over seeds around the mean."
        folds = [document.folded("Training losses", _all(training))] if training else []
        return Section("Losses", "losses", joined(_note(groups, text), _all(pictures), *folds)) if pictures else None
    pictures = []
    for loss, name in zip(losses, names, strict=True):
        group = _styled(groups[0], loss, losses)
        found = _known(
            [
                line(group, name, TRAIN, is_faint=True, label=TRAIN),
                line(group, name, VALIDATION, label=VALIDATION),
            ]
        )
        if found:
            pictures.append(lines.panel(name, found))
    text = "Lines with marks: on the validation split. Thin lines: of training, the mean over the steps of a report."
    return Section("Losses", "losses", joined(document.paragraph(text), _all(pictures))) if pictures else None


def _each(groups: Sequence[Group], names: Iterable[str], split: str) -> list[Picture]:
    """A panel for each value, with a line for each group that has it."""
    names = list(names)
    most = POINTS if len(groups) == 1 else max(1, min(_POINTS, _ALL_POINTS // max(1, len(names))))
    found = ((name, _known(line(group, name, split, most=most) for group in groups)) for name in names)
    return [lines.panel(name, drawn, can_be_log=_can_be_log(name, drawn)) for name, drawn in found if drawn]


def _together(title: str, group: Group, names: Mapping[str, str], split: str, losses: Sequence[str]) -> list[Picture]:
    """One panel with a line for each value (label → name) of a group, in the style of its loss."""
    drawn = _known(line(_styled(group, label, losses), name, split, label=label) for label, name in names.items())
    return [lines.panel(title, drawn, can_be_log=_can_be_log(next(iter(names.values())), drawn))] if drawn else []


def _by_kind(group: Group, names: Sequence[str], losses: Sequence[str]) -> list[Picture]:
    """A panel for each kind of metric with a line for each loss; one for each metric where there are many losses."""
    kinds: dict[str, dict[str, str]] = {}
    for name in names:
        loss, _, kind = name.partition("/")
        kinds.setdefault(kind, {})[loss] = name
    pictures = []
    for kind, of in kinds.items():
        if 1 < len(of) <= _TOGETHER:
            pictures += _together(kind, group, of, VALIDATION, losses)
        else:
            for loss, name in of.items():
                pictures += _each([_styled(group, loss, losses)], [name], VALIDATION)
    return pictures


def _styled(group: Group, loss: str, losses: Sequence[str]) -> Group:
    return dataclasses.replace(group, style=losses.index(loss) if loss in losses else len(losses))


def _can_be_log(name: str, drawn: Sequence[Line]) -> bool:
    """False for coefficients, and for metrics that grow, whose last gains a linear scale shows better."""
    kind = name.partition("/")[0]
    if kind in _PREFIXES:
        return kind != _COEFFICIENT
    return sum(each.values[-1] - each.values[0] for each in drawn) < 0


def _known(found: Iterable[Line | None]) -> list[Line]:
    return [each for each in found if each is not None]


def _all(pictures: Sequence[Picture]) -> Markup:
    return document.figures(pictures)


def _note(groups: Sequence[Group], text: str) -> Markup:
    """A sentence, and the names of the lines where all panels have the same ones."""
    keys = [document.legend([(group.label, group.style) for group in groups])] if len(groups) > 1 else []
    return joined(document.paragraph(text), *keys)
