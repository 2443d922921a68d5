"""A scan as tables and lines for a terminal."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from input_pipelines.names import Names
from trainer.describe import tables
from trainer.describe.scan.counting import Count, PartCounts
from trainer.describe.scan.parts import Part
from trainer.describe.scan.scanning import Scan

_LISTED = 1000  # classes


def show(scan: Scan, console: Console) -> None:
    """Prints a scan: tables of counts, what was left out, equal examples, and at the end what is wrong."""
    for table in _tables(scan):
        console.print(table)
    lines = [*scan.notes, *scan.duplicates]
    if scan.counts:
        lines = [
            *(scan.notes or ["Nothing was left out."]),
            *(scan.duplicates or ["No two examples are equal in all inputs."]),
        ]
    for line in [*lines, "", *(f"wrong: {line}" for line in scan.wrong), _verdict(scan)]:
        console.print(line, markup=False, soft_wrap=True)


def _verdict(scan: Scan) -> str:
    if not scan.wrong:
        return "Nothing is wrong."
    things = "1 thing is" if scan.wrong_count == 1 else f"{scan.wrong_count:,} things are"
    return f"{things} wrong: training would fail."


def _tables(scan: Scan) -> Iterator[Table]:
    yield _splits(scan.counts)
    for part, counts in scan.counts:
        if counts.features:
            yield _counts(f"{_title(part)}: features, by example", "feature", counts.features, with_text=True)
        if counts.targets:
            yield _counts(f"{_title(part)}: targets, by label", "target", counts.targets, with_text=False)
    targets = dict.fromkeys(name for _, counts in scan.counts for name in counts.targets)
    for target in targets:
        found = {_title(part): counts.targets[target] for part, counts in scan.counts if target in counts.targets}
        if any(count.columns is not None for count in found.values()):
            if any(count.missing or count.ones is not None for count in found.values()):
                yield _columns(target, found, scan.names)
        elif (table := _classes(target, found, scan.names)) is not None:
            yield table


def _title(part: Part) -> str:
    source = part.field.removeprefix("dataset").removeprefix(".sources.")
    return f"{part.split} of {source}" if source else part.split


def _splits(counts: Sequence[tuple[Part, PartCounts]]) -> Table:
    table = tables.new("Splits", "split", "examples >", "usable >")
    for part, each in counts:
        table.add_row(escape(_title(part)), f"{len(part):,}", f"{each.usable:,}")
    return table


def _counts(title: str, what: str, counts: dict[str, Count], *, with_text: bool) -> Table:
    table = tables.new(title, what, "present >", "missing >", "min >", "max >", *(["texts >"] if with_text else []))
    for name, count in counts.items():
        row = [f"{count.present:,}", f"{count.missing:,}", tables.number(count.low), tables.number(count.high)]
        table.add_row(escape(name), *row, *([_texts(count)] if with_text else []))
    return table


def _texts(count: Count) -> str:
    if count.is_uncounted:
        return "many"
    return "" if count.distinct is None else f"{count.distinct:,}"


def _classes(target: str, counts: dict[str, Count], names: Names) -> Table | None:
    """A row for each class, a column for each split; None for a target of other numbers."""
    found = {title: count.classes() for title, count in counts.items()}
    if not all(found.values()):
        return None
    known = names.classes.get(f"targets.{target}", ((),))
    named = known[0] if len(known) == 1 else ()
    classes = sorted({*range(len(named)), *(value for each in found.values() for value in each)})
    table = tables.new(f"{target}: labels of each class", "class", *(f"{title} >" for title in found))
    for value in classes[:_LISTED]:
        label = named[value] if 0 <= value < len(named) else str(value)
        table.add_row(escape(label), *(f"{each.get(value, 0):,}" for each in found.values()))
    return table


def _columns(target: str, counts: dict[str, Count], names: Names) -> Table:
    """A row for each column of a target that is a vector: its labels, and the ones among them."""
    with_ones = any(count.ones is not None for count in counts.values())
    headings = [f"{title}{of} >" for title in counts for of in ("", ", ones")[: 1 + with_ones]]
    table = tables.new(f"{target}: labels of each column", "column", *headings)
    length = max(len(count.columns) for count in counts.values() if count.columns is not None)
    named = names.columns.get(f"targets.{target}", [str(index) for index in range(length)])
    for index, name in enumerate(named[:length]):
        row = []
        for count in counts.values():
            row.append("" if count.columns is None else f"{count.columns[index]:,}")
            if with_ones:
                row.append("" if count.ones is None else f"{count.ones[index]:,}")
        table.add_row(escape(name), *row)
    return table
