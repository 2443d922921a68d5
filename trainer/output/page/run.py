"""The page of a single run."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.config import directions
from trainer.output.curves import Curves
from trainer.output.page import conflicts, digits, document, over_time
from trainer.output.page.document import Cell, Section
from trainer.output.page.markup import Markup, element, joined
from trainer.output.page.series import Group, points
from trainer.output.reports import VALIDATION

_NAMED = 4  # results in the headline


def page(
    name: str,
    config: Mapping[str, Any],
    curves: Curves,
    *,
    titles: Mapping[str, str],
    words: str,
    parameters: str = "",
    times: Sequence[str] = (),
    notes: Sequence[str] = (),
    versions: Mapping[str, str] | None = None,
    commands: Sequence[str] = (),
) -> str:
    """Returns the HTML of a run's page.

    Args:
      name: the run's.
      config: its configuration, resolved, as nested dictionaries.
      curves: all values that it has reported; of the validation split one at least.
      titles: split → what stands above the table of its last values.
      words: how the losses are combined.
      parameters: the numbers of the model's parameters, in words; empty: they are not known.
      times: lines on its time, rate and memory.
      notes: lines of warning.
      versions: package → version.
      commands: those that repeat the run.
    """
    groups = [Group(name, [curves], 0)]
    losses, others = list(config["losses"]), list(config["metrics"])
    metrics = over_time.metric_names(groups, losses, others)
    cosines = conflicts.found(groups)
    sections = [
        _results(curves, config, [*losses, *others], metrics, titles),
        *over_time.sections(groups, losses, metrics),
        *([section] if (section := conflicts.section(cosines)) else []),
        *over_time.gradients(groups, losses),
        _what_was_run(config, versions or {}, commands, times),
    ]
    size = f", parameters: {parameters}" if parameters else ""
    lead = [f"{words}, batches of {config['batch_size']:,} examples, seed {config['seed']}{size}."]
    lead += [f"Warning: {note}." for note in notes]
    for row in conflicts.most(cosines):
        share = digits.percent(row.below)
        lead.append(f"The gradients of {row.names} conflict in {share} of the reports, the most of all pairs.")
    title = f"{name} · {config['combine']['name']}"
    return document.page(title, title, _headline(curves, losses, metrics), lead, sections)


def _headline(curves: Curves, losses: Sequence[str], metrics: Sequence[str]) -> str:
    """The last values on the validation split: of each loss a metric, or itself where it has none."""
    shown = [next((name for name in metrics if name.startswith(f"{loss}/")), f"loss/{loss}") for loss in losses]
    texts = []
    for name in shown[:_NAMED]:
        if (value := _last(curves, name, VALIDATION)) is not None:
            loss, _, kind = name.partition("/")
            texts.append(f"{f'{loss} {kind}' if name in metrics else f'loss {kind}'} {digits.number(value)}")
    last = _last_step(curves, VALIDATION)
    more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    return f"After {digits.count(last, 'step')}: {', '.join(texts)}{more}" if texts else f"{last:,} steps"


def _results(
    curves: Curves,
    config: Mapping[str, Any],
    names: Sequence[str],
    metrics: Sequence[str],
    titles: Mapping[str, str],
) -> Section:
    known = directions.of(config)
    kinds = list(dict.fromkeys(name.partition("/")[2] for name in metrics))
    parts: list[str] = []
    for split, title in titles.items():
        rows = []
        for name in names:
            head = config["losses"].get(name, {}).get("head") or name
            cells = [Cell(name, note="" if head == name else f"head {head}")]
            for value in (f"loss/{name}", *(f"{name}/{kind}" for kind in kinds)):
                cells.append(_value(curves, value, split, directions.of_value(value, known)))
            rows.append(cells)
        table = document.table(["name", "loss", *kinds], rows, label=title, is_sortable=len(rows) > 1)
        parts += [element("h3", title), table]
    text = "The last values; below them the best ones of the run with their steps, where others were better."
    return Section("Results", "results", joined(document.paragraph(text), *parts))


def _value(curves: Curves, name: str, split: str, direction: str | None) -> Cell:
    """A cell of the last value of a name, and the best one where that was another."""
    last = _last(curves, name, split)
    if last is None:
        return Cell(digits.MISSING if name in curves else "")
    found = points([curves], name, split)
    note = ""
    if found and direction is not None:
        steps, values = found[0]
        best = int(values.argmax() if direction == directions.UP else values.argmin())
        if values[best] != last:
            note = f"best {digits.number(float(values[best]))} at {steps[best]:,.0f}"
    return Cell(digits.number(last), last, note)


def _what_was_run(
    config: Mapping[str, Any], versions: Mapping[str, str], commands: Sequence[str], times: Sequence[str]
) -> Section:
    parts: list[Markup] = [document.paragraph(each) for each in times]
    if commands:
        parts += [document.paragraph("The same run again:"), document.code("\n".join(commands))]
    if versions:
        parts.append(document.facts(versions.items()))
    parts.append(configuration("The whole configuration", config))
    return Section("What was run", "run", joined(*parts))


def configuration(title: str, config: Mapping[str, Any]) -> Markup:
    """Returns a configuration, folded."""
    return document.folded(title, document.code(json.dumps(config, indent=2, ensure_ascii=False)))


def _last(curves: Curves, name: str, split: str) -> float | None:
    """The value in the last report of a split; None where that has none, or none that is finite."""
    found = curves.get(name, {}).get(split)
    if not found or not found[0] or found[0][-1] != _last_step(curves, split) or not math.isfinite(found[1][-1]):
        return None
    return found[1][-1]


def _last_step(curves: Curves, split: str) -> int:
    """The step of the last report of a split; 0 where there is none."""
    return int(max((own[split][0][-1] for own in curves.values() if split in own and own[split][0]), default=0))
