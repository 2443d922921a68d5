"""Workers are killed, stopped and asked to stop at random steps; what comes out is what an uninterrupted run gives."""

import random
import signal

import pytest

from launch import plans
from tests import config_files, problems
from tests.launch import soak
from tests.launch.launched import Launched, train, write_config
from tests.launch.soak import Fault
from tests.properties.test_resume import results
from trainer.common.errors import RunError
from trainer.distributed import rendezvous
from trainer.distributed.cluster import Cluster

STEPS = 80
CHANGES = soak.CHANGES | {"steps_per_loop": 5, "report_every": 10, "eval_every": 100, "checkpoint_every": 20}
WORKERS = 3


@pytest.mark.ci_only
def test_the_launcher_restarts_all(tmp_path, root):
    """One run with every fault in a random order; `python -m tests.launch.soak` is a longer one.

    A worker is killed, stopped or asked to stop; each of the first two once as the chief and once as another one.
    """
    train(root, tmp_path, WORKERS, {"whole": soak.CHANGES | {"steps": STEPS}})
    others = range(1, WORKERS)
    faults = [
        Fault(signal.SIGKILL, (0,)),
        Fault(signal.SIGKILL, (random.choice(others),)),
        Fault(signal.SIGKILL, tuple(range(WORKERS))),
        Fault(signal.SIGSTOP, (0,)),
        Fault(signal.SIGSTOP, (random.choice(others),)),
        Fault(signal.SIGTERM, (random.randrange(WORKERS),)),
    ]
    random.shuffle(faults)
    soak.run(tmp_path, root, workers=WORKERS, faults=faults, steps=STEPS, seed=random.randrange(1000))
    assert results(tmp_path / "struck", STEPS) == results(tmp_path / "whole", STEPS), faults


def _start_again(launched: Launched, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last worker of a run that trains is started once more: on its host, and on another one."""
    given = launched.cluster()
    addresses, rank = tuple(given["cluster"]["worker"]), given["task"]["index"]
    again = Cluster(addresses, rank, "TF_CONFIG")
    with pytest.raises(
        RunError, match=f"^worker {rank} cannot listen at {addresses[rank]}: .* a run trains there already"
    ):
        rendezvous.meet(again, 20, print)
    listen, (port,) = rendezvous._listen, plans.free_ports(1)
    elsewhere = Cluster((f"127.0.0.1:{port}",), 0, "TF_CONFIG")
    monkeypatch.setattr(rendezvous, "_listen", lambda cluster, own: listen(elsewhere, own))
    monkeypatch.setattr(rendezvous, "_ENDING_SECONDS", 1.0)
    with pytest.raises(RunError, match=rf"^worker {rank}: worker \d \(.*\) answers, .* a run trains there already"):
        rendezvous.meet(again, 20, print)


def test_without_restarts_the_first_failure_ends_all(tmp_path, root, monkeypatch):
    """Starting a worker a second time is none."""
    write_config(tmp_path / "config.py", **CHANGES, steps=100_000)
    with Launched(root, tmp_path, 2, trainer=("--workdir=run",)) as launched:
        launched.wait_for("step +20/")
        _start_again(launched, monkeypatch)
        launched.wait_for(r"step +\d+/", since=len(launched.lines) + 1)
        struck = launched.strike(signal.SIGKILL, [1])
        launched.wait_for(r"error: worker 0: lost worker 1 \(127.0.0.1:\d+\): gone")
        assert launched.wait(limit=30) == 128 + signal.SIGKILL
        assert launched.lines[-1][0] - struck < 15
        assert not launched.left()


@pytest.mark.ci_only
def test_a_worker_that_hangs_in_python(tmp_path, root):
    """Its heart beats on, so that only its lack of progress tells; where it hangs is in its output."""
    write_config(tmp_path / "config.py", **CHANGES, steps=400, losses__number__loss="tests.launch.hanging:mse")
    trainer = ("--workdir=run", "--hang_timeout=15")
    with Launched(root, tmp_path, 2, trainer=trainer) as launched:
        assert launched.wait() == 1
        assert not launched.left()
    message = "error: worker {} of 2: no progress for 15 s (steps "
    assert any(message.format(rank) in launched.output for rank in range(2))
    log = (tmp_path / "run" / "log.txt").read_text()
    assert ("hanging.py" in launched.output) or (message.format(0) in log)


@pytest.mark.ci_only
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("tree['seed'] = rank", "error: configuration: worker 1 is not like worker 0: seed is 0 there and 1 here"),
        (
            "os.environ['EXAMPLES'] = str(60 + rank)",
            "error: dataset: worker 1 is not like worker 0: dataset: the train split is not the same",
        ),
    ],
)
def test_workers_that_differ(tmp_path, root, line, words):
    """The difference is reported before anything is written."""
    tree = problems.tree(dataset__name="tests.launch.unlike:load")
    rank = 'rank = json.loads(os.environ["TF_CONFIG"])["task"]["index"]'
    (tmp_path / "config.py").write_text(config_files.text(tree, f"{rank}; {line}"))
    with Launched(root, tmp_path, 2, trainer=("--workdir=run",)) as launched:
        assert launched.wait() == 2, launched.output
        assert words in launched.output
        assert not launched.left()
    assert not (tmp_path / "run").exists()
