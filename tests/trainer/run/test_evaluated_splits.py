"""Runs with more splits than two: when each is evaluated, on which variables, and that a resumed run does it again."""

import io
import json
import shutil

import pytest
from rich.console import Console

from input_pipelines.examples import Examples
from tests import problems
from tests.properties import built_once, interrupted
from trainer.common.durations import Timeline
from trainer.common.errors import ConfigError
from trainer.config import evaluations as settings
from trainer.config import loading
from trainer.output import workdir
from trainer.output.reports import Report
from trainer.run import evaluate, evaluations, monitor, train

_BEST = "extra/loss/number"


def load() -> dict[str, Examples]:
    """The two splits of `problems`, and three others that are parts of both."""
    train_split, validation = problems.load().values()
    parts = {name: _rows(validation, rows) for name, rows in (("extra", slice(9)), ("late", slice(9, 20)))}
    return {"train": train_split, "validation": validation, **parts, "test": _rows(train_split, slice(30))}


def _rows(split: Examples, rows: slice) -> Examples:
    return Examples(split.inputs[rows], {name: values[rows] for name, values in split.targets.items()})


def _config(**changes):
    tree = {
        "dataset__name": "tests.trainer.run.test_evaluated_splits:load",
        "steps": 9,
        "report_every": 9,
        "eval_every": 3,
        "keep_checkpoints": 1,
        "evaluate": {"extra": "at_every_evaluation", "late": 4},
        "best": {"metric": _BEST},  # not the last one: these examples are few, and others than those trained on
    }
    return problems.config(**{**problems.SIMPLE, **tree, **changes})


def _run(path, **changes) -> list[Report]:
    return list(train.train(_config(**changes), str(path), problems.strategy(2), Console(file=io.StringIO())))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run, and a context in which others like it need not be built and traced again."""
    path = tmp_path_factory.mktemp("runs") / "run"
    with built_once.building_once():
        yield path, _run(path)


def test_each_split_is_evaluated_when_it_is_due(run):
    path, reports = run
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    found = [(row["step"], row["split"]) for row in rows]
    best = found[-1][0]
    every = [[(step, "extra"), (step, "validation")] for step in (3, 6)]
    assert best in (3, 6)
    assert found == [
        *every[0],
        (4, "late"),
        *every[1],
        (8, "late"),
        (9, "train"),
        (9, "extra"),
        (9, "late"),
        (9, "validation"),
        (best, "test"),
    ]
    watched = {report.step: report.values["loss/number"] for report in reports if report.split == "extra"}
    assert min(watched, key=watched.get) == best
    assert {folder.name for folder in (path / "tensorboard").iterdir()} == {row["split"] for row in rows}


def test_the_report_says_which_variables_were_tested(run):
    path, reports = run
    *_, last, tested = reports
    text = (path / "report.md").read_text()
    assert text.startswith("# Validation after 9 steps\n")
    assert f"## Test after {tested.step} steps, the best by {_BEST}\n" in text
    assert "## Late after 9 steps\n" in text
    assert f"{tested.values['number/mae']:.4g}" in text.partition("## Test")[2]
    assert f"{last.values['number/mae']:.4g}" in text.partition("## ")[0]


def test_the_best_checkpoint_evaluates_to_the_same(run, tmp_path):
    path, reports = run
    shutil.copytree(path, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step_00000009")
    opened = workdir.open_run(str(tmp_path / "run"))
    config = loading.load_saved(opened.config)
    console = Console(file=io.StringIO())
    again = evaluate.evaluate(config, opened, problems.strategy(2), console, split="test")
    assert (again.step, again.values) == (reports[-1].step, reports[-1].values)
    assert "Test of" in console.file.getvalue()
    with pytest.raises(ConfigError, match="--split='tset': unknown split beside train; did you mean 'test'"):
        evaluate.evaluate(config, opened, problems.strategy(2), console, split="tset")


@pytest.mark.parametrize("is_over", [True, False], ids=["after its end", "on its way"])
def test_a_resumed_run_evaluates_the_same_again(run, tmp_path, is_over):
    path, reports = run
    shutil.copytree(path, tmp_path / "run")
    if not is_over:
        shutil.rmtree(tmp_path / "run" / "checkpoints" / "step_00000009")
    assert _run(tmp_path / "run") == reports
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (path / "metrics.jsonl").read_bytes()
    assert interrupted.report_without_time(tmp_path / "run") == interrupted.report_without_time(path)


def test_monitors_that_change_find_values_of_other_splits_in_the_reports(run):
    _, reports = run
    found = list(monitor.evaluations(reports))
    assert [report.step for report in found] == [3, 6, 9]
    for report in found:
        (of_extra,) = (each for each in reports if (each.step, each.split) == (report.step, "extra"))
        assert report.values[_BEST] == of_extra.values["loss/number"]
        assert ("late/loss/number" in report.values) == (report.step == 9)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"tset": "at_end"}, r"evaluate\.tset=.*did you mean 'test'"),
        ({"validation": "at_end"}, r"evaluate\.validation='at_end': has a key of its own, eval_every"),
        ({"train": "at_end"}, r"evaluate\.train='at_end': is what is trained on"),
        ({"test": "sometimes"}, r"evaluate\.test='sometimes': must be 'at_end', 'at_every_evaluation' or a duration"),
        ({}, r"evaluate\.number: is also the name of a loss"),
    ],
)
def test_what_cannot_be_evaluated_is_named(config, words):
    timeline = Timeline(batch_size=4, examples=16, steps=9)
    splits = ("train", "validation", "test", *(() if config else ("number",)))
    with pytest.raises(ConfigError, match=words):
        evaluations.resolve(
            {split: settings.when(when, f"evaluate.{split}") for split, when in config.items()},
            splits,
            ["number"],
            timeline,
        )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"best__metric": "test/loss/number"},
            r"best\.metric='test/loss/number'.*evaluate\.test='at_every_evaluation'",
        ),
        ({"best__metric": "tset/loss/number"}, r"best\.metric='tset/loss/number'.*extra/loss/number"),
        (
            {"metrics": {"late": {"head": "number", "target": "number", "metrics": ["mae"]}}},
            r"evaluate\.late: is also the name of a loss or of metrics",
        ),
    ],
)
def test_names_of_splits_that_monitors_and_metrics_have(changes, words):
    with pytest.raises(ConfigError, match=words):
        train.train(_config(**changes), None, problems.strategy(1))


def test_without_a_best_checkpoint_that_can_be_read_the_last_variables_are_tested(run, tmp_path):
    path, reports = run
    shutil.copytree(path, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / f"step_{reports[-1].step:08d}")
    assert _run(tmp_path / "run")[-1].step == 9
    log, report = ((tmp_path / "run" / name).read_text() for name in ("log.txt", "report.md"))
    assert "cannot be read (checksums.json is missing); test is evaluated with the last variables" in log
    assert "## Test after 9 steps\n" in report
