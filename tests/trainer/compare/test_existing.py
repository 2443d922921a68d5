"""Runs that are there, of whatever origin, as cells."""

import pathlib

import pytest
from rich.console import Console

from tests import problems
from tests.trainer.compare import pretended
from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.compare import comparing, existing, single_task
from trainer.compare.messages import RunRequest
from trainer.config.settings import Config


def _run(path: pathlib.Path, config: Config) -> None:
    pretended.train(RunRequest(config.seed, str(path), schema.as_dict(config)), pathlib.Path(), lambda event: None)


def _cells(base, *given):
    found = existing.collect(given, base, base / "report", "the command")
    return {cell.name: sorted(run.path.name for run in cell.runs.values()) for cell in found.cells}


def test_runs_that_differ_in_their_seed_are_a_cell(tmp_path):
    for seed in (3, 8):
        _run(tmp_path / f"a{seed}", problems.config(seed=seed))
        _run(tmp_path / f"b{seed}", problems.config(seed=seed, combine__name="mgda"))
    _run(tmp_path / "c", problems.config(seed=3, batch_size=8))
    assert _cells(tmp_path, "a3", "a8", "b*") == {"weighted": ["a3", "a8"], "mgda": ["b3", "b8"]}
    assert _cells(tmp_path, "*") == {
        "weighted batch_size=11": ["a3", "a8"],
        "mgda batch_size=11": ["b3", "b8"],
        "weighted batch_size=8": ["c"],
    }


def test_what_changes_no_result_makes_no_cells(tmp_path):
    _run(tmp_path / "a", problems.config(seed=1))
    _run(tmp_path / "b", problems.config(seed=2, report_every=3, steps_per_loop=7, dataset__options={}))
    assert list(_cells(tmp_path, "a", "b")) == ["weighted"]


def test_options_tell_cells_of_their_method_from_one_another(tmp_path):
    for number, c in enumerate((0.2, 0.4)):
        _run(tmp_path / f"a{number}", problems.config(combine__name="cagrad", combine__cagrad__c=c))
    _run(tmp_path / "b", problems.config(combine__name="sum", combine__cagrad__c=0.9))
    assert list(_cells(tmp_path, "*")) == ["cagrad c=0.2", "cagrad c=0.4", "sum"]


def test_a_loss_alone_is_known_as_one(tmp_path):
    _run(tmp_path / "all", problems.config(combine__name="pcgrad"))
    _run(tmp_path / "one", single_task.alone(problems.config(), "number"))
    found = existing.collect(["all", "one"], tmp_path, tmp_path, "")
    assert [(cell.name, cell.single_task) for cell in found.cells] == [
        ("pcgrad", None),
        ("single_task=number", "number"),
    ]


def test_configurations_that_have_little_in_common_are_called_by_a_run(tmp_path):
    _run(tmp_path / "first", problems.config())
    _run(tmp_path / "second", problems.config(batch_size=7, clip_norm=1.0, steps=9, model__embedding_units=3, ema=0.9))
    assert list(_cells(tmp_path, "first", "second")) == [
        f"weighted as {tmp_path / name}" for name in ("first", "second")
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "needs at least one directory"),
        (["nothing"], "holds no run"),
        (["nothing*"], "no directory of a run matches"),
        (["a", "b"], "is the same run as"),
    ],
)
def test_what_cannot_be_compared(tmp_path, given, words):
    for name in ("a", "b"):
        _run(tmp_path / name, problems.config())
    with pytest.raises(ConfigError, match=words):
        existing.collect(given, tmp_path, tmp_path, "")


def test_a_report_of_runs_and_nothing_is_overwritten(tmp_path):
    _run(tmp_path / "a", problems.config(seed=1))
    comparing.report(["a"], "out", "the command", tmp_path, Console(quiet=True))
    assert "the command" in (tmp_path / "out" / "report.md").read_text()
    before = (tmp_path / "a" / "report.md").read_text()
    with pytest.raises(ConfigError, match=r"holds config\.json"):
        comparing.report(["a"], "a", "the command", tmp_path, Console(quiet=True))
    assert (tmp_path / "a" / "report.md").read_text() == before
