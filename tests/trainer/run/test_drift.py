"""Replicas that drift apart end a run before its next save."""

import io

import keras
import pytest
from rich.console import Console

from tests import problems
from trainer.common.errors import RunError
from trainer.run import failures, train


def test_drift_ends_the_run(tmp_path, monkeypatch):
    """Everything that a run may keep is compared, and what each replica keeps for itself is no drift."""
    saved = []
    refuse = failures.refuse_non_finite_variables

    def change_replica_1(step: int, variables: dict[str, keras.Variable]) -> None:
        """Follows the comparison of a save: what it changes is found by the next one."""
        refuse(step, variables)
        saved.append(step)
        if step == 4:
            component = variables["trunk_0_dense/kernel"].value.values[1]
            component.assign(component + 1e-12)

    monkeypatch.setattr(failures, "refuse_non_finite_variables", change_replica_1)
    trunk = [
        {"layer": "Dense", "units": 7},
        {"layer": "BatchNormalization", "synchronized": False},
        {"layer": "Dropout", "rate": 0.5},
    ]
    changes = problems.SIMPLE | {"model__trunk": trunk, "combine__name": "moco", "ema": 0.5, "batch_size": 12}
    config = problems.config(**changes, steps=8, checkpoint_every=2, eval_every=8)
    run = tmp_path / "run"
    with pytest.raises(RunError) as error:
        train.train(config, str(run), problems.strategy(2), Console(file=io.StringIO()))
    line = "step 6: variable trunk_0_dense/kernel is not the same on replica 1 as on replica 0 (and 1 more); replicas"
    assert str(error.value).startswith(line)  # the other one is its moving average
    assert str(error.value).endswith("this step was not saved, the last checkpoint is of step 4")
    assert saved == [2, 4]
    assert sorted(path.name for path in (run / "checkpoints").iterdir())[-1] == "step_00000004"
