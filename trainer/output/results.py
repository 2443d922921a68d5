"""Results at the end of a run: the table on the terminal, `report.md` and `curves.png`."""

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console

from trainer.common import atomic_files
from trainer.config.evaluations import AT_END
from trainer.config.settings import Config
from trainer.output import plots, terminal
from trainer.output.reports import TRAIN, VALIDATION, Report
from trainer.output.workdir import Workdir


def write(
    run: Workdir,
    history: Iterable[Report],
    config: Config,
    heads: Mapping[str, str],
    notes: Sequence[str],
    *,
    best: int | None = None,
    console: Console | None = None,
) -> None:
    """Prints the table of each split's last report, and writes them to `report.md`, all reports' curves beside it.

    Args:
      run: the run's directory.
      history: every report of the run, one at least.
      config: its configuration.
      heads: loss name → head name.
      notes: lines of warning.
      best: the step of the best checkpoint; None: there is none.
      console: where to print; default standard output.
    """
    finals, fallbacks = {}, 0
    for report in history:  # one pass: it reads the file of reports
        finals[report.split] = report
        fallbacks += report.values.get("fallbacks") or 0
    final, heads = finals.pop(VALIDATION), dict(heads)
    others = {_title(report, config, best): report for split, report in finals.items() if split != TRAIN}
    title = f"Validation after {final.step} steps"
    for each, report in {title: final, **others}.items():
        terminal.print_table(report, heads, title=each, console=console)
    run.refuse_lost()
    atomic_files.write_whole(
        run.report,
        f"# {title}\n\n{terminal.markdown_table(final, heads)}\n"
        f"{final.step} steps of {config.batch_size} examples, {combination(config)}, seed {config.seed}.\n\n"
        + "".join(f"## {each}\n\n{terminal.markdown_table(report, heads)}\n" for each, report in others.items())
        + f"{_fallbacks(fallbacks, config)}{_warnings(notes)}"
        "![Curves](curves.png)\n",
    )
    plots.save_curves(history, list(heads), run.curves, f"{run.path.name} · {combination(config)}")


def _title(report: Report, config: Config, best: int | None) -> str:
    """The title of the table of another split than `validation`, which says of which variables its values are."""
    title = f"{report.split.capitalize()} after {report.step} steps"
    is_of_best = config.evaluate.get(report.split, AT_END) == AT_END and report.step == best
    return f"{title}, the best by {config.best.metric}" if is_of_best else title


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
