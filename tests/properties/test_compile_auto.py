"""`compile: auto`: a run is that of the way which was found, keeps it, and has nothing else of the trial."""

import contextlib
import io
import shutil
from unittest import mock

import pytest
from rich.console import Console

from tests import problems
from tests.properties import interrupted
from trainer.common.errors import ConfigError
from trainer.config import loading
from trainer.output import history, workdir
from trainer.run import compile_choice, compile_trial, evaluate

# Variables of every kind: moving averages of variables and gradients, statistics, seeds, metrics, those of optimizers.
CHANGES = problems.SIMPLE | {
    "precision": "float32",
    "combine__name": "moco",
    "ema": 0.9,
    "train_metrics": True,
    "shared_optimizer": "adam",
    "model__trunk": [
        {"layer": "Dense", "units": 7},
        {"layer": "BatchNormalization"},
        {"layer": "Dropout", "rate": 0.5},
    ],
}


@contextlib.contextmanager
def finding(way):
    """Trials within this context find this way."""
    with mock.patch.object(compile_choice, "_fastest", return_value=way), mock.patch.object(compile_trial, "_MOST", 5):
        yield


@contextlib.contextmanager
def no_trial():
    """There is none within this context."""
    with mock.patch.object(compile_choice, "Trial", side_effect=AssertionError("a trial")):
        yield


@pytest.fixture(scope="module")
def tried(request, tmp_path_factory):
    """The number of replicas, the way that a trial has found, and the run."""
    replicas, way = request.param
    run = tmp_path_factory.mktemp("tried") / "run"
    with finding(way):
        interrupted.train(run, replicas, compile="auto", **CHANGES)
    return replicas, way, run


@pytest.mark.ci_only
@pytest.mark.parametrize("tried", [(1, "loop"), (2, "off")], indirect=True)
def test_a_run_is_that_of_the_way_that_was_found(tried, tmp_path):
    """To the bit: reports, checkpoints, what TensorBoard shows."""
    replicas, way, run = tried
    interrupted.train(tmp_path / "run", replicas, compile=way, **CHANGES)
    assert interrupted.everything(run) == interrupted.everything(tmp_path / "run")
    assert loading.load_saved(run / "config.json").compile == way


@pytest.mark.ci_only
@pytest.mark.parametrize("tried", [(1, "loop")], indirect=True)
def test_a_run_that_resumes_keeps_its_way(tried, tmp_path):
    """To the bit, without a trial; other devices can evaluate it, but not continue with what they would draw."""
    replicas, way, run = tried
    resumed = tmp_path / "run"
    shutil.copytree(run, resumed)
    interrupted.forget_after(resumed, 5)
    with no_trial():
        interrupted.train(resumed, replicas, compile="auto", **CHANGES)
        assert interrupted.everything(resumed) == interrupted.everything(run)
        assert f"compile: {way}, as before" in (resumed / "log.txt").read_text()
    there, console = workdir.open_run(str(resumed)), Console(file=io.StringIO())
    found = evaluate.evaluate(loading.load_saved(there.config), there, problems.strategy(2), console)
    assert found.values == pytest.approx(list(history.Reports(there.metrics))[-1].values, rel=1e-5)
    words = "^compile='auto': resumes a run of 'loop', which is for one device, and there are 2; .* draws random"
    with pytest.raises(ConfigError, match=words):
        interrupted.train(resumed, 2, compile="auto", **CHANGES)
