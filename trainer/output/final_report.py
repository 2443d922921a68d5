"""The page that a run leaves at its end, `report.md`: last and best values, time, parameters, versions, its command."""

import dataclasses
import math
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence

from trainer.config.evaluations import AT_END
from trainer.config.settings import Config
from trainer.output import terminal
from trainer.output.reports import TRAIN, VALIDATION, Report
from trainer.output.speed import Total

_PACKAGES = {"tensorflow": "TensorFlow", "keras": "Keras", "numpy": "NumPy"}


@dataclasses.dataclass(frozen=True)
class About:
    """Facts about a run that are in none of its reports.

    Attributes:
      heads: loss name → head name.
      directions: name of a validation value → "up" or "down", the direction of better ones; None: it is not known.
      parameters: the numbers of the model's parameters, in words; empty: they are not known.
      command: the command that repeats the run; empty: there is none.
      notes: lines of warning.
    """

    heads: Mapping[str, str]
    directions: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    parameters: str = ""
    command: str = ""
    notes: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Summary:
    """The values of a run that its report shows.

    Attributes:
      finals: split → its last report.
      best: name of a validation value → the step and the value of its best report, the first of equals.
      fallbacks: number of steps in which the method's problem had no solution.
    """

    finals: Mapping[str, Report]
    best: Mapping[str, tuple[int, float]]
    fallbacks: int


def summarised(history: Iterable[Report], directions: Mapping[str, str | None]) -> Summary:
    """The summary of a run's reports, which are read once."""
    finals: dict[str, Report] = {}
    best: dict[str, tuple[int, float]] = {}
    fallbacks = 0
    for report in history:
        finals[report.split] = report
        fallbacks += report.values.get("fallbacks") or 0
        for name, value in report.values.items() if report.split == VALIDATION else ():
            direction = directions.get(name)
            if direction is None or value is None or not math.isfinite(value):
                continue
            if name not in best or (value > best[name][1] if direction == "up" else value < best[name][1]):
                best[name] = (report.step, value)
    return Summary(finals, best, fallbacks)


def tables(summary: Summary, config: Config, best: int | None) -> dict[str, Report]:
    """Title → the last report of each split but that of training, `validation` first; `best` as for `markdown`."""
    final = summary.finals[VALIDATION]
    others = [report for split, report in summary.finals.items() if split not in (TRAIN, VALIDATION)]
    return {
        f"Validation after {final.step} steps": final,
        **{_title(report, config, best): report for report in others},
    }


def markdown(summary: Summary, config: Config, about: About, total: Total, best: int | None) -> str:
    """The page.

    Args:
      summary: of the run's reports.
      config: its configuration.
      about: what else is known of it.
      total: its time.
      best: the step of the best checkpoint; None: there is none.
    """
    (title, final), *others = tables(summary, config, best).items()
    heads = dict(about.heads)
    sentence = (
        f"{final.step} steps of {config.batch_size} examples, {combination(config)}, seed {config.seed}"
        + (f"; parameters: {about.parameters}" if about.parameters else "")
        + "."
    )
    parts = [
        f"# {title}\n\n{terminal.markdown_table(final, heads)}\n{sentence}\n",
        _section("Best values of validation", _best_values(summary, final)),
        *(_section(each, terminal.markdown_table(report, heads)) for each, report in others),
        _fallbacks(summary.fallbacks, config),
        *(f"Warning: {note}.\n" for note in about.notes),
        "[All of this and every report as pictures](report.html)\n",
        "![Curves](curves.png)\n",
        _section("What was run", _what_was_run(about)),
        _section("Time", total.markdown()),  # last: all that comes before is the same whenever the run is repeated
    ]
    return "\n".join(filter(None, parts))


def combination(config: Config) -> str:
    """Returns in words the method that combines the losses and how it is applied."""
    return f"{config.combine.name} applied {'per loss' if config.combine.apply == 'per_loss' else 'jointly'}"


def _title(report: Report, config: Config, best: int | None) -> str:
    """The title of the table of another split than `validation`, which says of which variables its values are."""
    title = f"{report.split.capitalize()} after {report.step} steps"
    is_of_best = config.evaluate.get(report.split, AT_END) == AT_END and report.step == best
    return f"{title}, the best by {config.best.metric}" if is_of_best else title


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


def _best_values(summary: Summary, final: Report) -> str:
    """A row for each loss and metric whose direction is known: its best value, the step of it, and the last value."""
    rows = [
        f"| {name} | {terminal.number(value)} | {step} | {terminal.number(final.values.get(name))} |\n"
        for name, (step, value) in summary.best.items()
        if not name.startswith(terminal.SEGMENT)
    ]
    return "".join(["| value | best | at step | last |\n| --- | ---: | ---: | ---: |\n", *rows]) if rows else ""


def versions() -> dict[str, str]:
    """Python's version and those of the packages that compute, as far as they are loaded, by their names."""
    found = {name: getattr(sys.modules.get(module), "__version__", "") for module, name in _PACKAGES.items()}
    return {"Python": platform.python_version(), **{name: version for name, version in found.items() if version}}


def _what_was_run(about: About) -> str:
    words = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{words}.\n" + (f"\nThe same run again:\n\n```bash\n{about.command}\n```\n" if about.command else "")


def _fallbacks(count: int, config: Config) -> str:
    if not count:
        return ""
    return (
        f"In {count} steps the gradients left {config.combine.name} without a solution; the mean of the unit-length "
        "gradients was applied.\n"
    )
