"""Eight methods on four data sets: the tables of README.md beside this file, and the picture of the front page.

python -m tests.benchmarks.comparisons
python -m tests.benchmarks.comparisons --read=runs/compared --picture=.github/comparison.png

The first prints the tables of the committed results; the second takes these results anew from the comparisons in
`runs/compared`, a folder for each data set that the page's commands have made, puts the tables into the page and draws
the picture.
"""

import dataclasses
import json
import math
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from absl import app, flags

from tests.benchmarks import comparisons_plot
from trainer.output.page import digits

COMMITTED, PAGE = pathlib.Path(__file__).with_suffix(".json"), pathlib.Path(__file__).with_name("README.md")
# Folder of a comparison → its title.
TITLES = {
    "digits": "Digits",
    "census": "Census",
    "fashion": "Fashion-MNIST",
    "river": "River",
    "digits_tuned": "Digits, tuned",
    "census_tuned": "Census, tuned",
}
VERDICTS = ("better", "worse")

_READ = flags.DEFINE_string("read", None, "The folder of the comparisons, to read their results.json anew.")
_PICTURE = flags.DEFINE_string("picture", None, "Where to save the picture.")


@dataclasses.dataclass(frozen=True)
class Row:
    """One method on one data set, means over seeds.

    Attributes:
      method: its name.
      values: metric → mean and sample deviation on the reported split.
      delta_m: Δm in percent, and the lower and upper end of its 95 % interval; None without one.
      mean_rank: its mean rank among the methods.
      verdict: "better" or "worse" than fixed weights by Δm on the same seeds; None where they cannot be told apart, or
        differ by less than another seed changes.
    """

    method: str
    values: Mapping[str, tuple[float, float | None]]
    delta_m: tuple[float, float | None, float | None] | None
    mean_rank: float | None
    verdict: str | None


@dataclasses.dataclass(frozen=True)
class Compared:
    """A comparison's results, as far as they are shown.

    Attributes:
      split: the split of all values.
      directions: metric → "up" or "down", those of which Δm and ranks are made.
      alone: metric → mean and deviation of the loss trained alone.
      rows: a row for each method, in the order of the comparison.
    """

    split: str
    directions: Mapping[str, str]
    alone: Mapping[str, tuple[float, float | None]]
    rows: tuple[Row, ...]


def shown(results: Mapping[str, Any]) -> Compared:
    """Takes from a comparison's results.json what is shown."""
    metrics = [metric for metric in results["metrics"] if metric["counts"]]
    verdicts = {
        each["cell"]: each["verdict"]
        for each in results["differences"]
        if each["kind"] == "fixed" and each["of"] == "delta_m" and each["verdict"] in VERDICTS and not each["is_small"]
    }
    alone, rows = {}, []
    for cell in results["cells"]:
        estimates = cell["estimates"].get(results["split"], {}).get(results["at"], {})
        values = {
            metric["name"]: (estimates[metric["name"]]["mean"], estimates[metric["name"]]["deviation"])
            for metric in metrics
            if metric["name"] in estimates
        }
        if cell["single_task"] is not None:
            alone |= values
            continue
        delta = cell["delta_m"]
        rows.append(
            Row(
                cell["method"],
                values,
                None if delta is None else (delta["mean"], delta["low"], delta["high"]),
                cell["mean_rank"],
                verdicts.get(cell["name"]),
            )
        )
    return Compared(results["split"], {metric["name"]: metric["direction"] for metric in metrics}, alone, tuple(rows))


def committed() -> dict[str, Compared]:
    """The results that the page and the picture show, by the folders of their comparisons."""
    found = json.loads(COMMITTED.read_text())
    return {
        name: Compared(each["split"], each["directions"], each["alone"], tuple(Row(**row) for row in each["rows"]))
        for name, each in found.items()
    }


def table(name: str, compared: Compared) -> str:
    """The table of one comparison in Markdown."""
    heads = [f"{metric} {'↑' if direction == 'up' else '↓'}" for metric, direction in compared.directions.items()]
    title = f"{TITLES[name]} ({compared.split})"
    lines = [
        f"| {' | '.join([title, *heads, 'Δm, % ↑', 'mean rank ↓'])} |",
        f"| --- |{' ---: |' * (len(heads) + 2)}",
    ]
    for row in compared.rows:
        cells = [f"`{row.method}`", *_values(compared, row.values), _delta_m(row), digits.fixed(row.mean_rank, 2)]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(f"| each loss alone | {' | '.join([*_values(compared, compared.alone), '0', ''])} |")
    return "\n".join(lines)


def updated(page: str, results: Mapping[str, Compared]) -> str:
    """The page with the tables of these results in place of those with the same titles."""
    for name, compared in results.items():
        old = re.compile(rf"^\| {re.escape(TITLES[name])} \(.*\n(?:\|.*\n)+", re.MULTILINE)
        new = f"{table(name, compared)}\n"
        page = old.sub(lambda _, new=new: new, page)
    return page


def _values(compared: Compared, values: Mapping[str, tuple[float, float | None]]) -> list[str]:
    return [digits.with_deviation(*values.get(metric, (None, None))) for metric in compared.directions]


def _delta_m(row: Row) -> str:
    """Δm with its interval, and whether it is distinguishable from that of fixed weights."""
    if row.delta_m is None:
        return digits.MISSING
    mean, low, high = row.delta_m
    if low is None or high is None:
        return digits.number(mean)
    decimals = max(0, 1 - math.floor(math.log10(max(high - low, 1e-6) / 2)))  # two digits of half the interval
    shown_mean, shown_low, shown_high = (digits.fixed(value, decimals) for value in (mean, low, high))
    verdict = "" if row.verdict is None else f" {row.verdict}"
    return f"{shown_mean} [{shown_low}, {shown_high}]{verdict}"


def main(argv: list[str]) -> None:
    """Prints the tables; reads results anew into the page, and draws, where asked to."""
    del argv
    if _READ.value is not None:
        files = {name: pathlib.Path(_READ.value) / name / "results.json" for name in TITLES}
        found = {name: shown(json.loads(file.read_text())) for name, file in files.items() if file.exists()}
        plain = {name: dataclasses.asdict(compared) for name, compared in found.items()}
        COMMITTED.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n")
        PAGE.write_text(updated(PAGE.read_text(), found))
    results = committed()
    print("\n\n".join(table(name, compared) for name, compared in results.items()))
    if _PICTURE.value is not None:
        comparisons_plot.save(results, TITLES, _PICTURE.value)


if __name__ == "__main__":
    app.run(main)
