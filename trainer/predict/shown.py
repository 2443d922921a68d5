"""Predictions for people: rows and their rate while they are made, and a table of what was written."""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from trainer.common.errors import printable
from trainer.components.prediction_parts import Output
from trainer.predict.table import ROW

_COLUMNS = 3  # of a vector whose names are shown


@contextlib.contextmanager
def progress(console: Console, count: int | None) -> Iterator[Callable[[int], None]]:
    """Shows a bar on a terminal, and gives a function that moves it on by a number of rows."""
    bar = Progress(
        TextColumn("rows"),
        MofNCompleteColumn(),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    task, start, rows = bar.add_task("predict", total=count, rate=""), time.monotonic(), 0

    def advance(more: int) -> None:
        nonlocal rows
        rows += more
        seconds = time.monotonic() - start
        bar.update(task, advance=more, rate=f"{rows / seconds:,.0f} rows/s" if seconds > 0 else "")

    with bar:
        yield advance


def written(
    console: Console, path: pathlib.Path, rows: int, seconds: float, kept: Sequence[str], outputs: Sequence[Output]
) -> None:
    """Prints what a file holds."""
    rate = f"{rows / max(seconds, 1e-9):,.0f} rows/s"
    table = Table(title=printable(f"{path}: {rows:,} rows, {rate}"), title_justify="left")
    for heading in ("column", "type", "holds"):
        table.add_column(heading, overflow="fold")
    table.add_row(ROW, "int64", "the row's place, counted from 0")
    for name in kept:
        table.add_row(escape(printable(name)), "", "as it is in the data")
    for output in outputs:
        kind = output.dtype + (str(list(output.shape)) if output.shape and not output.columns else "")
        table.add_row(escape(printable(_names(output))), escape(kind), escape(printable(output.meaning)))
    console.print(table)


def _names(output: Output) -> str:
    names = output.columns or (output.name,)
    return ", ".join(names[:_COLUMNS]) + (f" and {len(names) - _COLUMNS} more" if len(names) > _COLUMNS else "")
