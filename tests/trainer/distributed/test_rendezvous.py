"""Workers that wait for one another, and what they say when one does not come."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from launch import plans
from trainer.common.errors import RunError
from trainer.distributed import rendezvous
from trainer.distributed.cluster import Cluster


def _clusters(count: int) -> list[Cluster]:
    addresses = tuple(f"127.0.0.1:{port}" for port in plans.free_ports(count))
    return [Cluster(addresses, rank, "TF_CONFIG") for rank in range(count)]


def test_all_meet_whenever_they_come():
    """Also where the first ones have stopped listening before the last one looks for them."""
    clusters = _clusters(3)
    met = []

    def worker(cluster: Cluster, late: float) -> None:
        time.sleep(late)
        rendezvous.meet(cluster, 20, met.append)
        # What TensorFlow's server does from here on.
        port = int(cluster.addresses[cluster.rank].rpartition(":")[2])
        with socket.create_server(("127.0.0.1", port)):
            met.append(cluster.rank)
            everyone.wait(20)

    everyone = threading.Event()
    threads = [threading.Thread(target=worker, args=(cluster, 0.7 * cluster.rank)) for cluster in clusters]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while len(met) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    everyone.set()
    for thread in threads:
        thread.join()
    assert sorted(met) == [0, 1, 2]


def test_who_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(rendezvous, "_FIRST_WORD", 0.1)
    first, second, _ = _clusters(3)
    said = []
    port = int(second.addresses[1].rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)), pytest.raises(RunError) as error:
        rendezvous.meet(first, 1, said.append)
    missing = f"worker 2 ({first.addresses[2]})"
    assert str(error.value) == f"worker 0: {missing} not there after 1 s"
    assert said == [f"worker 0 waits for {missing}"]


def test_a_port_that_is_taken():
    (alone,) = _clusters(1)
    port = int(alone.addresses[0].rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)), pytest.raises(RunError) as error:
        rendezvous.meet(alone, 1, print)
    assert str(error.value) == f"worker 0 cannot listen at {alone.addresses[0]}: Address already in use"


@pytest.mark.ci_only
@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGINT, 130)])
def test_a_signal_ends_the_wait(root, tmp_path, number, code, early):
    """Nothing is saved then, which 42 would mean. One that comes while TensorFlow is imported waits until then."""
    cluster, _ = _clusters(2)
    task = {"cluster": {"worker": cluster.addresses}, "task": {"type": "worker", "index": 0}}
    command = [sys.executable, "-m", "trainer.main", "--strategy=multi_worker", f"--workdir={tmp_path / 'run'}"]
    environment = os.environ | {"TF_CONFIG": json.dumps(task)}
    process = subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (early or rendezvous.answering({0: cluster.addresses[0]}, 1)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    if early:
        time.sleep(2)
    process.send_signal(number)
    assert process.wait(timeout=60 if early else 10) == code
    assert "Traceback" not in process.stderr.read()
    assert not (tmp_path / "run").exists()
