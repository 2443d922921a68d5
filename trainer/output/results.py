"""Results at the end of a run: the table on the terminal, `report.md` and `curves.png`."""

from collections.abc import Sequence

from rich.console import Console

from trainer.common import atomic_files
from trainer.config.settings import Config
from trainer.output import curves, final_report, plots, terminal
from trainer.output.final_report import About
from trainer.output.history import Reports
from trainer.output.plots import Picture
from trainer.output.speed import Total
from trainer.output.workdir import Workdir


def write(
    run: Workdir, config: Config, about: About, *, best: int | None = None, console: Console | None = None
) -> tuple[Sequence[str], Picture | None]:
    """Prints the table of each split's last report, and writes them to `report.md`, all reports' curves beside it.

    Args:
      run: the run's directory, with one report at least.
      config: its configuration.
      about: what else is known of it.
      best: the step of the best checkpoint; None: there is none.
      console: where to print; default standard output.

    Returns:
      Lines on the run's time, rate and memory; and the picture of the cosines over steps, where it has some.
    """
    history, total = Reports(run.metrics), Total(Reports(run.speed), config.batch_size)
    summary = final_report.summarised(history, about.directions)
    for title, report in final_report.tables(summary, config, best).items():
        terminal.print_table(report, dict(about.heads), title=title, console=console)
    run.refuse_lost()
    atomic_files.write_whole(run.report, final_report.markdown(summary, config, about, total, best))
    title = f"{run.path.name} · {final_report.combination(config)}"
    return total.lines(), plots.save_curves(curves.of_reports(history), list(about.heads), run.curves, title)
