"""The order of a comparison: what is trained, what is kept, what is refused; with runs that are pretended."""

import dataclasses
import fcntl
import json

import pytest
from rich.console import Console

from tests import problems
from tests.trainer.compare.pretended import STEPS, Launcher
from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.compare import (
    asking,
    children,
    collected,
    comparing,
    grid,
    messages,
    objectives,
    plan_file,
    search_space,
    trials,
)
from trainer.compare.asking import Asked
from trainer.compare.plan_file import Tuned
from trainer.compare.trials import Trial
from trainer.config import loading


@pytest.fixture
def compare(tmp_path):
    """Compares two losses in `tmp_path / "all"`; returns the outcome."""

    def run(methods, launch, seeds=2, tree=None, vary=(), **further):
        asked = Asked(
            tree=tree or problems.tree(seed=5),
            methods=methods,
            variations=[grid.variation(each) for each in vary],
            seeds=seeds,
            workdir="all",
            command="the command",
            **further,
        )
        return comparing.compare(asked, tmp_path, Console(quiet=True), launch)

    return run


def test_all_runs_are_trained_cell_by_cell(compare, tmp_path):
    launch = Launcher()
    outcome = compare(["sum", "mgda"], launch)
    assert launch.trained == [("sum", 5), ("sum", 6), ("mgda", 5), ("mgda", 6)]
    assert outcome.failed == []
    assert [cell.name for cell in outcome.comparison.cells] == ["sum", "mgda"]
    for cell in outcome.comparison.cells:
        assert {seed: run.last_step for seed, run in cell.runs.items()} == {5: STEPS, 6: STEPS}
    for name in ("results.json", "results.csv", "report.md", "report.html", "comparison.json"):
        assert (tmp_path / "all" / name).stat().st_size > 0


def test_again_it_trains_what_is_not_there_and_what_failed(compare):
    first = compare(["sum", "mgda"], Launcher([("sum", 6)]))
    assert first.failed == ["sum (seed 6)"]
    assert first.comparison.cells[0].failures == {6: "step 3: loss became non-finite"}
    launch = Launcher()
    second = compare(["sum", "mgda"], launch)
    assert launch.trained == [("sum", 6)]
    assert (second.failed, second.comparison.cells[0].failures) == ([], {})


def test_more_methods_seeds_and_values_are_added(compare):
    compare(["sum"], Launcher(), seeds=1)
    launch = Launcher()
    outcome = compare(["pcgrad"], launch, seeds=2, vary=["steps=20,30"])
    assert launch.trained == [("pcgrad", 5), ("pcgrad", 6)] * 2
    assert [cell.name for cell in outcome.comparison.cells] == ["sum", "pcgrad steps=20", "pcgrad steps=30"]
    assert list(outcome.comparison.seeds) == [5, 6]
    assert list(outcome.comparison.cells[0].runs) == [5]
    complete = [run.cell for run in outcome.results.runs if run.state == "complete"]
    assert complete == ["sum", *["pcgrad steps=20"] * 2, *["pcgrad steps=30"] * 2]


def test_another_configuration_is_refused_with_what_differs(compare, tmp_path):
    compare(["sum"], Launcher())
    before = (tmp_path / "all" / plan_file.NAME).read_text()
    for changes, words in (({"batch_size": 7}, "batch_size is 11 there and 7 here"), ({"seed": 6}, "seed is 5 there")):
        with pytest.raises(ConfigError, match=words):
            compare(["sum"], Launcher(), tree=problems.tree(**{"seed": 5, **changes}))
    assert (tmp_path / "all" / plan_file.NAME).read_text() == before


def test_a_run_that_another_configuration_left_is_refused(compare, tmp_path):
    compare(["sum"], Launcher(), seeds=1)
    (tmp_path / "all" / plan_file.NAME).unlink()
    with pytest.raises(ConfigError, match="its run has another configuration"):
        compare(["sum"], Launcher(), seeds=1, tree=problems.tree(seed=5, batch_size=7))


def test_the_directory_of_a_run_is_no_place_for_a_comparison(compare, tmp_path):
    compare(["sum"], Launcher(), seeds=1)
    (tmp_path / "all" / "sum" / "seed_5").rename(tmp_path / "other")
    (tmp_path / "all").rename(tmp_path / "before")
    (tmp_path / "other").rename(tmp_path / "all")
    with pytest.raises(ConfigError, match="is the directory of a run"):
        compare(["sum"], Launcher())


@pytest.mark.parametrize("text", ["{", '{"format": 7}', '{"format": 1}', '{"format": 1, "cells": [{"name": 2}]}'])
def test_a_plan_that_cannot_be_read_is_refused(compare, tmp_path, text):
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / plan_file.NAME).write_text(text)
    with pytest.raises(ConfigError, match="holds no readable comparison"):
        compare(["sum"], Launcher())


def test_nothing_is_written_for_what_cannot_be(compare, tmp_path):
    with pytest.raises(ConfigError):
        compare(["sum"], Launcher(), tree=problems.tree(batch_size=0))
    with pytest.raises(ConfigError, match="modle"):
        compare(["sum"], Launcher(), vary=["modle.name=a"])
    assert list(tmp_path.iterdir()) == []


def test_tuned_runs_have_fresh_seeds_and_single_tasks_their_own_objective(compare, monkeypatch):
    monkeypatch.setattr(objectives, "check_installed", lambda value: None)
    requests = []

    class Tuning(Launcher):
        """Tunes without trials: twice the learning rate is the best."""

        def __call__(self, request, log, base, *given):
            requests.append(request)
            config, twice = loading.resolve(request.tuning.config), {"learning_rate": 2.0}
            trial = Trial(0, twice, "complete", 1.0, "")
            tuning = trials.Tuning("", "min", 5, 1, {}, (trial,), 0, search_space.changes(config, twice))
            trials.write(base / request.tuning.path, tuning)
            chosen = schema.as_dict(search_space.applied(config, twice))
            runs = [dataclasses.replace(run, config=chosen | {"seed": run.seed}) for run in request.runs]
            return super().__call__(dataclasses.replace(request, runs=runs), log, base, *given)

    launch, tuned = Tuning(), Tuned(3, "loss/label")
    outcome = compare(["sum", "mgda"], launch, single_tasks=True, tuned=tuned)
    assert {seed for _, seed in launch.trained} == {6, 7} == set(outcome.comparison.seeds)
    assert all(run.config["learning_rate_factors"] == {"*": 2.0} for run in outcome.comparison.cells[0].runs.values())
    trained = list(launch.trained)
    compare(["sum", "mgda"], launch, single_tasks=True, tuned=tuned)
    assert launch.trained == trained  # all of it is there
    for request, cell in zip(requests, outcome.comparison.cells, strict=True):
        assert messages.Request.of_json(request.to_json()) == request
        tuning, is_alone = request.tuning, cell.single_task is not None
        assert (tuning.trials, tuning.config["seed"]) == (3, 5)
        assert (tuning.objective, tuning.path) == (None if is_alone else "loss/label", f"all/{cell.path.name}")
    with pytest.raises(ConfigError, match="holds a comparison with --tuned=3 --objective='loss/label'"):
        compare(["sum"], launch, tuned=Tuned(3))
    with pytest.raises(ConfigError, match="--objective='loss/lable': unknown validation value; did you mean"):
        compare(["sum"], launch, tuned=Tuned(3, "loss/lable"))


def test_a_comparison_is_used_by_one_process_at_a_time(compare):
    caught = []

    class Second(Launcher):
        def __call__(self, *given):
            with pytest.raises(ConfigError, match=r"another comparison is using it \(process \d+ on"):
                compare(["sum"], Launcher())
            caught.append(True)
            return super().__call__(*given)

    compare(["sum"], Second())
    assert caught == [True]


def test_one_that_has_just_begun_need_not_have_said_who_it_is(tmp_path):
    with (tmp_path / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match=r"is using it \(just begun\)$"), plan_file.locked(tmp_path, tmp_path):
            pass


def test_cells_are_trained_one_by_one(tmp_path, monkeypatch):
    """By processes that know of each other's cells, until one call reports on all."""
    monkeypatch.setattr(children, "_MODULE", "tests.trainer.compare.pretended")
    asked = Asked(problems.tree(seed=5), ["sum", "mgda"], seeds=2, workdir="all", command="the command")
    assert asking.listed(asked) == ["sum", "mgda"]
    quiet = Console(quiet=True)
    assert comparing.train_cell(asked, 2, tmp_path, quiet) == ([], None)
    assert not (tmp_path / "all" / "sum").exists()
    with plan_file.locked(tmp_path / "all", tmp_path / "all", shared=True):  # as who trains another cell
        assert comparing.train_cell(asked, 1, tmp_path, quiet) == ([], None)
        with pytest.raises(ConfigError, match="another comparison is using it"):
            comparing.compare(asked, tmp_path, quiet, Launcher())
    assert not (tmp_path / "all" / "report.md").exists()
    launch = Launcher()
    outcome = comparing.compare(asked, tmp_path, quiet, launch)
    assert launch.trained == []
    assert [list(cell.runs) for cell in outcome.comparison.cells] == [[5, 6], [5, 6]]
    with pytest.raises(ConfigError, match="--cell=3: must be at most 2"):
        comparing.train_cell(asked, 3, tmp_path, quiet)


def test_methods_and_the_sum_are_timed_once(compare, tmp_path):
    launch = Launcher()
    outcome = compare(
        ["mgda", "famo"], launch, seeds=1, timed_steps=7, single_tasks=True, tree=problems.tree(micro_batches=11)
    )
    assert launch.timed == ["mgda", "sum"]
    timing = outcome.comparison.timing
    assert (timing["mgda"].seconds_per_step, timing["mgda"].memory, timing["mgda"].failure) == (0.5, 100, None)
    assert timing["famo"].failure.startswith("micro_batches=11")
    again = Launcher()
    compare(["mgda", "famo"], again, seeds=1, timed_steps=7, tree=problems.tree(micro_batches=11))
    assert again.timed == []
    (tmp_path / "all" / collected.TIMING).write_text(json.dumps({"cells": 3}))
    with pytest.raises(ConfigError, match="remove it to measure again"):
        collected.read(tmp_path / "all")


def test_a_timing_that_crashes_says_how_and_where(compare):
    class CrashesWhereTimed(Launcher):
        def __call__(self, request, *args):
            return 1 if request.timed_steps else super().__call__(request, *args)

    outcome = compare(["mgda"], CrashesWhereTimed(), seeds=1, timed_steps=7)
    reason = "its process ended with exit code 1; all/mgda/log.txt says more"
    assert outcome.comparison.timing["mgda"].failure == reason
