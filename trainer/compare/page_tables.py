"""The tables of a comparison's page: a row for each cell, and what lies behind it."""

import math
from collections.abc import Callable, Mapping, Sequence

from trainer.compare.results import BETTER, DELTA_M, MEAN_RANK, TO_BEST, WORSE, CellResult, Difference, Metric, Results
from trainer.output.page import digits, document
from trainer.output.page.document import Cell, Section
from trainer.output.page.markup import Markup, joined

_BYTES = 2**20


def section(results: Results) -> Section:
    """Returns the section with the table of all cells, the notes, further values and differences."""
    others = [metric for metric in results.metrics if not metric.counts]
    parts: list[Markup] = [_main(results), document.notes(results.notes)]
    if others:
        parts.append(document.folded("All other values", _values(results, others)))
    if results.differences:
        parts.append(document.folded("Differences on equal seeds", _differences(results)))
    return Section("Results", "results", joined(*parts))


def arrow(metric: Metric) -> str:
    """Returns the direction of better values as an arrow; nothing where it is not known."""
    return {"up": " ↑", "down": " ↓"}.get(metric.direction or "", "")


def _main(results: Results) -> Markup:
    cells = [cell for cell in results.cells if cell.single_task is None]
    verdicts = {
        each.cell: _verdict(each) for each in results.differences if each.kind == TO_BEST and each.of == _of(results)
    }
    metrics = results.counted
    has_delta = any(cell.delta_m is not None for cell in cells)
    has_cost = any(cell.cost is not None for cell in cells)
    headings = ["cell", *(["Δm ↑"] if has_delta else []), "mean rank ↓"]
    headings += [f"{metric.name}{arrow(metric)}" for metric in metrics]
    headings += ["ms per step ↓", "memory ↓"] if has_cost else []
    bests = _bests(results, cells, metrics)
    rows = []
    for cell in cells:
        row = [_name(cell, results, verdicts.get(cell.name))]
        row += [_delta_m(cell, results)] if has_delta else []
        row.append(_number(cell.mean_rank, cell.name == bests.get(MEAN_RANK), digits_=3))
        row += [_estimate(results, cell.name, metric.name, bests.get(metric.name)) for metric in metrics]
        row += _cost(cell) if has_cost else []
        rows.append(row)
    rows += _baseline_rows(results, metrics, has_delta, has_cost)
    return document.table(headings, rows, label="Results of all cells", is_sortable=True)


def _of(results: Results) -> str:
    best = None if results.best is None else results.cell(results.best)
    return DELTA_M if best is not None and best.delta_m is not None else MEAN_RANK


def _verdict(difference: Difference) -> str:
    is_small = difference.is_small and difference.verdict in (BETTER, WORSE)
    return f"{difference.verdict}, by less than another seed changes" if is_small else difference.verdict


def _name(cell: CellResult, results: Results, verdict: str | None) -> Cell:
    """The cell's name; below it why runs of it failed, or how it compares with the best cell."""
    note = ""
    if cell.failures:
        reasons = dict.fromkeys(cell.failures.values())
        seeds = ", ".join(map(str, cell.failures))
        note = f"seed{'s' if len(cell.failures) > 1 else ''} {seeds}: {'; '.join(reasons)}"
    elif cell.name == results.best:
        note = "best"
    elif verdict is not None:
        note = f"compared to the best: {verdict}"
    return Cell(cell.name, note=note)


def _delta_m(cell: CellResult, results: Results) -> Cell:
    delta = cell.delta_m
    if delta is None:
        return Cell(digits.MISSING)
    text = f"{digits.signed(delta.mean, 2)}{digits.PERCENT}"
    note = "" if delta.low is None else f"{digits.signed(delta.low, 1)} to {digits.signed(delta.high, 1)}"
    return Cell(text, delta.mean, note, cell.name == results.best)


def _estimate(results: Results, cell: str, metric: str, best: str | None) -> Cell:
    found = results.estimate(cell, metric)
    if found is None or found.mean is None:
        return Cell(digits.MISSING)
    every = (results.estimate(each.name, metric) for each in results.cells)
    decimals = digits.decimals_of(each.deviation for each in every if each is not None)
    return Cell(digits.with_deviation(found.mean, found.deviation, decimals), found.mean, is_best=cell == best)


def _number(value: float | None, is_best: bool, *, digits_: int = 4) -> Cell:
    return Cell(digits.MISSING) if value is None else Cell(digits.number(value, digits_), value, is_best=is_best)


def _cost(cell: CellResult) -> list[Cell]:
    cost = cell.cost
    if cost is None:
        return [Cell(digits.MISSING)] * 2
    if cost.seconds is None:
        seconds = Cell(digits.MISSING, note=cost.failure or "")
    else:
        milliseconds = 1000 * cost.seconds
        note = "; ".join(filter(None, (_times(cost.relative_seconds), cost.passes)))
        seconds = Cell(digits.number(milliseconds, 3), milliseconds, note)
    if cost.memory is None:
        return [seconds, Cell(digits.MISSING)]
    text = f"{digits.number(cost.memory / _BYTES, 3)} MiB"
    return [seconds, Cell(text, cost.memory, _times(cost.relative_memory))]


def _times(factor: float | None) -> str:
    return "" if factor is None else f"{digits.number(factor, 3)} × sum"


def _baseline_rows(results: Results, metrics: Sequence[Metric], has_delta: bool, has_cost: bool) -> list[list[Cell]]:
    """One row of all single-task references: each metric's value is that of its task's own cell."""
    own = _single(results)
    if not own:
        return []
    failures = {f"{cell.name}: {reason}" for cell in own.values() for reason in cell.failures.values()}
    row = [Cell("single task", note="; ".join(sorted(failures)) or "each loss trained alone")]
    row += [Cell(digits.MISSING)] * (1 + has_delta)
    for metric in metrics:
        cell = own.get(metric.task)
        row.append(Cell(digits.MISSING) if cell is None else _estimate(results, cell.name, metric.name, None))
    return [[*row, *[Cell(digits.MISSING)] * (2 * has_cost)]]


def _single(results: Results) -> dict[str, CellResult]:
    return {cell.single_task: cell for cell in results.cells if cell.single_task is not None}


def _bests(results: Results, cells: Sequence[CellResult], metrics: Sequence[Metric]) -> dict[str, str]:
    """Metric, or `mean_rank` → the cell that is best in it."""
    found = {metric.name: _best(cells, lambda cell, name=metric.name: cell.ranks.get(name)) for metric in metrics}
    found[MEAN_RANK] = _best(cells, lambda cell: cell.mean_rank)
    return {name: best for name, best in found.items() if best is not None}


def _best(cells: Sequence[CellResult], rank: Callable[[CellResult], float | None]) -> str | None:
    ranks: Mapping[str, float] = {
        c.name: value for c in cells if (value := rank(c)) is not None and math.isfinite(value)
    }
    return min(ranks, key=ranks.__getitem__, default=None)


def _values(results: Results, metrics: Sequence[Metric]) -> Markup:
    rows = [
        [Cell(cell.name), *(_estimate(results, cell.name, metric.name, None) for metric in metrics)]
        for cell in results.cells
    ]
    headings = ["cell", *(f"{metric.name}{arrow(metric)}" for metric in metrics)]
    return document.table(headings, rows, label="All other values", is_sortable=True)


def _differences(results: Results) -> Markup:
    rows = []
    for each in results.differences:
        interval = digits.MISSING if each.low is None else f"{digits.signed(each.low)} to {digits.signed(each.high)}"
        of = {DELTA_M: "Δm", MEAN_RANK: "mean rank"}.get(each.of, each.of)
        mean = Cell(digits.MISSING) if each.mean is None else Cell(digits.signed(each.mean), each.mean)
        rows.append(
            [
                Cell(each.cell),
                Cell(each.reference),
                Cell(of),
                mean,
                Cell(interval),
                Cell(str(each.count)),
                Cell(_verdict(each)),
            ]
        )
    headings = ["cell", "minus", "of", "difference", "95 % interval", "seeds", "verdict"]
    return document.table(headings, rows, label="Differences on equal seeds", is_sortable=True)
