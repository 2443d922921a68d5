"""The last section of a comparison's page: settings, tuning, the commands that repeat it, versions."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.compare.collected import Comparison
from trainer.compare.results import CellResult, Results
from trainer.output.page import digits, document
from trainer.output.page.document import Cell, Section
from trainer.output.page.markup import Markup, joined
from trainer.output.page.run import configuration


def section(comparison: Comparison, results: Results) -> Section:
    """Returns the section."""
    configs = {
        cell.name: next(iter(cell.runs.values())).config
        for cell in comparison.cells
        if cell.runs and cell.single_task is None
    }
    parts: list[Markup] = []
    if results.commands:
        parts += [document.paragraph("The same comparison again:"), document.code("\n".join(results.commands))]
    tuned = [cell for cell in results.cells if cell.tuning]
    if tuned:
        parts += [document.paragraph("What tuning chose for each cell:"), _tuning(tuned)]
    if differing := differences(configs):
        parts += [document.paragraph("Settings in which the cells differ:"), _settings(differing, list(configs))]
    if results.versions:
        parts.append(document.facts(results.versions.items()))
    if configs:
        name, config = next(iter(configs.items()))
        parts.append(configuration(f"The whole configuration of {name}", config))
    return Section("What was run", "run", joined(*parts))


def differences(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Returns the settings that are not the same in all configurations, but for the seed: key → name → value.

    Args:
      configs: name → configuration, nested dictionaries.
    """
    flat = {name: _flat(config) for name, config in configs.items()}
    keys = dict.fromkeys(key for each in flat.values() for key in each if key != "seed")
    found = {key: {name: each.get(key, digits.MISSING) for name, each in flat.items()} for key in keys}
    return {key: values for key, values in found.items() if len(set(values.values())) > 1}


def _flat(config: Any, key: str = "") -> dict[str, str]:
    if isinstance(config, Mapping) and config:
        return {
            inner: text
            for name, value in config.items()
            for inner, text in _flat(value, f"{key}.{name}" if key else str(name)).items()
        }
    return {key: json.dumps(config, ensure_ascii=False, default=str).strip('"')}


def _settings(differing: Mapping[str, Mapping[str, str]], names: Sequence[str]) -> Markup:
    rows = [[Cell(key), *(Cell(values[name]) for name in names)] for key, values in differing.items()]
    return document.table(["setting", *names], rows, label="Settings in which the cells differ")


def _tuning(cells: Sequence[CellResult]) -> Markup:
    rows = []
    for cell in cells:
        tuning = cell.tuning or {}
        trials = tuning.get("trials", ())
        chosen = next((each for each in trials if each.get("number") == tuning.get("chosen")), {})
        settings = ", ".join(f"{key}={value}" for key, value in tuning.get("settings", {}).items())
        value = chosen.get("value")
        rows.append([Cell(cell.name), Cell(str(len(trials))), Cell(digits.number(value), value), Cell(settings)])
    return document.table(["cell", "trials", "objective", "settings"], rows, label="What tuning chose")
