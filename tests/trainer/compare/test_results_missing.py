"""Results of comparisons where something is missing, and what is said of it; their files."""

import csv
import dataclasses
import io
import json
import random

import pytest

from tests.trainer.compare.made_up import cell, config
from tests.trainer.compare.three_tasks import (
    CONFIG,
    LOSSES,
    SEEDS,
    references,
    results_of,
    three_cells,
    values_of,
)
from trainer.compare import results_files, results_text


@pytest.fixture(scope="module")
def results():
    return results_of([*three_cells(), *references()])


def test_a_failed_seed_and_a_failed_cell_take_no_part_and_are_said():
    cells = three_cells()
    whole = results_of([cells[0], cells[2]])
    short = cell(
        "pcgrad", CONFIG, [values_of(0, 1), None, values_of(2, 1)], failures={1: "loss digit is NaN in step 7"}
    )
    failed = cell("cagrad", CONFIG, [values_of(0, 3)], failures={0: "killed by signal 9", 1: "killed by signal 9"})
    found = results_of([cells[0], short, failed, cells[2]])
    assert found.cell("pcgrad").seeds == (0, 2)
    assert found.estimate("pcgrad", "ink/mae").mean == pytest.approx(
        (values_of(0, 1)["ink/mae"] + values_of(2, 1)["ink/mae"]) / 2
    )
    assert found.cell("cagrad").ranks == {}
    assert found.cell("cagrad").failures == {
        0: "killed by signal 9",
        1: "killed by signal 9",
        2: "not trained yet",
        3: "not trained yet",
    }
    assert {(each.cell, each.count) for each in found.differences if each.reference != "pcgrad" != each.cell} <= {
        (each.cell, each.count) for each in whole.differences
    }
    assert all(each.count == 2 for each in found.differences if "pcgrad" in (each.cell, each.reference))
    text = results_text.report(found)
    assert "pcgrad: 2 of 4 runs not complete and in no number (seed 1: loss digit is NaN in step 7; seed 3: not" in text
    assert (
        "No part, as no run is complete: cagrad (seeds 0, 1: killed by signal 9; seeds 2, 3: not trained yet)." in text
    )
    assert "| cagrad | 0 of 4 | – |" in text


def test_an_unfinished_run_takes_no_part():
    found = results_of([cell("pcgrad", CONFIG, [values_of(0, 0)], end=None), *three_cells(1)])
    assert found.cell("pcgrad").failures[0] == "not finished: 20 steps are taken"
    assert next(run for run in found.runs if run.cell == "pcgrad").values["validation"]["final"] == values_of(0, 0)
    assert found.best == "weighted"


def test_runs_from_elsewhere_are_those_that_there_are():
    first, second = cell("pcgrad", CONFIG, [values_of(0, 0)]), cell("mgda", CONFIG, [None, values_of(1, 0)])
    found = results_of([dataclasses.replace(each, path=None) for each in (first, second)])
    assert [(run.cell, run.seed, run.state) for run in found.runs] == [
        ("pcgrad", 0, "complete"),
        ("mgda", 1, "complete"),
    ]
    assert [(each.mean, each.count, each.verdict) for each in found.differences][:1] == [(None, 0, "too few seeds")]


def test_one_seed_has_no_deviation_and_no_verdict():
    found = results_of([cell(name, CONFIG, [values_of(0, i)]) for i, name in enumerate(["sum", "mgda"])])
    assert found.estimate("sum", "ink/mae").deviation is None
    assert {each.verdict for each in found.differences} == {"too few seeds"}
    assert {(each.low, each.high) for each in found.differences} == {(None, None)}
    assert any("With one seed" in note for note in found.notes)


def _at(steps, best=None):
    """Reports of a run: the later, the less `ink/mae`, and the most `digit/accuracy` at the step `best`."""
    return [
        (step, "validation", {**values_of(0, 0), "ink/mae": 1 / step, "digit/accuracy": 0.9 if step == best else 0.5})
        for step in steps
    ]


def test_the_best_step_is_chosen_on_validation_and_test_is_reported():
    chosen = config(LOSSES, best={"metric": "digit/accuracy"})
    tested = {**values_of(0, 0), "ink/mae": 0.77}
    runs = [[*_at([5, 10, 15], best), (best, "test", tested)] for best in (5, 10)]
    found = results_of([cell("mgda", chosen, runs, end=15), cell("sum", chosen, runs, end=15)])
    assert (found.split, found.at) == ("test", "best")
    assert [run.best_step for run in found.runs] == [5, 10, 5, 10]
    assert found.estimate("mgda", "ink/mae").mean == pytest.approx(0.77)
    estimates = found.cell("mgda").estimates
    assert set(estimates["test"]) == {"best"}
    assert estimates["validation"]["best"]["ink/mae"].mean == pytest.approx((1 / 5 + 1 / 10) / 2)
    assert estimates["validation"]["final"]["ink/mae"].mean == pytest.approx(1 / 15)
    assert "chosen on validation" in found.notes[0]


def test_one_cell_without_a_test_split_or_a_best_step_decides_for_all():
    chosen = config(LOSSES, best={"metric": "digit/accuracy"})
    first = cell("mgda", chosen, [[*_at([5, 10], 5), (5, "test", values_of(0, 0))]], end=10)
    found = results_of([first, cell("sum", CONFIG, [_at([5, 20], 5)])])
    assert (found.split, found.at) == ("validation", "final")
    assert found.estimate("mgda", "ink/mae").mean == pytest.approx(1 / 10)
    assert "Runs were not equally long: 10 to 20 steps." in found.notes
    tested = cell("mgda", CONFIG, [[*_at([20]), (20, "test", values_of(0, 0))]])
    assert results_of([tested]).split == "test"
    assert results_of([tested, cell("sum", CONFIG, [_at([20])])]).split == "validation"


def test_values_that_are_no_numbers():
    gone = {**values_of(0, 1), "ink/mae": None}
    never = cell("mgda", CONFIG, [gone, gone])
    found = results_of([*three_cells(1), cell("pcgrad", CONFIG, [values_of(0, 1), gone]), never])
    assert found.estimate("pcgrad", "ink/mae").count == 1
    assert found.estimate("mgda", "ink/mae").mean is None
    assert found.cell("mgda").mean_rank is None
    notes = " ".join(found.notes)
    assert "mgda takes no part in ranks and Δm: ink/mae is no number in any of its runs." in notes
    assert "pcgrad: ink/mae is a number in some of its runs only; its mean is over those." in notes
    json.loads(results_files.json_of(found), parse_constant=pytest.fail)


def test_metrics_of_unknown_direction_and_of_some_cells_do_not_count():
    one = config({"a": ["mae", "mine:own"], "b": ["mae"]})
    other = config({"a": ["mae", "mine:own"], "b": ["mse"]})
    values = {"loss/a": 1.0, "loss/b": 1.0, "a/mae": 1.0, "a/own": 3.0}
    found = results_of(
        [cell("sum", one, [{**values, "b/mae": 1.0}]), cell("mgda", other, [{**values, "b/mse": 1.0, "loss/b": 2.0}])]
    )
    assert [metric.name for metric in found.counted] == ["a/mae", "loss/b"]
    assert found.cell("sum").ranks == {"a/mae": 1.5, "loss/b": 1.0}
    assert "Not counted, as it is not known whether more or less of it is better: a/own." in found.notes
    assert "Not counted, as not all cells have it: b/mae, b/mse." in found.notes


def test_references_without_a_number_and_baselines_of_0_are_left_out():
    singles = references()
    zero = cell("single_task=digit", config({"digit": ["accuracy"]}), [{"digit/accuracy": 0.0}], single_task="digit")
    found = results_of([*three_cells(), zero, *singles[1:2]])
    assert found.delta_metrics == ("ink/mae", "ink/mse")
    assert found.cell("mgda").delta_m.by_task.keys() == {"ink"}
    assert any(note.startswith("Δm leaves out digit/accuracy, loss/plain:") for note in found.notes)
    assert results_of([*three_cells(), zero]).baseline is None


def test_a_small_baseline_that_dominates_is_said():
    small = {"digit/accuracy": 0.9}, {"ink/mae": 1e-4, "ink/mse": 1e-4}, {"loss/plain": 1.0}
    singles = [
        cell(f"single_task={task}", config({task: LOSSES[task]}), [own] * 3, single_task=task)
        for task, own in zip(LOSSES, small, strict=True)
    ]
    found = results_of([*three_cells(2), *singles])
    assert found.cell("pcgrad").delta_m.dominated_by == "ink"
    note = next(note for note in found.notes if "mostly" in note)
    assert note.startswith("Δm of weighted, pcgrad is mostly that of ink,")
    assert "(ink/mae 0.000100, ink/mse 0.000100)" in note


def test_forty_losses():
    names = {f"loss_{i}": ["mae"] for i in range(40)}
    values = [{f"{name}/mae": 1 + random.Random(f"{name}{i}").random() for name in names} for i in range(6)]
    singles = [cell(f"single_task={n}", config({n: ["mae"]}), [{f"{n}/mae": 1.0}] * 3, single_task=n) for n in names]
    whole = config(names)
    found = results_of([cell("sum", whole, values[:3]), cell("mgda", whole, values[3:]), *singles])
    expected = -100 * sum(sum(each.values()) / 40 - 1 for each in values[:3]) / 3
    assert found.cell("sum").delta_m.mean == pytest.approx(expected, rel=1e-12)
    text = results_text.report(found)
    heading = next(line for line in text.splitlines() if line.startswith("| cell | runs"))
    assert heading.count("|") < 12  # metrics have a table of their own
    assert len(found.notes[1]) < 300


def test_files_hold_the_same_numbers(results):
    tree = json.loads(results_files.json_of(results))
    assert tree["format"] == 1
    assert tree["cells"][1]["delta_m"]["mean"] == results.cells[1].delta_m.mean
    rows = list(csv.DictReader(io.StringIO(results_files.csv_of(results))))
    assert len(rows) == 3 * SEEDS * 6 + SEEDS * 6
    for row in rows:
        run = next(run for run in results.runs if (run.cell, run.seed) == (row["cell"], int(row["seed"])))
        assert float(row["value"]) == run.values[row["split"]][row["at"]][row["metric"]]
        assert int(row["step"]) == run.last_step
        assert row["single_task"] == (results.cell(run.cell).single_task or "")


def test_names_of_the_users_break_no_table():
    name = "sum a|b=<script>"
    found = results_of([cell(name, CONFIG, [values_of(0, 0)]), cell("mgda", CONFIG, [None], failures={0: "a\nb | c"})])
    text = results_text.report(found)
    assert "<script>" not in text
    table = text[text.index("| cell |") :].split("\n\n")[0].splitlines()
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1


def test_nothing_is_trained_yet():
    found = results_of([cell("sum", CONFIG, [], failures={0: "x"}), cell("mgda", CONFIG, [])])
    assert found.best is None
    assert found.differences == ()
    assert "No cell has all numbers" in results_text.report(found)


def test_cells_of_other_losses_have_no_best_one_and_it_is_said_why():
    cells = [
        cell("sum", config({"a": []}), [{"loss/a": 1.0}]),
        cell("mgda", config({"b": []}), [{"loss/b": 1.0}]),
    ]
    assert "No value whose better direction is known is in all cells" in results_text.report(results_of(cells))
    none = results_of([cell("sum", config({"a": []}), [None], failures={0: "why"})])
    assert "No cell has all numbers" in results_text.report(none)
