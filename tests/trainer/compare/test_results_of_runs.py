"""Results of a comparison that was trained: its files against each run's own `metrics.jsonl` and checkpoints."""

import csv
import json
import statistics

import pytest

from tests.trainer.compare.conftest import METHODS, REFUSED, SEEDS


def _reports(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _validation(folder, step):
    own = [each for each in _reports(folder) if each["split"] == "validation" and each["step"] == step]
    assert len(own) == 1
    return own[0]


@pytest.fixture(scope="module")
def tree(compared):
    return json.loads((compared.workdir / "results.json").read_text())


def test_numbers_of_runs_are_those_of_their_metrics(compared, tree):
    runs = [run for run in tree["runs"] if run["state"] == "complete"]
    assert [(run["cell"], run["seed"]) for run in runs] == [(method, seed) for method in METHODS for seed in SEEDS]
    rows = list(csv.DictReader((compared.workdir / "results.csv").open()))
    for run in runs:
        folder = compared.workdir / run["folder"]
        validated = [each for each in _reports(folder) if each["split"] == "validation"]
        best = max(validated, key=lambda each: each["label/accuracy"])  # the first of equals
        assert (run["last_step"], run["best_step"]) == (40, best["step"])
        for at, step in (("final", 40), ("best", best["step"])):
            reported = _validation(folder, step)
            values = run["values"]["validation"][at]
            assert {"loss/label", "label/accuracy", "loss/number", "number/mae"} <= values.keys()
            assert values == {name: reported[name] for name in values}
            own = [each for each in rows if (each["folder"], each["at"]) == (run["folder"], at)]
            assert {each["metric"]: float(each["value"]) for each in own} == values
            assert {each["step"] for each in own} == {str(step)}


def test_the_best_step_is_the_runs_own(compared, tree):
    """As the run has kept it with its checkpoint."""
    for run in tree["runs"]:
        if run["state"] == "complete":
            kept = json.loads(
                (compared.workdir / run["folder"] / "checkpoints" / "step_00000040" / "run.json").read_text()
            )
            assert kept["monitors"]["best"]["step"] == run["best_step"]


def test_means_ranks_and_differences_are_of_these_numbers(compared, tree):
    values = {}
    for run in tree["runs"]:
        if run["state"] == "complete":
            values[run["cell"], run["seed"]] = _validation(compared.workdir / run["folder"], run["best_step"])
    assert (tree["split"], tree["at"]) == ("validation", "best")
    means = {}
    for method in METHODS:
        cell = next(each for each in tree["cells"] if each["name"] == method)
        for name in ("label/accuracy", "number/mae"):
            own = [values[method, seed][name] for seed in SEEDS]
            means[method, name] = statistics.mean(own)
            found = cell["estimates"]["validation"]["best"][name]
            assert found["mean"] == pytest.approx(means[method, name], rel=1e-14)
            assert found["deviation"] == pytest.approx(statistics.stdev(own), rel=1e-10, abs=1e-15)
            assert found["count"] == len(SEEDS)
    first, second = METHODS
    better = {
        "label/accuracy": means[first, "label/accuracy"] - means[second, "label/accuracy"],
        "number/mae": means[second, "number/mae"] - means[first, "number/mae"],
    }
    cell = next(each for each in tree["cells"] if each["name"] == first)
    expected = {name: 1.5 if lead == 0 else 1.0 if lead > 0 else 2.0 for name, lead in better.items()}
    assert cell["ranks"] == expected
    assert cell["mean_rank"] == sum(expected.values()) / 2
    for each in tree["differences"]:
        if each["of"] in better:
            own = [values[each["cell"], s][each["of"]] - values[each["reference"], s][each["of"]] for s in SEEDS]
            assert each["mean"] == pytest.approx(statistics.mean(own), rel=1e-12, abs=1e-15)
            assert each["verdict"] == "too few seeds"


def test_a_cell_that_cannot_run_is_a_row_that_says_why(compared, tree):
    cell = next(each for each in tree["cells"] if each["name"] == REFUSED)
    assert cell["seeds"] == []
    assert cell["ranks"] == {}
    assert all("micro_batches" in reason for reason in cell["failures"].values())
    report = (compared.workdir / "report.md").read_text()
    assert f"| {REFUSED} | 0 of 2 |" in report
    assert f"No part, as no run is complete: {REFUSED} (seeds 0, 1: " in report
    assert tree["commands"][0].startswith("python -m trainer.compare")
    assert tree["commands"][0] in report
