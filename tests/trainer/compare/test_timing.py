"""The timing of a configuration's steps."""

import pytest

from tests import problems
from trainer.common.trust import NOBODY
from trainer.compare import timing
from trainer.run import compile_trial


@pytest.mark.ci_only
@pytest.mark.parametrize("compiled", ["off", "loop", "auto"])
def test_every_way_to_compile_is_timed(compiled, monkeypatch):
    monkeypatch.setattr(compile_trial, "COMPILED", ("off",))  # the only one that `auto` tries here
    monkeypatch.setattr(compile_trial, "_MOST", 3)
    config = problems.config(compile=compiled, steps_per_loop=2)
    found = timing.measure(config, problems.strategy(1), NOBODY, 2)
    assert 0 < found["seconds_per_step"] < 10
    assert found["passes"] == "4 passes"
