"""Workers that wait for one another, and what they say when one does not come."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

import pytest

from launch import plans
from tests.trainer.distributed.meeting import Worker, clusters, port_of
from trainer.common.errors import RunError
from trainer.distributed import introductions, rendezvous
from trainer.distributed.cluster import Cluster


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Workers ask one another more often than they do elsewhere."""
    monkeypatch.setattr(rendezvous, "_POLL_SECONDS", 0.05)


def test_all_meet_whenever_they_come():
    """Also where the first ones have stopped listening before the last one has heard so from all."""
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(cluster, late))
            for cluster, late in zip(clusters(5), (0, 0.7, 0.3, 0.3, 0), strict=True)
        ]
        assert [worker.wait() for worker in workers] == ["met"] * 5
        assert [worker.said for worker in workers] == [[]] * 5


def test_an_answer_that_a_request_has_overtaken_changes_nothing():
    """A worker that leaves once its request was heard can not be asked again for what it has said there."""
    first, second = clusters(2)
    meeting, other = rendezvous._Meeting(first), rendezvous._Meeting(second)
    early = other.own()
    meeting.learn(1, meeting.own(), early)
    other.learn(0, early, meeting.answer(early, "host"))
    assert meeting.answer(other.own(), "host").recorded
    meeting.learn(1, meeting.own(), early)
    meeting.learn(1, meeting.own(), introductions.NoAnswer.REFUSED)
    assert meeting.to_ask() == []


def test_who_is_missing_is_said(monkeypatch):
    """One that is there, and cannot meet all of them either, is not missing; nor does a silent port count."""
    monkeypatch.setattr(rendezvous, "_FIRST_WORD", 0.9)
    first, second, third = clusters(3)
    missing = f"worker 2 ({first.addresses[2]})"
    with (
        socket.create_server(("127.0.0.1", port_of(third))),
        Worker(first, limit=1.5) as worker,
        Worker(second, limit=2.5),
    ):
        assert worker.wait() == f"RunError: worker 0: {missing} not there after 2 s"
        assert worker.said[-1] == f"worker 0 waits for {missing}"


def test_a_worker_that_is_started_again_meets_those_that_wait(monkeypatch):
    """Its first process was seen, and is gone; the others wait for the second one."""
    first, second, third = clusters(3)
    with Worker(first) as early, Worker(second, limit=1) as gone:
        assert gone.wait().startswith(f"RunError: worker 1: worker 2 ({first.addresses[2]}) not there")
        with Worker(second) as again, Worker(third) as late:
            assert [early.wait(), again.wait(), late.wait()] == ["met"] * 3


def _told(cluster: Cluster, addresses: Sequence[str], rank: int) -> Cluster:
    return dataclasses.replace(cluster, addresses=tuple(addresses), rank=rank)


@pytest.mark.parametrize(
    ("addresses", "rank", "of_second", "of_first"),
    [
        ("{1} {0}", 0, "worker 0 of 2; this is worker 0 of 2", "worker 0 of 2; this is worker 0 of 2"),
        pytest.param(
            *("{0} {1} {2}", 1, "worker 1 of 3; this is worker 0 of 2", "worker 0 of 2; this is worker 1 of 3"),
            marks=pytest.mark.ci_only,
        ),
        (
            "localhost:{port} {1}",
            1,
            "worker 1 of 2 at other addresses than those that worker 0 has; all need the same",
            "worker 0 of 2 at other addresses than those that worker 1 has; all need the same",
        ),
    ],
)
def test_workers_that_were_told_different_things(monkeypatch, addresses, rank, of_second, of_first):
    """Each of them says what differs, also the one that finds it a little later."""
    monkeypatch.setattr(rendezvous, "_STAY_SECONDS", 0.6)
    first, second, spare = clusters(3)
    first = _told(first, first.addresses[:2], 0)
    told = _told(second, addresses.format(*spare.addresses, port=port_of(first)).split(), rank)
    with Worker(first) as one, Worker(told) as other:
        place = f"worker 1 ({first.addresses[1]})"
        assert one.wait() == f"ConfigError: TF_CONFIG: {place} says that it is {of_second}"
        place = f"worker {1 - rank} ({told.addresses[1 - rank]})"
        assert other.wait() == f"ConfigError: TF_CONFIG: {place} says that it is {of_first}"


def test_a_rank_that_is_started_twice_on_a_host_does_not_disturb_the_first():
    first, second = clusters(2)
    where = first.addresses[0]
    with Worker(first) as waiting:
        time.sleep(0.3)
        with Worker(first) as twice:
            assert twice.wait() == (
                f"RunError: worker 0 cannot listen at {where}: Address already in use: worker 0 of 2 waits there; it "
                "may have been started twice"
            )
        with Worker(second) as late:
            assert [waiting.wait(), late.wait()] == ["met", "met"]
            with Worker(first) as twice:
                assert twice.wait().startswith(
                    f"RunError: worker 0 cannot listen at {where}: Address already in use; the port answers, but not "
                    "as a worker that waits: a run trains there already"
                )


def test_a_rank_that_is_started_twice_on_two_hosts_does_not_disturb_the_first(monkeypatch):
    """Its address leads to the first one's host; here, to the first one's port."""
    monkeypatch.setattr(rendezvous, "_ENDING_SECONDS", 0.5)
    first, second = clusters(2)
    (elsewhere,) = plans.free_ports(1)
    listen = rendezvous._listen
    on_the_other_host = lambda cluster, own: listen(_told(cluster, [f"127.0.0.1:{elsewhere}"], 0), own)  # noqa: E731
    with Worker(first) as waiting:
        time.sleep(0.3)
        monkeypatch.setattr(rendezvous, "_listen", on_the_other_host)
        with Worker(first) as twice:
            assert twice.wait() == (
                f"RunError: worker 0: another process answers at its address, {first.addresses[0]}, as worker 0 of 2: "
                "it was started twice, or elsewhere than its address says"
            )
        monkeypatch.setattr(rendezvous, "_listen", listen)
        with Worker(second) as late:
            assert [waiting.wait(), late.wait()] == ["met", "met"]
            monkeypatch.setattr(rendezvous, "_listen", on_the_other_host)
            with Worker(first) as twice:
                end = twice.wait()
    assert any(
        end
        == f"RunError: worker 0: worker {rank} ({address}) answers, but not as a worker that waits: a run trains there "
        "already, or another program, or another version of this one, uses the port"
        for rank, address in enumerate(first.addresses)
    ), end


def test_a_stray_process_is_told_and_ignored(monkeypatch):
    """One that belongs to other workers; those that it has asked say so, once, and wait on."""
    monkeypatch.setattr(rendezvous, "_STAY_SECONDS", 0.3)
    first, second = clusters(2)
    (port,) = plans.free_ports(1)
    stray = Cluster((first.addresses[0], f"127.0.0.1:{port}", "127.0.0.1:1"), 1, "TF_CONFIG")
    with Worker(first) as waiting:
        with Worker(stray) as other:
            assert other.wait() == (
                f"ConfigError: TF_CONFIG: worker 0 ({first.addresses[0]}) says that it is worker 0 of 2; this is "
                "worker 1 of 3"
            )
        with Worker(second) as late:
            assert [waiting.wait(), late.wait()] == ["met", "met"]
    ((line,), _) = waiting.said, late.said
    assert line.endswith(
        "127.0.0.1 looks for it and says that it is worker 1 of 3; this is worker 0 of 2; it is ignored"
    )


def test_stray_connections_keep_nobody_from_meeting():
    """Silent ones, slow ones, garbage, and lines that are nearly right: more than the worker keeps at once."""
    first, second = clusters(2)
    right = introductions.Introduction(1, 2, "0" * 32, "1" * 32).line()
    lines = [
        b"",
        b"{",
        b"\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        bytes(5000),
        b"[" * 1000 + b"\n",
    ]
    lines += [
        right.replace(b'"rank": 1', wrong) for wrong in (b'"rank": 1e999', b'"rank": NaN', b'"rank": true', b'"r": 1')
    ]
    with contextlib.ExitStack() as stack:
        waiting = stack.enter_context(Worker(first))
        time.sleep(0.3)
        for number in range(400):
            stray = stack.enter_context(socket.create_connection(("127.0.0.1", port_of(first)), timeout=5))
            with contextlib.suppress(OSError):  # closed for a newer one already
                stray.sendall(lines[number % len(lines)])
        late = stack.enter_context(Worker(second))
        assert [waiting.wait(), late.wait()] == ["met", "met"]
        assert waiting.said == late.said == []


def test_names_that_cannot_be_looked_up_are_not_there():
    (alone,) = clusters(1)
    for host in ("no-such-host.invalid", "a..b", "a\0b"):
        cluster = Cluster((*alone.addresses, f"{host}:1"), 0, "TF_CONFIG")
        with pytest.raises(RunError, match=rf"worker 1 \({re.escape(host)}:1\) not there after 0 s"):
            rendezvous.meet(cluster, 0.1, print)
        assert rendezvous.answering({1: f"{host}:1"}, 1) == set()


@pytest.mark.ci_only
@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGINT, 130)])
def test_a_signal_ends_the_wait(root, tmp_path, number, code, early):
    """Nothing is saved then, which 42 would mean. One that comes while TensorFlow is imported waits until then."""
    cluster, _ = clusters(2)
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
