"""Results of comparisons that nobody trained: every number by plain loops; and what is said where some are missing."""

import csv
import io
import itertools
import json
import random
import statistics as standard_library

import numpy as np
import pytest
import scipy.stats

from tests.trainer.compare import made_up
from tests.trainer.compare.made_up import cell, comparison, config
from trainer.compare import computing, results_files, results_text
from trainer.compare.collected import Timing

LOSSES = {"digit": ["accuracy"], "ink": ["mae", "mse"], "plain": []}
COUNTED = {"digit": {"digit/accuracy": 1}, "ink": {"ink/mae": -1, "ink/mse": -1}, "plain": {"loss/plain": -1}}
CONFIG = config(LOSSES)
SEEDS = 4


def _values(seed: int, cell_: int, tasks=tuple(LOSSES)) -> dict[str, float]:
    draw = random.Random(1000 * cell_ + seed)
    names = ["loss/digit", "digit/accuracy", "loss/ink", "ink/mae", "ink/mse", "loss/plain"]
    return {name: 0.4 + 0.1 * cell_ + draw.random() for name in names if {*name.split("/")} & {*tasks}}


def _cells(count: int = 3) -> list:
    names = ["weighted", "pcgrad", "mgda"][:count]
    return [cell(name, CONFIG, [_values(seed, i) for seed in range(SEEDS)]) for i, name in enumerate(names)]


def _single_tasks() -> list:
    return [
        cell(
            f"single_task={task}",
            config({task: LOSSES[task]}),
            [_values(seed, 5 + place, (task,)) for seed in range(SEEDS)],
            single_task=task,
        )
        for place, task in enumerate(LOSSES)
    ]


def _baseline_means() -> dict[str, float]:
    return {
        name: standard_library.mean(_values(seed, 5 + place, (task,))[name] for seed in range(SEEDS))
        for place, task in enumerate(LOSSES)
        for name in COUNTED[task]
    }


def _delta(values: dict[str, float], baselines: dict[str, float]) -> float:
    """Δm as LibMTL defines it, by loops."""
    of_tasks = []
    for metrics in COUNTED.values():
        shares = [sign * (values[name] - baselines[name]) / baselines[name] for name, sign in metrics.items()]
        of_tasks.append(sum(shares) / len(shares))
    return 100 * sum(of_tasks) / len(of_tasks)


def _compute(cells, **options):
    return computing.compute(comparison(cells, **options))


@pytest.fixture(scope="module")
def results():
    return _compute([*_cells(), *_single_tasks()])


def test_means_and_deviations(results):
    for i, name in enumerate(["weighted", "pcgrad", "mgda"]):
        for metric in _values(0, i):
            values = [_values(seed, i)[metric] for seed in range(SEEDS)]
            found = results.estimate(name, metric)
            assert found.mean == pytest.approx(standard_library.mean(values), rel=1e-14)
            assert found.deviation == pytest.approx(standard_library.stdev(values), rel=1e-12)
            assert found.count == SEEDS


def test_delta_m_is_that_of_means_and_the_mean_of_that_of_seeds(results):
    baselines = _baseline_means()
    for i, name in enumerate(["weighted", "pcgrad", "mgda"]):
        found = results.cell(name).delta_m
        means = {metric: results.estimate(name, metric).mean for metric in _values(0, i)}
        of_seeds = [_delta(_values(seed, i), baselines) for seed in range(SEEDS)]
        assert found.mean == pytest.approx(_delta(means, baselines), rel=1e-12)
        assert found.mean == pytest.approx(standard_library.mean(of_seeds), rel=1e-12)
        assert found.deviation == pytest.approx(standard_library.stdev(of_seeds), rel=1e-12)
        assert found.mean == pytest.approx(sum(found.by_task.values()) / 3, rel=1e-12)
        assert found.low < found.mean < found.high


def test_the_interval_of_delta_m_resamples_cells_and_references_together(results):
    def delta(seeds):
        means = {name: standard_library.mean(_values(s, 0)[name] for s in seeds) for name in _values(0, 0)}
        baselines = {
            name: standard_library.mean(_values(s, 5 + place, (task,))[name] for s in seeds)
            for place, task in enumerate(LOSSES)
            for name in COUNTED[task]
        }
        return _delta(means, baselines)

    every = [delta(seeds) for seeds in itertools.product(range(SEEDS), repeat=SEEDS)]
    low, high = np.percentile(every, [2.5, 97.5])
    found = results.cell("weighted").delta_m
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05 * (high - low))


def test_ranks_are_of_means(results):
    for metrics in COUNTED.values():
        for metric, sign in metrics.items():
            means = [-sign * results.estimate(cell_.name, metric).mean for cell_ in results.cells[:3]]
            assert [cell_.ranks[metric] for cell_ in results.cells[:3]] == list(scipy.stats.rankdata(means))
    for cell_ in results.cells[:3]:
        ranks = cell_.ranks
        by_task = [ranks["digit/accuracy"], (ranks["ink/mae"] + ranks["ink/mse"]) / 2, ranks["loss/plain"]]
        assert cell_.mean_rank == pytest.approx(sum(by_task) / 3, rel=1e-14)
    assert all(cell_.mean_rank is None and not cell_.ranks for cell_ in results.cells[3:])


def test_differences_are_paired_by_seeds(results):
    baselines = _baseline_means()
    assert results.best == max(results.cells[:3], key=lambda cell_: cell_.delta_m.mean).name == "weighted"
    assert results.fixed == "weighted"
    pairs = {(each.cell, each.reference, each.kind) for each in results.differences}
    kinds = [("pcgrad", "best"), ("pcgrad", "fixed"), ("mgda", "best"), ("mgda", "fixed")]
    assert pairs == {(name, "weighted", kind) for name, kind in kinds}
    for each in results.differences:
        i = ["weighted", "pcgrad", "mgda"].index(each.cell)
        if each.of == "delta_m":
            values = [_delta(_values(s, i), baselines) - _delta(_values(s, 0), baselines) for s in range(SEEDS)]
        else:
            values = [_values(s, i)[each.of] - _values(s, 0)[each.of] for s in range(SEEDS)]
        assert each.mean == pytest.approx(standard_library.mean(values), rel=1e-9)
        expected = scipy.stats.bootstrap((values,), _mean, n_resamples=20_000, method="percentile", rng=0)
        low, high = expected.confidence_interval
        assert (each.low, each.high) == pytest.approx((low, high), abs=0.04 * (high - low))
        assert (each.verdict == "not distinguishable") == (each.low <= 0 <= each.high)


def _mean(values, axis):
    return values.mean(axis)


def test_a_cell_that_is_as_its_references_has_delta_m_0():
    alone = {name: value for task in LOSSES for name, value in _values(0, 9, (task,)).items()}
    runs = [{name: value + seed for name, value in alone.items()} for seed in range(3)]
    singles = [cell(f"single_task={task}", config({task: LOSSES[task]}), runs, single_task=task) for task in LOSSES]
    found = _compute([cell("pcgrad", CONFIG, runs), *singles]).cell("pcgrad").delta_m
    assert (found.mean, found.low, found.high) == pytest.approx((0, 0, 0), abs=1e-12)
    assert found.dominated_by is None


def test_the_order_of_cells_and_the_units_of_a_metric_change_no_rank_and_no_delta_m(results):
    def scaled(of):
        runs = {
            seed: made_up.record(
                run.config, {n: v * 1000 if n == "ink/mse" else v for n, v in run.reports[0].values.items()}
            )
            for seed, run in of.runs.items()
        }
        return type(of)(**{**vars(of), "runs": runs})

    again = _compute([scaled(each) for each in [*_single_tasks(), *reversed(_cells())]])
    for cell_ in results.cells[:3]:
        other = again.cell(cell_.name)
        assert other.ranks == cell_.ranks
        assert other.delta_m.mean == pytest.approx(cell_.delta_m.mean, rel=1e-12)
    assert again.best == results.best


def test_without_references_the_best_is_by_mean_rank():
    found = _compute(_cells())
    assert found.baseline is None
    assert all(cell_.delta_m is None for cell_ in found.cells)
    assert found.best == min(found.cells, key=lambda cell_: cell_.mean_rank).name
    overall = [each for each in found.differences if each.of == "mean_rank"]
    assert overall
    for each in overall:
        assert each.count == SEEDS
        assert -2 <= each.mean <= 2
    assert "There is no Δm" not in " ".join(found.notes)


def test_a_failed_seed_and_a_failed_cell_take_no_part_and_are_said():
    cells = _cells()
    whole = _compute([cells[0], cells[2]])
    short = cell("pcgrad", CONFIG, [_values(0, 1), None, _values(2, 1)], failures={1: "loss digit is NaN in step 7"})
    failed = cell("cagrad", CONFIG, [_values(0, 3)], failures={0: "killed by signal 9", 1: "killed by signal 9"})
    found = _compute([cells[0], short, failed, cells[2]])
    assert found.cell("pcgrad").seeds == (0, 2)
    assert found.estimate("pcgrad", "ink/mae").mean == pytest.approx(
        (_values(0, 1)["ink/mae"] + _values(2, 1)["ink/mae"]) / 2
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
    assert "cagrad takes no part: no run of it is complete (seeds 0, 1: killed by signal 9;" in text
    assert "| cagrad | 0 of 4 | – |" in text


def test_an_unfinished_run_takes_no_part():
    found = _compute([cell("pcgrad", CONFIG, [_values(0, 0)], end=None), *_cells(1)])
    assert found.cell("pcgrad").failures[0] == "not finished: 20 steps are taken"
    assert next(run for run in found.runs if run.cell == "pcgrad").values["validation"]["final"] == _values(0, 0)
    assert found.best == "weighted"


def test_one_seed_has_no_deviation_and_no_verdict():
    found = _compute([cell(name, CONFIG, [_values(0, i)]) for i, name in enumerate(["sum", "mgda"])])
    assert found.estimate("sum", "ink/mae").deviation is None
    assert {each.verdict for each in found.differences} == {"too few seeds"}
    assert {(each.low, each.high) for each in found.differences} == {(None, None)}
    assert any("With one seed" in note for note in found.notes)


def _at(steps, best=None):
    """Reports of a run: the later, the less `ink/mae`, and the most `digit/accuracy` at the step `best`."""
    return [
        (step, "validation", {**_values(0, 0), "ink/mae": 1 / step, "digit/accuracy": 0.9 if step == best else 0.5})
        for step in steps
    ]


def test_the_best_step_is_chosen_on_validation_and_test_is_reported():
    chosen = config(LOSSES, best={"metric": "digit/accuracy"})
    tested = {**_values(0, 0), "ink/mae": 0.77}
    runs = [[*_at([5, 10, 15], best), (best, "test", tested)] for best in (5, 10)]
    found = _compute([cell("mgda", chosen, runs, end=15), cell("sum", chosen, runs, end=15)])
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
    first = cell("mgda", chosen, [[*_at([5, 10], 5), (5, "test", _values(0, 0))]], end=10)
    found = _compute([first, cell("sum", CONFIG, [_at([5, 20], 5)])])
    assert (found.split, found.at) == ("validation", "final")
    assert found.estimate("mgda", "ink/mae").mean == pytest.approx(1 / 10)
    assert "Runs were not equally long: 10 to 20 steps." in found.notes


def test_values_that_are_no_numbers():
    gone = {**_values(0, 1), "ink/mae": None}
    never = cell("mgda", CONFIG, [gone, gone])
    found = _compute([*_cells(1), cell("pcgrad", CONFIG, [_values(0, 1), gone]), never])
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
    found = _compute(
        [cell("sum", one, [{**values, "b/mae": 1.0}]), cell("mgda", other, [{**values, "b/mse": 1.0, "loss/b": 2.0}])]
    )
    assert [metric.name for metric in found.counted] == ["a/mae", "loss/b"]
    assert found.cell("sum").ranks == {"a/mae": 1.5, "loss/b": 1.0}
    assert "Not counted, as it is not known whether more or less of it is better: a/own." in found.notes
    assert "Not counted, as not all cells have it: b/mae, b/mse." in found.notes


def test_references_without_a_number_and_baselines_of_0_are_left_out():
    singles = _single_tasks()
    zero = cell("single_task=digit", config({"digit": ["accuracy"]}), [{"digit/accuracy": 0.0}], single_task="digit")
    found = _compute([*_cells(), zero, *singles[1:2]])
    assert found.delta_metrics == ("ink/mae", "ink/mse")
    assert found.cell("mgda").delta_m.by_task.keys() == {"ink"}
    assert any(note.startswith("Δm leaves out digit/accuracy, loss/plain:") for note in found.notes)
    assert _compute([*_cells(), zero]).baseline is None


def test_a_small_baseline_that_dominates_is_said():
    small = {"digit/accuracy": 0.9}, {"ink/mae": 1e-4, "ink/mse": 1e-4}, {"loss/plain": 1.0}
    singles = [
        cell(f"single_task={task}", config({task: LOSSES[task]}), [own] * 3, single_task=task)
        for task, own in zip(LOSSES, small, strict=True)
    ]
    found = _compute([*_cells(2), *singles])
    assert found.cell("pcgrad").delta_m.dominated_by == "ink"
    note = next(note for note in found.notes if "mostly" in note)
    assert note.startswith("Δm of weighted, pcgrad is mostly that of ink,")
    assert "(ink/mae 0.000100, ink/mse 0.000100)" in note


def test_references_are_those_of_the_same_settings():
    def cells(batch):
        settings = {"batch_size": batch}
        alone = [{name: value * batch for name, value in _values(0, 9).items()}] * 2
        names = [f"weighted batch_size={batch}", f"mgda batch_size={batch}"]
        found = [cell(name, CONFIG, alone, settings=settings) for name in names]
        return found + [
            cell(f"single_task={t} {batch}", config({t: LOSSES[t]}), alone, single_task=t, settings=settings)
            for t in LOSSES
        ]

    found = _compute([*cells(32), *cells(64)])
    assert [cell_.delta_m.mean for cell_ in found.cells[:4]] == [0, 0, 0, 0]
    fixed = {each.cell: each.reference for each in found.differences if each.kind == "fixed"}
    assert fixed == {f"mgda batch_size={batch}": f"weighted batch_size={batch}" for batch in (32, 64)}


def test_costs_are_relative_to_sum_of_the_timing():
    timing = {
        "sum": Timing(0.01, 1000, "CPU"),
        "mgda": Timing(0.025, 1500, "CPU"),
        "pcgrad": Timing(None, None, "CPU", "no memory"),
    }
    found = _compute(_cells(), timing=timing)
    cost = found.cell("mgda").cost
    assert (cost.relative_seconds, cost.relative_memory) == pytest.approx((2.5, 1.5))
    assert found.cell("pcgrad").cost.failure == "no memory"
    assert found.cell("weighted").cost is None
    assert "0.0250 (2.50 x sum)" in results_text.report(found)


def test_forty_losses():
    names = {f"loss_{i}": ["mae"] for i in range(40)}
    values = [{f"{name}/mae": 1 + random.Random(f"{name}{i}").random() for name in names} for i in range(6)]
    singles = [cell(f"single_task={n}", config({n: ["mae"]}), [{f"{n}/mae": 1.0}] * 3, single_task=n) for n in names]
    whole = config(names)
    found = _compute([cell("sum", whole, values[:3]), cell("mgda", whole, values[3:]), *singles])
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
    found = _compute([cell(name, CONFIG, [_values(0, 0)]), cell("mgda", CONFIG, [None], failures={0: "a\nb | c"})])
    text = results_text.report(found)
    assert "<script>" not in text
    table = text[text.index("| cell |") :].split("\n\n")[0].splitlines()
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1


def test_nothing_is_trained_yet():
    found = _compute([cell("sum", CONFIG, [], failures={0: "x"}), cell("mgda", CONFIG, [])])
    assert found.best is None
    assert found.differences == ()
    assert "No cell has all numbers" in results_text.report(found)
