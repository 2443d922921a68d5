"""The progress of a comparison: one table on a terminal, a line for each run elsewhere."""

import dataclasses
import datetime
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from trainer.common.errors import printable
from trainer.compare.messages import Event
from trainer.output.reports import VALIDATION

_LOSS = "loss/"
_NAME = 24  # characters of a cell's name
_FRAME = 4  # lines around the rows
_VALUES = 200  # characters of values in a line of a log


@dataclasses.dataclass
class _Row:
    """A cell: how many of its runs have ended, and the one in hand.

    Attributes:
      ended: the number of runs that have ended, however.
      runs: the number of all its runs.
      step: of the run in hand, or the last one.
      steps: its length; 0 where it is not known yet.
      values: name → value of its last validation.
      note: what became of it, where that is not plain.
    """

    ended: int
    runs: int
    step: int = 0
    steps: int = 0
    values: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    note: str = ""


class Progress:
    """Shows how far a comparison is; a context manager.

    Args:
      cells: cell's name → how many runs it has, and how many of them have ended already.
      watched: the reported value to show, where the configuration names one; "": the losses.
      console: where.
    """

    def __init__(self, cells: Mapping[str, tuple[int, int]], watched: str, console: Console):
        self._rows = {name: _Row(ended, runs) for name, (runs, ended) in cells.items()}
        self._watched, self._console = watched, console
        self._current: str | None = None  # the cell of the last run
        self._running = False
        self._began = time.monotonic()
        self._spent: list[float] = []  # seconds of each run that has ended
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=2, transient=False)

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def say(self, line: str) -> None:
        """Shows a line."""
        self._console.print(escape(printable(line)), soft_wrap=True)

    def take(self, cell: str, event: Event) -> None:
        """Takes what has happened to a run of a cell."""
        row = self._rows[cell]
        if event.kind == "started":
            self._current, self._running, self._began = cell, True, time.monotonic()
            row.step = row.steps = 0
        elif event.kind == "report":
            row.step, row.steps = event.step, event.steps
            if event.split == VALIDATION:
                row.values = event.values
        elif event.kind in ("done", "failed"):
            row.ended += 1
            self._running = False
            if event.kind == "done":
                self._spent.append(time.monotonic() - self._began)
            row.note = "failed" if event.kind == "failed" else ""
            self._say_end(cell, row, event)

    def fail(self, cell: str, reason: str) -> None:
        """Takes note that no run of a cell can be trained."""
        row = self._rows[cell]
        row.ended, row.note = row.runs, "failed"
        self.say(f"{cell}: {reason}")

    def _say_end(self, cell: str, row: _Row, event: Event) -> None:
        run = f"{cell}, seed {event.seed}" if event.trial is None else f"{cell}, trial {event.trial}"
        if event.reason:
            self.say(f"{run}: {event.reason}")
        elif not self._console.is_terminal:
            values = _fitted(self._shown(row.values), _VALUES)
            self.say(f"{run}: {row.step} steps  {values}{self._left()}")

    def _left(self) -> str:
        seconds = self._seconds_left()
        return "" if seconds is None else f"  ({datetime.timedelta(seconds=round(seconds))} left)"

    def _seconds_left(self) -> float | None:
        """The mean time of the runs so far for each that is left; None where nothing tells it."""
        rows = self._rows.values()
        left = sum(row.runs - row.ended for row in rows)
        current = self._rows[self._current] if self._running else None
        done = current.step / current.steps if current and current.steps else 0.0
        spent = list(self._spent)
        if not spent and done:
            spent.append((time.monotonic() - self._began) / done)
        if not spent or not left:
            return None
        return max(0.0, sum(spent) / len(spent) * (left - done))

    def _shown(self, values: Mapping[str, float | None]) -> list[str]:
        if self._watched in values:
            return [f"{self._watched} {_number(values[self._watched])}"]
        losses = {name: value for name, value in values.items() if name.startswith(_LOSS) and name.count("/") == 1}
        return [f"{name.removeprefix(_LOSS)} {_number(value)}" for name, value in losses.items()]

    def _table(self) -> Group:
        width = self._console.width
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for heading, justify in (("cell", "left"), ("runs", "right"), ("step", "right"), ("validation", "left")):
            table.add_column(heading, justify=justify, no_wrap=True, overflow="ellipsis")
        names = self._visible()
        counts = {name: f"{row.ended}/{row.runs}" for name, row in self._rows.items()}
        steps = {name: f"{row.step}/{row.steps}" if row.steps else "" for name, row in self._rows.items()}
        longest = min(_NAME, max(map(len, names)))
        room = width - longest - sum(max(4, *(len(texts[name]) for name in names)) for texts in (counts, steps)) - 3
        for name in names:
            row = self._rows[name]
            values = row.note or _fitted(self._shown(row.values), room)
            style = "bold" if name == self._current and self._running else ""
            cells = (_shortened(name, longest), counts[name], steps[name], values)
            table.add_row(*(Text(printable(cell)) for cell in cells), style=style)
        ended, runs = (sum(getattr(row, field) for row in self._rows.values()) for field in ("ended", "runs"))
        return Group(table, Text(f"{ended} of {runs} runs{self._left()}"))

    def _visible(self) -> Sequence[str]:
        """The cells that fit on the terminal, the current one among them."""
        names, room = list(self._rows), max(1, self._console.height - _FRAME)
        place = names.index(self._current) if self._current else 0
        first = max(0, min(place - room // 2, len(names) - room))
        return names[first : first + room]


def _fitted(entries: Iterable[str], width: int) -> str:
    """As many entries as fit, and how many there are besides."""
    entries = list(entries)
    for count in range(len(entries), 0, -1):
        rest = f"  +{len(entries) - count}" if count < len(entries) else ""
        line = "  ".join(entries[:count]) + rest
        if len(line) <= width:
            return line
    return ""


def _shortened(name: str, width: int) -> str:
    return name if len(name) <= width else f"{name[: width // 2]}…{name[width // 2 + 1 - width :]}"


def _number(value: float | None) -> str:
    return "missing" if value is None else f"{value:.4g}"
