"""The numbers of a dataset as tables for a terminal."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from input_pipelines import configuration
from input_pipelines.configuration import TRAIN, DatasetConfig
from input_pipelines.data import Data
from input_pipelines.feed.mixture import Mixture
from input_pipelines.feed.splits import Split, within
from input_pipelines.names import Names
from trainer.describe import tables
from trainer.describe.data_numbers import SplitSummary, Summary
from trainer.output import summary as summary_lib

_LISTED = 12  # classes: all of up to this many, else half as many of the most and of the least frequent
_BAR = 24
_EIGHTHS = " ▏▎▍▌▋▊▉"
_ROUNDING = 1e-6  # of what standardising leaves of a mean


def splits(config: DatasetConfig, data: Data) -> Table:
    """A row for every split and for every source of a mixture: its number of examples, and how they are fed."""
    table = tables.new("Splits", "split", "examples >", "fed")
    for name, split in data.splits.items():
        if not isinstance(split, Mixture):
            table.add_row(name, summary_lib.examples(len(split)), _fed(config, data, "dataset", name))
            continue
        table.add_row(name, f"{len(split):,}", "mixed")
        total = sum(split.quotas.values())
        for source, part in split.parts.items():
            fed = f"{split.quotas[source]} of every {total}, {_fed(config, data, f'dataset.sources.{source}', name)}"
            table.add_row(f"  {escape(source)}", f"{len(part):,}", fed)
    return table


def inputs(split: Split, summary: SplitSummary) -> Table:
    """A row for every input."""
    table = tables.new("Inputs", "input", "shape", "dtype", "min >", "max >", "mean >", "categories >")
    for name, numbers in within("inputs", summary.tensors).items():
        # A single input has a name there alone.
        categories = split.categories.get(name) or (() if name else next(iter(split.categories.values()), ()))
        shown = f"{sum(categories):,}" if categories else ""
        table.add_row(escape(name) or "input", *_described(numbers), shown)
    return table


def targets(summaries: Mapping[str, SplitSummary]) -> Table:
    """A row for every target: what it holds, and the share of missing labels in each split, training first."""
    table = tables.new("Targets", "target", "shape", "dtype", "min >", "max >", "mean >", "missing >", "weights")
    for name, numbers in within("targets", summaries[TRAIN].tensors).items():
        missing = [_share(summary.tensors[f"targets.{name}"].missing) for summary in summaries.values()]
        weights = numbers.weights
        shown = (
            ""
            if weights is None or weights == (1, 1)
            else f"{tables.number(weights[0])} to {tables.number(weights[1])}"
        )
        described = list(_described(numbers))
        if numbers.counts is not None:
            described[-1] = ""  # the mean of classes says nothing
        table.add_row(
            escape(name), *described, tables.NOTHING if set(missing) == {tables.NOTHING} else " / ".join(missing), shown
        )
    return table


def balances(summaries: Mapping[str, SplitSummary], names: Names) -> list[Table]:
    """A table for every target of classes, or of zeros and ones: how frequent each of them is."""
    found = []
    for name, numbers in within("targets", summaries[TRAIN].tensors).items():
        at = f"targets.{name}"
        of_splits = {split: balance(summary.tensors[at], names, at) for split, summary in summaries.items()}
        rows = of_splits[TRAIN]
        if rows is None:
            continue
        others = {split: of_split for split, of_split in of_splits.items() if split != TRAIN}
        title = "share of ones" if numbers.counts is None and numbers.ones.size > 1 else "balance"
        table = tables.new(f"{name}: {title}", "class", f"{TRAIN} >", "", *(f"{split} >" for split in others))
        most = max((share for _, share in rows.values()), default=0.0)
        for row in _shortened(rows):
            if row is None:
                between = f"... {len(rows) - _LISTED:,} between ..."
                table.add_row(f"[dim]{between}[/]", "", "", *("" for _ in others))
                continue
            label, share = rows[row]
            shown = ["" if each is None else _share(each.get(row, (label, 0.0))[1]) for each in others.values()]
            table.add_row(escape(label), _share(share), f"[cyan]{_bar(share / (most or 1))}[/]", *shown)
        found.append(table)
    return found


def balance(numbers: Summary, names: Names, tensor: str) -> dict[int, tuple[str, float]] | None:
    """Class → its name and its share of the labels; of a vector of zeros and ones, number → name and share of ones.

    Args:
      numbers: of the target.
      names: of classes and columns.
      tensor: `targets.<name>`.

    Returns:
      None for targets of other numbers and for pictures of zeros and ones.
    """
    known = names.classes.get(tensor, ((),))
    classes = known[0] if len(known) == 1 else ()
    if numbers.counts is not None:
        total = sum(numbers.counts.values())
        indices = sorted({*numbers.counts, *range(len(classes))})
        labels = (classes[index] if 0 <= index < len(classes) else str(index) for index in indices)
        shares = (numbers.counts.get(index, 0) / max(total, 1) for index in indices)
        return dict(zip(indices, zip(labels, shares, strict=True), strict=True))
    if numbers.ones is None or numbers.ones.ndim > 1:
        return None
    if numbers.ones.size == 1:
        share = float(numbers.ones.ravel()[0])
        return dict(enumerate(zip(classes if len(classes) == 2 else ("0", "1"), (1 - share, share), strict=True)))
    columns = names.columns.get(tensor) or [str(index) for index in range(numbers.ones.size)]
    return dict(enumerate(zip(columns, numbers.ones.tolist(), strict=True)))


def statistics(data: Data) -> Table | None:
    """A row for everything that preparation learned from the training split; None where it learned nothing."""
    table = tables.new("Learned from the training split", "of", "what", "values")
    for of_source in data.saved.statistics.values():
        for field, learned in of_source.items():
            for what, values in (entry for of_operation in learned for entry in of_operation.items()):
                name = field.removeprefix("dataset.").removeprefix("sources.")
                table.add_row(escape(name), what, escape(_values(values)))
    return table if table.row_count else None


def counted(summary: SplitSummary, split: str) -> str:
    """The examples that the numbers are of, in words."""
    return f"{'all' if summary.is_whole else 'the first'} {summary.examples:,} examples of {split}"


def _fed(config: DatasetConfig, data: Data, field: str, split: str) -> str:
    feed = data.saved.feeds[field]
    window = configuration.parts(config)[field].window
    if feed == "in_order":
        return "in its own order" if split == TRAIN else "in memory"
    return "in memory" if feed == "memory" else f"streaming, in windows of {window:,} examples"


def _described(numbers: Summary) -> tuple[str, ...]:
    mean = numbers.mean
    if mean is not None and abs(mean) < _ROUNDING * max(abs(numbers.low), abs(numbers.high)):
        mean = 0.0
    return (
        summary_lib.shape(numbers.shape),
        numbers.dtype,
        *(tables.number(value) for value in (numbers.low, numbers.high, mean)),
    )


def _shortened(rows: Mapping[int, tuple[str, float]]) -> Iterable[int | None]:
    """All rows where they are few, else the most and the least frequent, with None for what lies between."""
    if len(rows) <= _LISTED:
        return rows
    by_share = sorted(rows, key=lambda row: -rows[row][1])
    half = _LISTED // 2
    return [*by_share[:half], None, *by_share[-half:]]


def _values(values: Any) -> str:
    """Learned values in few words."""
    if isinstance(values, int | float):
        return tables.number(values)
    if values and isinstance(values[0], list):
        lengths = [len(each) for each in values]
        of_each = f"{min(lengths):,}" if min(lengths) == max(lengths) else f"{min(lengths):,} to {max(lengths):,}"
        return f"{len(values):,} columns, {of_each} each" if len(values) > 1 else _values(values[0])
    shown = [tables.number(value) if isinstance(value, int | float) else value for value in values]
    if len(shown) <= 6:
        return ", ".join(shown)
    if isinstance(values[0], int | float):
        return f"{len(values):,}, from {tables.number(min(values))} to {tables.number(max(values))}"
    return f"{len(values):,}: {', '.join(shown[:4])}, ..."


def _share(share: float) -> str:
    percent = 100 * share
    if percent in (0, 100):
        return tables.NOTHING if percent == 0 else "100 %"
    return f"{percent:.1f} %" if 0.05 <= percent < 99.95 else f"{percent:.2g} %" if percent < 1 else f"{percent:.4g} %"


def _bar(share: float) -> str:
    eighths = round(share * _BAR * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
