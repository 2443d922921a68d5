"""Results at the end of a run: the table on the terminal, `report.md` and `curves.png`."""

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console

from trainer.common import atomic_files
from trainer.config.settings import Config
from trainer.output import plots, terminal
from trainer.output.reports import Report
from trainer.output.workdir import Workdir


def write(
    run: Workdir,
    history: Iterable[Report],
    config: Config,
    heads: Mapping[str, str],
    notes: Sequence[str],
    console: Console | None = None,
) -> None:
    """Prints the table of the last report, and writes it to `report.md` with the curves of all reports beside it.

    Args:
      run: the run's directory.
      history: every report of the run, one at least.
      config: its configuration.
      heads: loss name → head name.
      notes: lines of warning.
      console: where to print; default standard output.
    """
    final, fallbacks = None, 0
    for report in history:  # one pass: it reads the file of reports
        final, fallbacks = report, fallbacks + (report.values.get("fallbacks") or 0)
    heads = dict(heads)
    terminal.print_table(final, heads, title=f"Validation after {final.step} steps", console=console)
    run.refuse_lost()
    atomic_files.write_whole(
        run.report,
        f"# Validation after {final.step} steps\n\n{terminal.markdown_table(final, heads)}\n"
        f"{final.step} steps of {config.batch_size} examples, {combination(config)}, seed {config.seed}.\n\n"
        f"{_fallbacks(fallbacks, config)}{_warnings(notes)}"
        "![Curves](curves.png)\n",
    )
    plots.save_curves(history, list(heads), run.curves)


def combination(config: Config) -> str:
    """Returns in words the method that combines the losses and how it is applied."""
    return f"{config.combine.name} applied {'per loss' if config.combine.apply == 'per_loss' else 'jointly'}"


def _warnings(notes: Sequence[str]) -> str:
    return "".join(f"Warning: {note}.\n\n" for note in notes)


def _fallbacks(count: int, config: Config) -> str:
    if not count:
        return ""
    return (
        f"In {count} steps the gradients left {config.combine.name} without a solution; the mean of the unit-length "
        "gradients was applied.\n\n"
    )
