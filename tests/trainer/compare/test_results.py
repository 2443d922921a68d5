"""Results of comparisons that nobody trained: every number by plain loops."""

import itertools
import statistics as standard_library

import numpy as np
import pytest
import scipy.stats

from tests.trainer.compare import made_up
from tests.trainer.compare.made_up import cell, config
from tests.trainer.compare.three_tasks import (
    CONFIG,
    COUNTED,
    LOSSES,
    SEEDS,
    references,
    results_of,
    three_cells,
    values_of,
)
from trainer.compare import results_text, results_verdict
from trainer.compare.collected import Timing


def baseline_means() -> dict[str, float]:
    return {
        name: standard_library.mean(values_of(seed, 5 + place, (task,))[name] for seed in range(SEEDS))
        for place, task in enumerate(LOSSES)
        for name in COUNTED[task]
    }


def delta_of(values: dict[str, float], baselines: dict[str, float]) -> float:
    """Δm as LibMTL defines it, by loops."""
    of_tasks = []
    for metrics in COUNTED.values():
        shares = [sign * (values[name] - baselines[name]) / baselines[name] for name, sign in metrics.items()]
        of_tasks.append(sum(shares) / len(shares))
    return 100 * sum(of_tasks) / len(of_tasks)


@pytest.fixture(scope="module")
def results():
    return results_of([*three_cells(), *references()])


def test_means_and_deviations(results):
    for i, name in enumerate(["weighted", "pcgrad", "mgda"]):
        for metric in values_of(0, i):
            values = [values_of(seed, i)[metric] for seed in range(SEEDS)]
            found = results.estimate(name, metric)
            assert found.mean == pytest.approx(standard_library.mean(values), rel=1e-14)
            assert found.deviation == pytest.approx(standard_library.stdev(values), rel=1e-12)
            assert found.count == SEEDS


def test_delta_m_is_that_of_means_and_the_mean_of_that_of_seeds(results):
    baselines = baseline_means()
    for i, name in enumerate(["weighted", "pcgrad", "mgda"]):
        found = results.cell(name).delta_m
        means = {metric: results.estimate(name, metric).mean for metric in values_of(0, i)}
        of_seeds = [delta_of(values_of(seed, i), baselines) for seed in range(SEEDS)]
        assert found.mean == pytest.approx(delta_of(means, baselines), rel=1e-12)
        assert found.mean == pytest.approx(standard_library.mean(of_seeds), rel=1e-12)
        assert found.deviation == pytest.approx(standard_library.stdev(of_seeds), rel=1e-12)
        assert found.mean == pytest.approx(sum(found.by_task.values()) / 3, rel=1e-12)
        assert found.low < found.mean < found.high


def test_the_interval_of_delta_m_resamples_cells_and_references_together(results):
    def delta(seeds):
        means = {name: standard_library.mean(values_of(s, 0)[name] for s in seeds) for name in values_of(0, 0)}
        baselines = {
            name: standard_library.mean(values_of(s, 5 + place, (task,))[name] for s in seeds)
            for place, task in enumerate(LOSSES)
            for name in COUNTED[task]
        }
        return delta_of(means, baselines)

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
    baselines = baseline_means()
    assert results.best == max(results.cells[:3], key=lambda cell_: cell_.delta_m.mean).name == "weighted"
    assert results.fixed == "weighted"
    pairs = {(each.cell, each.reference, each.kind) for each in results.differences}
    kinds = [("pcgrad", "best"), ("pcgrad", "fixed"), ("mgda", "best"), ("mgda", "fixed")]
    assert pairs == {(name, "weighted", kind) for name, kind in kinds}
    for each in results.differences:
        i = ["weighted", "pcgrad", "mgda"].index(each.cell)
        if each.of == "delta_m":
            values = [delta_of(values_of(s, i), baselines) - delta_of(values_of(s, 0), baselines) for s in range(SEEDS)]
        else:
            values = [values_of(s, i)[each.of] - values_of(s, 0)[each.of] for s in range(SEEDS)]
        assert each.mean == pytest.approx(standard_library.mean(values), rel=1e-9)
        expected = scipy.stats.bootstrap((values,), _mean, n_resamples=20_000, method="percentile", rng=0)
        low, high = expected.confidence_interval
        assert (each.low, each.high) == pytest.approx((low, high), abs=0.04 * (high - low))
        assert (each.verdict == "not distinguishable") == (each.low <= 0 <= each.high)


def _mean(values, axis):
    return values.mean(axis)


def test_a_cell_that_is_as_its_references_has_delta_m_0():
    alone = {name: value for task in LOSSES for name, value in values_of(0, 9, (task,)).items()}
    runs = [{name: value + seed for name, value in alone.items()} for seed in range(3)]
    singles = [cell(f"single_task={task}", config({task: LOSSES[task]}), runs, single_task=task) for task in LOSSES]
    found = results_of([cell("pcgrad", CONFIG, runs), *singles]).cell("pcgrad").delta_m
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

    again = results_of([scaled(each) for each in [*references(), *reversed(three_cells())]])
    for cell_ in results.cells[:3]:
        other = again.cell(cell_.name)
        assert other.ranks == cell_.ranks
        assert other.delta_m.mean == pytest.approx(cell_.delta_m.mean, rel=1e-12)
    assert again.best == results.best


def test_the_verdict_says_what_is_best_and_what_can_be_told_apart():
    """Of cells some of which are told apart, and whose order by Δm is not that by mean rank."""

    def runs(accuracy, mae):
        return [
            {"digit/accuracy": accuracy + s / 1000, "ink/mae": mae, "ink/mse": 1, "loss/plain": 1} for s in range(3)
        ]

    cells = [
        cell("weighted", CONFIG, runs(0.90, 0.5)),
        cell("pcgrad", CONFIG, runs(0.91, 0.6)),
        cell("mgda", CONFIG, runs(0.92, 0.6)),
        cell("upgrad", CONFIG, runs(0.8995, 0.5)),
        *(cell(f"single_task={t}", config({t: LOSSES[t]}), runs(0.95, 0.2), single_task=t) for t in LOSSES),
    ]
    assert results_verdict.sentences(results_of(cells)) == [
        "The best cell is weighted (Δm −26.8 %, mostly that of ink).",
        "The others, compared to it: worse: pcgrad, mgda; worse by less than another seed changes: upgrad.",
        "By mean rank it is mgda (2.17 to 2.50).",
        "No cell is better than its tasks alone.",
    ]


def test_of_one_cell_nothing_is_best():
    values = [{"digit/accuracy": 0.9, "ink/mae": 0.5, "ink/mse": 1, "loss/plain": 1}] * 2
    only = cell("pcgrad", CONFIG, values)
    assert results_verdict.sentences(results_of([only])) == ["The only cell is pcgrad."]
    failed = cell("mgda", CONFIG, [None] * 2, failures=dict.fromkeys(range(2), "no memory"))
    assert results_verdict.sentences(results_of([only, failed])) == ["The only cell with all numbers is pcgrad."]
    alone = [cell(f"single_task={t}", config({t: LOSSES[t]}), values, single_task=t) for t in LOSSES]
    assert results_verdict.sentences(results_of([only, *alone])) == ["The only cell is pcgrad (Δm 0 %)."]


def test_without_references_the_best_is_by_mean_rank():
    found = results_of(three_cells())
    assert found.baseline is None
    assert all(cell_.delta_m is None for cell_ in found.cells)
    assert found.best == min(found.cells, key=lambda cell_: cell_.mean_rank).name
    overall = [each for each in found.differences if each.of == "mean_rank"]
    assert overall
    for each in overall:
        assert each.count == SEEDS
        assert -2 <= each.mean <= 2
    assert "There is no Δm" not in " ".join(found.notes)


def test_references_are_those_of_the_same_settings():
    def of(name, settings):
        return " ".join([name, *(f"batch_size={size}" for size in settings.values())])

    def cells(settings, factor):
        alone = [{name: value * factor for name, value in values_of(0, 9).items()}] * 2
        found = [cell(of(name, settings), CONFIG, alone, settings=settings) for name in ("weighted", "mgda")]
        return found + [
            cell(of(f"single_task={t}", settings), config({t: LOSSES[t]}), alone, single_task=t, settings=settings)
            for t in LOSSES
        ]

    every = {}, {"batch_size": 32}, {"batch_size": 64}
    found = results_of([each for factor, settings in enumerate(every, 1) for each in cells(settings, factor)])
    assert [cell_.delta_m.mean for cell_ in found.cells[:6]] == [0] * 6
    fixed = {each.cell: each.reference for each in found.differences if each.kind == "fixed"}
    assert fixed == {of("mgda", settings): of("weighted", settings) for settings in every}


def test_costs_are_relative_to_sum_of_the_timing():
    timing = {
        "sum": Timing(0.01, 1000, "CPU"),
        "mgda": Timing(0.025, 1500, "CPU", passes="3 passes"),
        "pcgrad": Timing(None, None, "CPU", "no memory"),
    }
    found = results_of(three_cells(), timing=timing)
    cost = found.cell("mgda").cost
    assert (cost.relative_seconds, cost.relative_memory) == pytest.approx((2.5, 1.5))
    assert found.cell("pcgrad").cost.failure == "no memory"
    assert found.cell("weighted").cost is None
    assert "0.0250 (2.50 x sum; 3 passes)" in results_text.report(found)
