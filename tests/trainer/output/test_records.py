"""Runs read from their directories."""

import json

import pytest

from tests import problems
from trainer.common.errors import ConfigError
from trainer.config import loading
from trainer.output import records
from trainer.output.reports import TRAIN, VALIDATION, Report


@pytest.fixture
def run(tmp_path):
    """The directory of a run of two losses that has ended after 8 steps."""
    loading.save(loading.resolve(problems.tree(steps=8, seed=3, combine__name="pcgrad")), tmp_path / "config.json")
    lines = [
        {"step": 4, "split": TRAIN, "loss/a": 1.0, "cosine/a/b": None},
        {"step": 8, "split": TRAIN, "loss/a": 0.5},
        {"step": 8, "split": VALIDATION, "loss/a": 0.75},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"step": 9, "spl')
    (tmp_path / "report.md").write_text("# Validation after 8 steps\n")
    return tmp_path


def test_a_run_is_read(run):
    record = records.read(run)
    assert record.path == run
    assert (record.method, record.seed, record.steps, record.last_step) == ("pcgrad", 3, 8, 8)
    assert record.losses == tuple(problems.tree()["losses"])
    assert record.reports[0] == Report(4, TRAIN, {"loss/a": 1.0, "cosine/a/b": None})
    assert [(each.step, each.split) for each in record.reports] == [(4, TRAIN), (8, TRAIN), (8, VALIDATION)]
    assert record.is_complete


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("report.md", "# Validation after 4 steps\n"),  # it was continued with more steps
        ("report.md", "another file"),
        ("metrics.jsonl", '{"step": 9, "split": "train"}\n'),
    ],
)
def test_a_run_that_has_not_ended_is_not_complete(run, name, text):
    (run / name).write_text(text)
    assert not records.read(run).is_complete
    (run / "report.md").unlink()
    assert not records.read(run).is_complete


def test_a_run_without_reports(run):
    (run / "metrics.jsonl").unlink()
    (run / "report.md").unlink()
    record = records.read(run)
    assert (record.reports, record.last_step, record.is_complete) == ((), 0, False)


def test_a_length_in_epochs_is_not_known(run):
    loading.save(loading.resolve(problems.tree(steps="2 epochs")), run / "config.json")
    assert records.read(run).steps is None
    loading.save(loading.resolve(problems.tree(steps="100 examples", batch_size=8)), run / "config.json")
    assert records.read(run).steps == 13


def test_what_is_no_run_is_refused(run, tmp_path):
    with pytest.raises(ConfigError, match=r"nothing.*holds no run"):
        records.read(tmp_path / "nothing")
    (run / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="holds no readable run"):
        records.read(run)
