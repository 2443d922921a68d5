"""Results at the end of a run: the table on the terminal, `report.md` `report.html` and `curves.png`."""

from collections.abc import Sequence

from rich.console import Console

from trainer.common import atomic_files, schema
from trainer.config.settings import Config
from trainer.output import curves, final_report, plots, terminal
from trainer.output.final_report import About
from trainer.output.history import Reports
from trainer.output.page import run as page_of_run
from trainer.output.plots import Picture
from trainer.output.speed import Total
from trainer.output.workdir import Workdir


def write(
    run: Workdir, config: Config, about: About, *, best: int | None = None, console: Console | None = None
) -> tuple[Sequence[str], Picture | None]:
    """Prints the table of each split's last report, and writes `report.md`, the page and the picture of all curves.

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
    tables = final_report.tables(summary, config, best)
    for title, report in tables.items():
        terminal.print_table(report, dict(about.heads), title=title, console=console)
    run.refuse_lost()
    atomic_files.write_whole(run.report, final_report.markdown(summary, config, about, total, best))
    found, words = curves.of_reports(history), final_report.combination(config)
    commands = [about.command] if about.command else []
    page = page_of_run.page(
        run.path.name,
        schema.as_dict(config),
        found,
        titles={report.split: title for title, report in tables.items()},
        words=words,
        parameters=about.parameters,
        times=total.lines(),
        notes=about.notes,
        versions=final_report.versions(),
        commands=commands,
    )
    atomic_files.write_whole(run.page, page)
    return total.lines(), plots.save_curves(found, list(about.heads), run.curves, f"{run.path.name} · {words}")
