"""Damaged and lost files of a run: the same bits, or one line that names the file."""

import os

import pytest

from tests import problems
from tests.properties import built_once, damages, interrupted
from trainer.common.errors import ConfigError
from trainer.config import loading
from trainer.output import checkpoint, workdir
from trainer.run import evaluate


@pytest.fixture
def built_once_for_all():
    """A run that resumes finds the variables as an earlier one left them, not as they were made."""
    with built_once.building_once():
        yield


def test_no_damage_is_silent(tmp_path):
    found = list(damages.strikes(tmp_path, 30 if os.environ.get("CI") == "true" else 12, seed=3))
    assert [(damage, wrong) for damage, _, wrong in found if wrong] == []
    assert {outcome for _, outcome, _ in found} >= {"ended", "ended, named", "refused, named"}


@pytest.mark.usefixtures("built_once_for_all")
def test_lost_reports_decide_nothing(tmp_path):
    """Early stopping and the best checkpoint go by what the run has seen, not by what is left of its reports."""
    watched = {"metric": "loss/label", "mode": "max"}  # the first evaluation is the best one, and the last improvement
    changes = {
        "steps": 20,
        "eval_every": 2,
        "checkpoint_every": 2,
        "keep_checkpoints": 2,
        "best": watched,
        "early_stopping": watched | {"patience": 5},
        **problems.SIMPLE,
    }
    interrupted.train(tmp_path / "run", **changes)
    assert checkpoint.saved_steps(tmp_path / "run" / "checkpoints") == [2, 10, 12]
    expected = interrupted.variables(tmp_path / "run", 12)
    interrupted.forget_after(tmp_path / "run", 10)
    metrics = tmp_path / "run" / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(lines[3:]))
    other = changes | {"best": {"metric": "loss/number"}}
    with pytest.raises(ConfigError, match=r"best='loss/number': cannot change when .* metrics.jsonl are damaged"):
        interrupted.train(tmp_path / "run", **other)
    interrupted.train(tmp_path / "run", **changes)
    assert metrics.read_text() == "".join(lines[3:])
    assert checkpoint.saved_steps(tmp_path / "run" / "checkpoints") == [2, 10, 12]
    assert interrupted.variables(tmp_path / "run", 12) == expected
    with pytest.raises(ConfigError, match="metrics.jsonl are damaged"):  # for good
        interrupted.train(tmp_path / "run", **other)
    assert "reports up to step 10 are not what the run wrote" in (tmp_path / "run" / "log.txt").read_text()


@pytest.mark.usefixtures("built_once_for_all")
def test_files_that_a_run_relies_on(tmp_path):
    """Without them, or with a digit changed in them, a run neither resumes nor is evaluated."""
    interrupted.train(tmp_path / "run", steps=5, **problems.SIMPLE)
    data = tmp_path / "run" / "data.json"
    whole = data.read_text()

    def refused(words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            interrupted.train(tmp_path / "run", **problems.SIMPLE)
        with pytest.raises(ConfigError, match=words):
            _evaluate(tmp_path / "run")

    data.unlink()
    refused(r"run': its data.json is missing; put it back or start a new run")
    data.write_text(whole.replace("memory", "memorx"))
    refused("its data.json does not have the checksum that step_00000005 holds of it")
    data.write_text(whole)
    config = tmp_path / "run" / "config.json"
    for number, changed in (("0.05", "0.06"), ('"report_every": 4', '"report_every": 3')):
        assert number in config.read_text()
        config.write_text(config.read_text().replace(number, changed))
    with pytest.raises(ConfigError, match="its run has another configuration: .* is 0.06 there and 0.05 here"):
        interrupted.train(tmp_path / "run", **problems.SIMPLE)
    with pytest.raises(ConfigError, match="its config.json is not the .* step_00000005 .* 0.05 there and 0.06 here"):
        _evaluate(tmp_path / "run")
    config.write_text(config.read_text().replace("0.06", "0.05"))
    interrupted.train(tmp_path / "run", steps=5, **problems.SIMPLE)


def _evaluate(path):
    run = workdir.open_run(str(path))
    return evaluate.evaluate(loading.load_saved(run.config), run, problems.strategy(1))
