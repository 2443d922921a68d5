"""Workers of which one has other code, or comes to have other variables: all end, with the same line.

What is compared and said is shown without processes in tests/trainer/run/test_agreement.py and test_drift.py beside it.
"""

import shutil

import pytest

from tests.launch.launched import Launched, write_config

LOSS = (
    "import keras\n\n\ndef mse(target, prediction):\n    return {}keras.losses.mean_squared_error(target, prediction)\n"
)
UNLIKE = "code: worker 1 is not like worker 0: module"


def _assert_all_end(launched: Launched, code: int, *parts: str) -> None:
    assert launched.wait() == code, launched.output
    errors = [line.partition("error: ")[2] for _, line in launched.lines if "error: " in line]
    assert len(errors) == 2, launched.output
    assert errors[0] == errors[1]
    assert all(part in errors[0] for part in parts), errors
    assert "Traceback" not in launched.output
    assert not launched.left()


@pytest.mark.ci_only
@pytest.mark.parametrize("indirectly", [False, True])
def test_another_loss(tmp_path, root, indirectly):
    """It is noticed before anything is built; or afterwards, where another module imports it."""
    for rank, factor in enumerate(("", "2 * ")):
        (tmp_path / str(rank)).mkdir()
        (tmp_path / str(rank) / "my_losses.py").write_text(LOSS.format(factor))
        (tmp_path / str(rank) / "my_others.py").write_text("from my_losses import mse\n\n__all__ = ['mse']\n")
    write_config(tmp_path / "config.py", losses__number__loss=f"my_{'others' if indirectly else 'losses'}:mse")
    with Launched(root, tmp_path, 2, module="tests.launch.of_rank", trainer=("--workdir=run",)) as launched:
        _assert_all_end(launched, 2, f"{UNLIKE} my_losses ({tmp_path}/1/my_losses.py) is not the same")
    assert not (tmp_path / "run").exists()


@pytest.mark.ci_only
def test_another_trainer(tmp_path, root):
    shutil.copytree(root / "trainer", tmp_path / "1" / "trainer", ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "1" / "trainer" / "step" / "update.py"
    file.write_text(file.read_text() + "# another line\n")
    write_config(tmp_path / "config.py")
    with Launched(root, tmp_path, 2, module="tests.launch.of_rank", trainer=("--workdir=run",)) as launched:
        _assert_all_end(launched, 2, f"{UNLIKE} trainer.step.update ({file}) is not the same")
    assert not (tmp_path / "run").exists()


@pytest.mark.ci_only
def test_drift(tmp_path, root):
    write_config(tmp_path / "config.py", steps=4, checkpoint_every=2, model={"name": "tests.launch.unlike:model"})
    with Launched(root, tmp_path, 2, trainer=("--workdir=run",)) as launched:
        words = "step 2: variable right/bias is not the same on replica 1 (worker 1) as on replica 0"
        _assert_all_end(launched, 1, words, "there is no earlier checkpoint")
    assert not list((tmp_path / "run" / "checkpoints").glob("*"))
