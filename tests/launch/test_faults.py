"""Workers are killed, stopped and asked to stop at random steps; what comes out is what an uninterrupted run gives."""

import random
import signal

import pytest

from tests.launch import soak
from tests.launch.launched import Launched, write_config
from tests.trainer.test_resume import results

STEPS = 400
CHANGES = {
    "dataset__options": {"missing": True},
    "combine__name": "famo",
    "steps": STEPS,
    "report_every": 10,
    "eval_every": 100,
    "checkpoint_every": 20,
    "keep_checkpoints": 3,
    "steps_per_loop": 5,
}
WORKERS = 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory, root):
    """The results of a run that nothing interrupts."""
    directory = tmp_path_factory.mktemp("whole")
    write_config(directory / "config.py", **CHANGES)
    with Launched(root, directory, WORKERS, trainer=("--workdir=run",)) as launched:
        assert launched.wait() == 0, launched.output
        assert not launched.left()
    return results(directory / "run", STEPS)


FAULTS = {
    "the chief is killed": (signal.SIGKILL, [0], "worker 0 was killed by SIGKILL"),
    "another is killed": (signal.SIGKILL, [2], "worker 2 was killed by SIGKILL"),
    "all are killed": (signal.SIGKILL, [0, 1, 2], "was killed by SIGKILL"),
    "one hangs": (signal.SIGSTOP, [1], r"lost worker 1 \(127.0.0.1:\d+\): not answering"),
    "the chief hangs": (signal.SIGSTOP, [0], r"lost worker 0 \(127.0.0.1:\d+\): not answering"),
    "one is asked to stop": (signal.SIGTERM, [2], "stopped by SIGTERM; step [0-9]+ is saved"),
}


@pytest.mark.ci_only
@pytest.mark.parametrize(("number", "ranks", "words"), FAULTS.values(), ids=FAULTS)
def test_the_launcher_restarts_all(tmp_path, root, whole, number, ranks, words):
    write_config(tmp_path / "config.py", **CHANGES)
    step = random.randrange(1, STEPS // 10 - 5) * 10
    launcher = ("--max_restarts=1",)
    with Launched(root, tmp_path, WORKERS, launcher=launcher, trainer=("--workdir=run",)) as launched:
        launched.wait_for(rf"step +{step}/")
        struck = launched.strike(number, ranks)
        after = launched.wait_for(words)
        assert launched.when(words) - struck < 15, launched.output
        launched.wait_for(
            "restart " + ("after a preemption" if number == signal.SIGTERM else "1 of 1"), since=after - 1
        )
        assert launched.wait() == 0, launched.output
        assert not launched.left()
    assert results(tmp_path / "run", STEPS) == whole


def test_without_restarts_the_first_failure_ends_all(tmp_path, root):
    write_config(tmp_path / "config.py", **CHANGES | {"steps": 100_000})
    with Launched(root, tmp_path, 2, trainer=("--workdir=run",)) as launched:
        launched.wait_for("step +20/")
        struck = launched.strike(signal.SIGKILL, [1])
        launched.wait_for(r"error: worker 0: lost worker 1 \(127.0.0.1:\d+\): gone")
        assert launched.wait(limit=30) == 128 + signal.SIGKILL
        assert launched.lines[-1][0] - struck < 15
        assert not launched.left()


@pytest.mark.ci_only
def test_a_worker_that_hangs_in_python(tmp_path, root):
    """Its heart beats on, so that only its lack of progress tells; where it hangs is in its output."""
    write_config(tmp_path / "config.py", **CHANGES | {"losses__number__loss": "tests.launch.hanging:mse"})
    trainer = ("--workdir=run", "--hang_timeout=20")
    with Launched(root, tmp_path, 2, trainer=trainer) as launched:
        assert launched.wait() == 1
        assert not launched.left()
    message = "error: worker {} of 2: no progress for 20 s (steps "
    assert any(message.format(rank) in launched.output for rank in range(2))
    log = (tmp_path / "run" / "log.txt").read_text()
    assert ("hanging.py" in launched.output) or (message.format(0) in log)


@pytest.mark.ci_only
def test_soak(tmp_path, root):
    """A short one; `python -m tests.launch.soak` is the long one."""
    soak.run(tmp_path, root, workers=WORKERS, strikes=3, steps=60, seed=random.randrange(1000))


@pytest.mark.ci_only
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("result['seed'] = rank", "error: configuration: worker 1 is not like worker 0: seed is 0 there and 1 here"),
        (
            "os.environ['EXAMPLES'] = str(60 + rank)",
            "error: dataset: worker 1 is not like worker 0: dataset: the train split is not the same",
        ),
    ],
)
def test_workers_that_differ(tmp_path, root, line, words):
    """Both of them are told, before anything is written."""
    text = f"""
import json, os
import ml_collections
from tests import problems

def get_config():
    rank = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    result = problems.tree(dataset__name="tests.launch.unlike:load")
    {line}
    return ml_collections.ConfigDict(result)
"""
    (tmp_path / "config.py").write_text(text)
    with Launched(root, tmp_path, 2, trainer=("--workdir=run",)) as launched:
        assert launched.wait() == 2, launched.output
        assert words in launched.output
        assert not launched.left()
    assert not (tmp_path / "run").exists()
