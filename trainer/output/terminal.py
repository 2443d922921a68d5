"""Reports of a run for people: a progress bar on a terminal, plain lines elsewhere and in the log file."""

import contextlib
import datetime
import importlib.util
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from trainer.common import atomic_files
from trainer.common.errors import RunError, StoppedError, printable, with_notes
from trainer.config import monitors
from trainer.output.reports import TRAIN, Report


class Terminal:
    """Shows a run while it runs; a context manager.

    Args:
      log: file that gets every line, with the time.
      first: number of steps taken when it starts or resumes.
      steps: length of the run.
      losses: loss name → head name.
      submit: gets a function and its arguments, to be called later and in order: what writes to the log.
      console: where to show it; default standard output.
    """

    def __init__(
        self,
        log: pathlib.Path,
        first: int,
        steps: int,
        losses: dict[str, str],
        submit: Callable[..., object],
        console: Console | None = None,
    ):
        self._console = console or Console(highlight=False)
        self._log = atomic_files.open_to_append(log)
        self._submit = submit
        self._steps = steps
        self._losses = losses
        self._rate: float | None = None
        self._progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            disable=not _can_show_bar(self._console),
        )
        self._task = self._progress.add_task("train", total=steps, completed=first, rate="")

    def __enter__(self) -> "Terminal":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        self._log.close()

    def advance(self, step: int) -> None:
        """Moves the bar."""
        self._progress.update(self._task, completed=step)

    def write(self, report: Report, rate: float | None = None) -> None:
        """Shows one report: in one line where it fits on the terminal, else in one for each loss; in the log in one.

        Args:
          report: the report.
          rate: steps per second; None: the last one that is known.
        """
        title = f"step {report.step:>{len(str(self._steps))}}/{self._steps}  {report.split:<10}"
        results = self._results(report)
        if report.split != TRAIN:
            self._say_report(title, results, "")
            return
        self._rate = rate or self._rate
        pace = f"{self._rate:.1f} steps/s" if self._rate else ""
        self._progress.update(self._task, completed=report.step, rate=pace)
        left = (
            f", {datetime.timedelta(seconds=round((self._steps - report.step) / self._rate))} left"
            if self._rate
            else ""
        )
        self._say_report(title, results, f"  ({pace}{left})" if pace else "")

    def _say_report(self, title: str, results: Sequence[str], pace: str) -> None:
        line = f"{title}  {'  '.join(results)}{pace}"
        fits = not self._console.is_terminal or len(printable(line)) <= self._console.width
        self.say(line, show=fits)
        if not fits:
            for each in (f"{title}{pace}", *(f"  {result}" for result in results)):
                self._console.print(escape(printable(each)))

    def say(self, line: str, *, show: bool = True) -> None:
        """Prints a line and logs it; the log alone gets it where not `show`."""
        line = printable(line)  # names of a user's own may hold anything
        self._submit(self._write_to_log, _with_time(line))
        if show:
            self._console.print(escape(line), soft_wrap=True)

    @contextlib.contextmanager
    def logging_errors(self) -> Iterator[None]:
        """Leaves the reason why a run ends in the log; whoever started the run prints it.

        What `submit` was given must have been called by the end of the context.
        """
        try:
            yield
        except StoppedError:
            raise
        except (RunError, OSError) as error:
            with contextlib.suppress(OSError):  # the disk may be what failed
                self._write_to_log(_with_time(f"error: {with_notes(error)}"))
            raise

    def _write_to_log(self, text: str) -> None:
        self._log.write(text)
        self._log.flush()

    def _results(self, report: Report) -> list[str]:
        return [
            " ".join(filter(None, (loss, value, f"({metrics})" if metrics else "")))
            for _, loss, value, metrics in results_rows(report, self._losses)
        ]


@contextlib.contextmanager
def progress(console: Console | None = None, *, show: bool = True) -> Iterator[Callable[[str], None]]:
    """Gives a function that shows on a terminal what is being done, until the next call or the end of this context.

    Args:
      console: where; None: standard output.
      show: whether anything is shown.
    """
    console = console or Console(highlight=False)
    if not show or not _can_show_bar(console):
        yield lambda doing: None
        return
    with console.status("") as status:
        yield lambda doing: status.update(escape(printable(doing)))


def _can_show_bar(console: Console) -> bool:
    """True on a terminal, and in a notebook that has what it takes there."""
    return console.is_terminal or (console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None)


def results_rows(report: Report, losses: dict[str, str]) -> list[tuple[str, str, str, str]]:
    """(head, loss, value, metrics) for every loss; for metrics without one, where there are any, with no value.

    Last, without a head, what `best` or `early_stopping` watches that is nobody's.
    """
    rows = []
    for loss, head in losses.items():
        values = report.values.items()
        metrics = [f"{name.partition('/')[2]} {number(value)}" for name, value in values if name.startswith(f"{loss}/")]
        if f"loss/{loss}" in report.values:
            rows.append((head, loss, number(report.values[f"loss/{loss}"]), ", ".join(metrics)))
        elif metrics:
            rows.append((head, loss, "", ", ".join(metrics)))
    added = (name for name in report.values if name.startswith(monitors.PREFIX))
    return rows + [("", name.removeprefix(monitors.PREFIX), number(report.values[name]), "") for name in added]


def segment_rows(report: Report, losses: dict[str, str]) -> list[tuple[str, ...]]:
    """(segment, head, loss, value, metrics) for every segment and loss; none where a report has no segments."""
    of_segments: dict[str, dict[str, float | None]] = {}
    for name, value in report.values.items():
        if name.startswith(SEGMENT):
            segment, _, own = name.removeprefix(SEGMENT).partition("/")
            of_segments.setdefault(segment, {})[own] = value
    return [
        (segment, *row)
        for segment, values in of_segments.items()
        for row in results_rows(Report(report.step, report.split, values), losses)
    ]


SEGMENT = "segment/"  # before the names of a segment's values
HEADINGS = ("head", "loss", "value", "metrics")


def print_table(report: Report, losses: dict[str, str], *, title: str, console: Console | None = None) -> None:
    """Prints the results of every loss as a table."""
    _print(HEADINGS, results_rows(report, losses), title, console)


def print_segments(report: Report, losses: dict[str, str], *, console: Console | None = None) -> None:
    """Prints the results of every segment as a table, where there are any."""
    if rows := segment_rows(report, losses):
        _print(("segment", *HEADINGS), rows, "By segment", console)


def _print(headings: Sequence[str], rows: Iterable[Sequence[str]], title: str, console: Console | None) -> None:
    table = Table(title=escape(title), title_justify="left")
    for heading in headings:
        is_number = heading == "value"
        table.add_column(heading, justify="right" if is_number else "left", overflow="fold", no_wrap=is_number)
    for row in rows:
        table.add_row(*row)
    (console or Console(highlight=False)).print(table)


def markdown_table(report: Report, losses: dict[str, str]) -> str:
    """The results of every loss as a table in Markdown; after it those of segments, where there are any."""
    results = ((head, loss if head else f"`{loss}`", *others) for head, loss, *others in results_rows(report, losses))
    ruler = ("---", "---", "---:", "---")
    tables = [[HEADINGS, ruler, *results]]
    if rows := segment_rows(report, losses):
        tables.append([("segment", *HEADINGS), ("---", *ruler), *rows])
    return "\n".join("".join(f"| {' | '.join(row)} |\n" for row in table) for table in tables)


def _with_time(line: str) -> str:
    return f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}  {line}\n"


def number(value: float | None) -> str:
    """A value of a report in four digits."""
    return "missing" if value is None else f"{value:.4g}"
