"""Predictions for people: rows and their rate while they are made, and a table of what was written."""

import contextlib
import pathlib
import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from trainer.common.errors import printable
from trainer.components.prediction_parts import Output
from trainer.predict.table import ROW

_COLUMNS = 3  # of a vector whose names are shown


class Rows:
    """Counts rows and their rate.

    Args:
      bar: shows them.
      count: how many there are; None: not known.

    Attributes:
      done: how many rows have been taken.
    """

    def __init__(self, bar: Progress, count: int | None):
        self._bar, self._task = bar, bar.add_task("predict", total=count, rate="")
        self._start = time.monotonic()
        self.done = 0
        self._seconds = 0.0

    @property
    def rate(self) -> str:
        """The rows of a second so far, in words."""
        return f"{self.done / max(self._seconds, 1e-9):,.0f} rows/s"

    def advance(self, rows: int) -> None:
        """Adds rows."""
        self.done, self._seconds = self.done + rows, time.monotonic() - self._start
        self._bar.update(self._task, advance=rows, rate=self.rate)


@contextlib.contextmanager
def progress(console: Console, count: int | None) -> Iterator[Rows]:
    """Shows a bar on a terminal, up to a number of rows (None: not known)."""
    with Progress(
        TextColumn("rows"),
        MofNCompleteColumn(),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bar:
        yield Rows(bar, count)


def written(console: Console, path: pathlib.Path, rows: Rows, kept: Sequence[str], outputs: Sequence[Output]) -> None:
    """Prints what a file holds."""
    title = printable(f"{path}: {rows.done:,} rows, {rows.rate}")
    table = Table(title=title, title_justify="left")
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
