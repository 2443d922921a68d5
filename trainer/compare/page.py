"""`report.html` of a comparison."""

import collections
import pathlib
from collections.abc import Mapping, Sequence

from trainer.common import atomic_files
from trainer.compare import page_pareto, page_settings, page_tables, results_verdict
from trainer.compare.collected import CellRuns, Comparison
from trainer.compare.results import BEST, Results
from trainer.output import curves
from trainer.output.page import conflicts, digits, document, over_time
from trainer.output.page.conflicts import Found
from trainer.output.page.series import Group
from trainer.output.records import RunRecord

NAME = "report.html"
SINGLE_TASK = "single task"


def write(comparison: Comparison, results: Results) -> pathlib.Path:
    """Writes the page of a comparison into its directory and returns its path.

    Args:
      comparison: its runs, from which curves are drawn.
      results: its numbers.

    Raises:
      OSError: it cannot be written.
    """
    path = comparison.workdir / NAME
    atomic_files.write_whole(path, page(comparison, results))
    return path


def page(comparison: Comparison, results: Results) -> str:
    """Returns the HTML of a comparison's page."""
    styles = {cell.name: index for index, cell in enumerate(c for c in results.cells if c.single_task is None)}
    groups = _groups(comparison.cells, styles)
    baselines = _baselines(comparison.cells, len(styles))
    losses = list(dict.fromkeys(loss for cell in comparison.cells for run in cell.runs.values() for loss in run.losses))
    metrics = [metric.name for metric in results.metrics if not metric.name.startswith("loss/")]
    cosines = conflicts.found(groups)
    sections = [page_tables.section(results), page_pareto.section(results, styles)]
    if groups:
        sections += over_time.sections([*groups, *baselines], losses, metrics)
        sections += [conflicts.section(cosines), *over_time.gradients(groups, losses)]
    sections.append(page_settings.section(comparison, results))
    headline, *verdict = results_verdict.sentences(results)
    lead = [*([" ".join(verdict)] if verdict else []), _shape(comparison, results, losses)]
    lead += _conflict(cosines)
    name = comparison.workdir.name or "comparison"
    title = f"{name} · comparison"
    return document.page(
        title, title, headline.removesuffix("."), lead, [each for each in sections if each is not None]
    )


def _shape(comparison: Comparison, results: Results, losses: Sequence[str]) -> str:
    cells = [cell for cell in results.cells if cell.single_task is None]
    seeds = digits.count(len(comparison.seeds), "seed")
    text = f"{digits.count(len(cells), 'cell')} with {seeds} each, {digits.count(len(losses), 'loss', 'losses')}"
    ends = sorted({run.last_step for run in results.runs if run.last_step is not None})
    if ends:
        steps = f"{ends[0]:,}" if len(ends) == 1 else f"{ends[0]:,} to {ends[-1]:,}"
        text += f", {steps} steps a run"
    at = "at each run's best step" if results.at == BEST else "after the last step"
    return f"{text}. Values are of the {results.split} split, {at}."


def _conflict(cosines: Sequence[Found]) -> list[str]:
    """The pair that most cells have as the one most often in conflict, in a sentence; none where none ever is."""
    names = collections.Counter(row.names for row in conflicts.most(cosines))
    if not names:
        return []
    (pair, count), *_ = names.most_common(1)
    cells = digits.count(len(cosines), "cell")
    return [f"The gradients of {pair} are those most often in conflict in {count} of {cells}."]


def _groups(cells: Sequence[CellRuns], styles: Mapping[str, int]) -> list[Group]:
    """The runs of each cell with several losses."""
    return [
        Group(cell.name, [curves.of_reports(run.reports) for run in runs], styles[cell.name])
        for cell in cells
        if cell.name in styles and (runs := _shown(cell))
    ]


def _baselines(cells: Sequence[CellRuns], style: int) -> list[Group]:
    """All runs of single losses as one group, in which each loss is found in its own runs."""
    runs = [run for cell in cells if cell.single_task is not None for run in _shown(cell)]
    return [Group(SINGLE_TASK, [curves.of_reports(run.reports) for run in runs], style)] if runs else []


def _shown(cell: CellRuns) -> list[RunRecord]:
    """The complete runs of a cell, of which its numbers are; where there are none, those that have reported."""
    runs = [run for run in cell.runs.values() if run.reports]
    return [run for run in runs if run.is_complete] or runs
