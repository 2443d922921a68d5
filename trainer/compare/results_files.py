"""Files of a comparison's results: `results.json`, `results.csv` and `report.md`."""

import csv
import dataclasses
import io
import json
import pathlib

from trainer.common import atomic_files
from trainer.compare import computing, results_text
from trainer.compare.collected import Comparison
from trainer.compare.results import BEST, Results

NAMES = JSON, CSV, REPORT = "results.json", "results.csv", "report.md"
COLUMNS = ("cell", "method", "single_task", "seed", "state", "folder", "split", "at", "step", "metric", "value")


def write(comparison: Comparison) -> Results:
    """Writes the results of a comparison into its directory, in place of earlier ones, and returns them.

    Raises:
      OSError: a file cannot be written.
    """
    results = computing.compute(comparison)
    folder = pathlib.Path(comparison.workdir)
    atomic_files.write_whole(folder / JSON, json_of(results))
    atomic_files.write_whole(folder / CSV, csv_of(results))
    atomic_files.write_whole(folder / REPORT, results_text.report(results))
    return results


def json_of(results: Results) -> str:
    """Returns the results field by field; no number in it is NaN or infinite."""
    return json.dumps(dataclasses.asdict(results), indent=1, allow_nan=False) + "\n"


def csv_of(results: Results) -> str:
    """Returns a row for every run and value, with the numbers as in its `metrics.jsonl`; nothing where there is none.

    A run without any value has one row, which ends with its folder.
    """
    cells = {cell.name: cell for cell in results.cells}
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for run in results.runs:
        cell = cells[run.cell]
        first = (run.cell, cell.method, cell.single_task or "", run.seed, run.state, run.folder)
        found = [
            (split, at, run.best_step if at == BEST else run.last_step, name, "" if value is None else repr(value))
            for split, of_split in run.values.items()
            for at, values in of_split.items()
            for name, value in values.items()
        ]
        rows.writerows((*first, *each) for each in found or [("",) * 5])
    return text.getvalue()
