"""Hooks of a caller of `run.train`, which its configuration does not hold."""

import json

import pytest
from rich.console import Console

from tests import problems
from trainer.common.errors import RunError
from trainer.output import checkpoint
from trainer.run import hooks, train


@pytest.mark.ci_only
def test_a_hook_of_the_caller_fails_as_one_of_the_configuration(tmp_path, eagerly):
    def failing(run, step, report):
        raise ValueError(f"no such figure at step {step}")

    config = problems.config(**problems.SIMPLE, steps=3, report_every=3, eval_every=1)
    hook = hooks.Hook(failing, "mine", {})
    with pytest.raises(RunError, match="hook mine raised ValueError: no such figure at step 1"):
        train.train(config, str(tmp_path / "run"), problems.strategy(1), Console(quiet=True), hooks=[hook])
    assert checkpoint.step_of(checkpoint.newest_good(tmp_path / "run" / "checkpoints", print)) == 1
    assert json.loads((tmp_path / "run" / "config.json").read_text())["hooks"] == []
