"""Workers are killed, stopped and asked to stop at random steps; what comes out is what an uninterrupted run gives."""

import contextlib
import random
import signal
from collections.abc import Iterator

import pytest

from tests.launch import soak
from tests.launch.launched import Launched, train, write_config
from tests.trainer.test_resume import results

pytestmark = pytest.mark.xdist_group("faults")  # they share uninterrupted runs, and each takes all processors
STRETCH, SOAKED = 70, 40  # steps for a fault; steps of a soak
CHANGES = {
    "dataset__options": {"missing": True},
    "combine__name": "famo",
    "report_every": 10,
    "eval_every": 100,
    "checkpoint_every": 20,
    "keep_checkpoints": 3,
    "steps_per_loop": 5,
}
WORKERS = 3
FAULTS = {
    "the chief is killed": (signal.SIGKILL, [0], "worker 0 was killed by SIGKILL"),
    "another is killed": (signal.SIGKILL, [2], "worker 2 was killed by SIGKILL"),
    "all are killed": (signal.SIGKILL, [0, 1, 2], "was killed by SIGKILL"),
    "one hangs": (signal.SIGSTOP, [1], r"lost worker 1 \(127.0.0.1:\d+\): not answering"),
    "the chief hangs": (signal.SIGSTOP, [0], r"lost worker 0 \(127.0.0.1:\d+\): not answering"),
    "one is asked to stop": (signal.SIGTERM, [2], "stopped by SIGTERM; step [0-9]+ is saved"),
}
STEPS = (len(FAULTS) + 1) * STRETCH


@pytest.fixture(scope="module")
def whole(tmp_path_factory, root):
    """The results of runs that nothing interrupts, by their numbers of steps."""
    directory = tmp_path_factory.mktemp("whole")
    changes = {STEPS: CHANGES, SOAKED: soak.CHANGES}
    train(root, directory, WORKERS, {str(steps): changes[steps] | {"steps": steps} for steps in changes})
    return {steps: results(directory / str(steps), steps) for steps in changes}


@contextlib.contextmanager
def _named(fault: str) -> Iterator[None]:
    """Says in a failure which fault it came of."""
    try:
        yield
    except Exception as error:
        error.add_note(f"fault: {fault}")
        raise


@pytest.mark.ci_only
def test_the_launcher_restarts_all(tmp_path, root, whole):
    """One run with every fault, in a random order, each at a random step of a stretch of its own."""
    write_config(tmp_path / "config.py", **CHANGES, steps=STEPS)
    order = random.sample(list(FAULTS), len(FAULTS))
    launcher = (f"--max_restarts={len(FAULTS) - 1}",)
    failures = seen = 0
    with Launched(root, tmp_path, WORKERS, launcher=launcher, trainer=("--workdir=run",)) as launched:
        for stretch, fault in enumerate(order):
            number, ranks, words = FAULTS[fault]
            with _named(f"{fault}, after {', '.join(order[:stretch]) or 'none'}"):
                step = stretch * STRETCH + 10 * random.randrange(1, 5)
                seen = launched.wait_for(rf"step +{step}/", seen)
                struck = launched.strike(number, ranks)
                after = launched.wait_for(words, seen)
                assert launched.when(words, seen) - struck < 15, launched.output
                failures += number != signal.SIGTERM
                reason = "after a preemption" if number == signal.SIGTERM else f"{failures} of {len(FAULTS) - 1}"
                seen = launched.wait_for(f"restart {reason}", after - 1)
        with _named(f"one of {', '.join(order)}"):
            assert launched.wait() == 0, launched.output
            assert not launched.left()
            assert results(tmp_path / "run", STEPS) == whole[STEPS]


def test_without_restarts_the_first_failure_ends_all(tmp_path, root):
    write_config(tmp_path / "config.py", **CHANGES, steps=100_000)
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
    write_config(tmp_path / "config.py", **CHANGES, steps=STEPS, losses__number__loss="tests.launch.hanging:mse")
    trainer = ("--workdir=run", "--hang_timeout=15")
    with Launched(root, tmp_path, 2, trainer=trainer) as launched:
        assert launched.wait() == 1
        assert not launched.left()
    message = "error: worker {} of 2: no progress for 15 s (steps "
    assert any(message.format(rank) in launched.output for rank in range(2))
    log = (tmp_path / "run" / "log.txt").read_text()
    assert ("hanging.py" in launched.output) or (message.format(0) in log)


@pytest.mark.ci_only
def test_soak(tmp_path, root, whole):
    """A short one; `python -m tests.launch.soak` is the long one."""
    soak.run(tmp_path, root, workers=WORKERS, strikes=2, steps=SOAKED, seed=random.randrange(1000))
    assert results(tmp_path / "struck", SOAKED) == whole[SOAKED]


@pytest.mark.ci_only
def test_workers_that_differ(tmp_path, root):
    """Both of them are told, before anything is written; tests/trainer/worker.py has what else may differ."""
    text = """
import json, os
import ml_collections
from tests import problems

def get_config():
    rank = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    os.environ["EXAMPLES"] = str(60 + rank)
    return ml_collections.ConfigDict(problems.tree(dataset__name="tests.launch.unlike:load"))
"""
    (tmp_path / "config.py").write_text(text)
    with Launched(root, tmp_path, 2, trainer=("--workdir=run",)) as launched:
        assert launched.wait() == 2, launched.output
        words = "error: dataset: worker 1 is not like worker 0: dataset: the train split is not the same"
        assert words in launched.output
        assert not launched.left()
    assert not (tmp_path / "run").exists()
