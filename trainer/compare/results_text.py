"""The report of a comparison for people, `report.md`: the same numbers as in `results.json`."""

import math
from collections.abc import Iterable, Iterator, Sequence

from trainer.compare import results_verdict
from trainer.compare.results import (
    BETTER,
    DELTA_M,
    MEAN_RANK,
    TO_BEST,
    TO_FIXED,
    WORSE,
    CellResult,
    Difference,
    Metric,
    Results,
)
from trainer.compare.results_notes import listed
from trainer.config.directions import DOWN, UP
from trainer.output.page import digits

_IN_TABLE = 6  # metrics that stand in the table of the cells; more have one of their own
_ARROWS = {UP: " ↑", DOWN: " ↓", None: ""}
_OVERALL = {DELTA_M: "Δm, %", MEAN_RANK: "mean rank"}
_Rows = Iterable[Sequence[str]]


def report(results: Results) -> str:
    """Returns the report as Markdown: the table of all cells, differences, notes, every value, how to repeat it."""
    main = [cell for cell in results.cells if cell.single_task is None]
    parts = [
        _title_of(results, main),
        _text(" ".join(results_verdict.sentences(results))),
        "## The cells",
        _cells(results, main),
        *_differences(results),
        "## To know",
        "\n".join(f"- {_text(note)}" for note in results.notes),
        *_tuned(results),
        "## Every value",
        "Means over the complete runs of a cell ± their deviation. Values of each run are in `results.csv`.",
        *_every_value(results),
        "## To repeat it",
        "\n".join(f"    {command}" for command in results.commands),
        ", ".join(f"{name} {version}" for name, version in results.versions.items()) + ".",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _title_of(results: Results, main: Sequence[CellResult]) -> str:
    seeds = {run.seed for run in results.runs}
    tasks = list(dict.fromkeys(metric.task for metric in results.counted))
    of = f" on {_text(listed(tasks))}" if tasks else ""
    return f"# Comparison of {digits.count(len(main), 'cell')}, {digits.count(len(seeds), 'seed')}{of}"


def _cells(results: Results, main: Sequence[CellResult]) -> str:
    """The table of all cells; metrics are columns where they are few."""
    shown = results.counted if len(results.counted) <= _IN_TABLE else ()
    heading = ["cell", "runs", *(["Δm, %", "95 %"] if results.baseline else []), "mean rank", *map(_title, shown)]
    has_cost = any(cell.cost for cell in main)
    heading += ["seconds per step", "memory"] if has_cost else []
    best = {metric.name: _best_mean(results, main, metric) for metric in shown}
    rows = []
    for cell in main:
        row = [_text(cell.name), _counts(cell)]
        row += _delta(cell) if results.baseline else []
        row += [digits.number(cell.mean_rank, 3)]
        row += [_estimate(results, cell, metric, bold=best[metric.name]) for metric in shown]
        rows.append(row + (_cost(cell) if has_cost else []))
    for name, cells in _single_tasks(results).items():
        row = [_text(name), _range(cells), *(["0", ""] if results.baseline else []), digits.MISSING]
        own = {cell.single_task: cell for cell in cells}
        row += [_estimate(results, own.get(metric.task), metric) for metric in shown]
        rows.append(row + ([digits.MISSING] * 2 if has_cost else []))
    table = _table(heading, rows)
    return (
        table
        if len(shown) == len(results.counted)
        else f"{table}\n\n{_metrics(results, results.split, results.at, results.counted)}"
    )


def _differences(results: Results) -> Iterator[str]:
    """Sections of the paired differences: all tasks together, then metric by metric where they are few."""
    kinds = {kind: [each for each in results.differences if each.kind == kind] for kind in (TO_BEST, TO_FIXED)}
    pairs = {kind: {(each.cell, each.reference) for each in found} for kind, found in kinds.items()}
    if not results.differences:
        return
    yield "## Which differences are more than chance"
    yield (
        "Cell minus reference, paired by seeds: the mean, and the 95 % bootstrap interval in brackets. Where 0 lies in "
        "it, the two cannot be told apart. A star: less than another seed changes (the deviation of the reference)."
    )
    if kinds[TO_BEST]:
        yield f"Compared to the best cell, {_text(results.best)}:"
        yield _pairs(results, kinds[TO_BEST])
    if not pairs[TO_FIXED] <= pairs[TO_BEST]:
        yield f"Compared to fixed weights, `{results.fixed}`:"
        yield _pairs(results, kinds[TO_FIXED])


def _pairs(results: Results, differences: Sequence[Difference]) -> str:
    """A row for each cell; where references differ, with their names."""
    names = list(dict.fromkeys(each.of for each in differences))
    names = names if len(names) <= 1 + _IN_TABLE else names[:1]
    titles = {metric.name: _title(metric) for metric in results.counted} | _OVERALL
    references = {each.cell: each.reference for each in differences}
    is_one = len(set(references.values())) == 1
    found = {(each.cell, each.of): each for each in differences}
    rows = [
        [
            _text(cell) if is_one else f"{_text(cell)} - {_text(reference)}",
            *(_difference(found[cell, name]) for name in names),
        ]
        for cell, reference in references.items()
    ]
    return _table(["cell", *(titles[name] for name in names)], rows)


def _tuned(results: Results) -> Iterator[str]:
    rows = [
        [
            _text(cell.name),
            _text(", ".join(f"{key}={value}" for key, value in cell.tuning.get("settings", {}).items())),
            str(len(cell.tuning.get("trials", ()))),
        ]
        for cell in results.cells
        if cell.tuning is not None
    ]
    if rows:
        yield "## What was tuned"
        yield _table(["cell", "chosen", "trials"], rows, left=2)


def _every_value(results: Results) -> Iterator[str]:
    for split, at in dict.fromkeys(
        (split, at) for cell in results.cells for split, of in cell.estimates.items() for at in of
    ):
        yield f"### {split}, {'at the best step' if at == 'best' else 'after the last step'}"
        yield _metrics(results, split, at, results.metrics)


def _metrics(results: Results, split: str, at: str, metrics: Sequence[Metric]) -> str:
    """A table with a row for each metric and a column for each cell; single-task references share one."""
    main = [cell for cell in results.cells if cell.single_task is None]
    singles = _single_tasks(results)
    rows = []
    for metric in metrics:
        cells = [*main, *(next((c for c in own if c.single_task == metric.task), None) for own in singles.values())]
        found = [cell and cell.estimates.get(split, {}).get(at, {}).get(metric.name) for cell in cells]
        if any(found):
            values = (each and digits.with_deviation(each.mean, each.deviation) for each in found)
            rows.append([_title(metric), *(value or digits.MISSING for value in values)])
    return _table(["", *(_text(cell.name) for cell in main), *map(_text, singles)], rows)


def _single_tasks(results: Results) -> dict[str, list[CellResult]]:
    """Single-task references by what their settings are, with a name for each."""
    found: dict[str, list[CellResult]] = {}
    for cell in results.cells:
        if cell.single_task is not None:
            settings = " ".join(f"{key}={value}" for key, value in cell.settings.items())
            found.setdefault(f"single task {settings}".strip(), []).append(cell)
    return found


def _counts(cell: CellResult) -> str:
    count, failed = len(cell.seeds), len(cell.failures)
    return f"{count} of {count + failed}" if failed else str(count)


def _range(cells: Sequence[CellResult]) -> str:
    counts = list(dict.fromkeys(map(_counts, cells)))
    return (
        counts[0] if len(counts) == 1 else f"{min(len(c.seeds) for c in cells)} to {max(len(c.seeds) for c in cells)}"
    )


def _delta(cell: CellResult) -> list[str]:
    """Δm with its deviation, and its interval."""
    found = cell.delta_m
    if found is None:
        return [digits.MISSING] * 2
    text = digits.with_deviation(found.mean, found.deviation)
    return [f"+{text}" if found.mean > 0 else text, _interval(found.low, found.high) or digits.MISSING]


def _signed(value: float, decimals: int | None = None) -> str:
    text = digits.number(value, 3) if decimals is None else digits.fixed(value, decimals)
    return f"+{text}" if value > 0 else text


def _decimals(low: float, high: float) -> int | None:
    """The decimals that numbers with an interval have: two digits of half its width; None where that is too small."""
    half = (high - low) / 2
    return max(0, 1 - math.floor(math.log10(half))) if 1e-6 <= half < 1e7 else None


def _interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    decimals = _decimals(low, high)
    return "[{}, {}]".format(
        *(digits.number(end, 3) if decimals is None else digits.fixed(end, decimals) for end in (low, high))
    )


def _estimate(results: Results, cell: CellResult | None, metric: Metric, bold: float | None = None) -> str:
    found = cell and results.estimate(cell.name, metric.name)
    if not found:
        return digits.MISSING
    text = digits.with_deviation(found.mean, found.deviation)
    return f"**{text}**" if bold is not None and found.mean == bold else text


def _best_mean(results: Results, cells: Sequence[CellResult], metric: Metric) -> float | None:
    """The best mean of a metric among ranked cells, where there are two of them or more."""
    found = [results.estimate(cell.name, metric.name).mean for cell in cells if cell.mean_rank is not None]
    return None if len(found) < 2 else max(found) if metric.direction == UP else min(found)


def _cost(cell: CellResult) -> list[str]:
    cost = cell.cost
    if cost is None or cost.seconds is None:
        return [digits.MISSING] * 2
    seconds = f"{digits.number(cost.seconds, 3)}{_times(cost.relative_seconds, cost.passes)}"
    memory = digits.MISSING if cost.memory is None else f"{cost.memory / 2**20:,.0f} MiB{_times(cost.relative_memory)}"
    return [seconds, memory]


def _times(ratio: float | None, passes: str = "") -> str:
    words = "; ".join([*([] if ratio is None else [f"{ratio:.2f} x sum"]), *([passes] if passes else [])])
    return words and f" ({words})"


def _difference(found: Difference) -> str:
    if found.mean is None:
        return digits.MISSING
    if found.low is None:
        return f"{_signed(found.mean)} {found.verdict}"
    mean = _signed(found.mean, _decimals(found.low, found.high))
    star = "\\*" if found.is_small and found.verdict in (BETTER, WORSE) else ""
    return f"{mean} {_interval(found.low, found.high)} {found.verdict}{star}"


def _title(metric: Metric) -> str:
    return f"{_text(metric.name)}{_ARROWS[metric.direction]}"


def _table(heading: Sequence[str], rows: _Rows, left: int = 1) -> str:
    ruler = ["---" if place < left else "---:" for place in range(len(heading))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heading, ruler, *rows))


def _text(text: str) -> str:
    """Text of the user's as Markdown shows it in a table."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return " ".join(escaped.split())
