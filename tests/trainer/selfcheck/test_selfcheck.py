"""The self-check: its parts are exact, it passes where all is well, and it fails where something is not."""

import ipaddress
import socket
import time

import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from trainer.distributed.all_reduce import Reduction
from trainer.selfcheck import collectives, devices, network, running, training
from trainer.selfcheck.collectives import Collective
from trainer.selfcheck.exchange import Exchange
from trainer.selfcheck.outcome import CheckOutcome, Status, merged, of_json

TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:08AE 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1679 1
   1: 00000000:08AF 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1680 1
   2: 0100007F:08B0 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 1681 1
"""
TCP6 = """  sl  local_address                         remote_address                        st tx_queue rx_queue
   0: 00000000000000000000000000000000:08B1 00000000000000000000000000000000:0000 0A 00000000:00000000
   1: 0000000000000000FFFF00000200000A:08B2 00000000000000000000000000000000:0000 0A 00000000:00000000
   2: B80D0120000000000000000001000000:08B3 00000000000000000000000000000000:0000 0A 00000000:00000000
"""
FIB_TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.0.0.0/24 2 0 2
        |-- 10.0.0.0
           /24 link UNICAST
        |-- {address}
           /32 host LOCAL
        |-- 10.0.0.255
           /32 link BROADCAST
  +-- 127.0.0.0/8 2 0 2
     |-- 127.0.0.1
        /32 host LOCAL
Local:
     |-- {address}
        /32 host LOCAL
"""
IF_INET6 = """00000000000000000000000000000001 01 80 10 80       lo
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
fd000000000000000000000000000002 04 40 00 82     eth0
"""


def _addresses(*texts: str) -> list[network.Address]:
    return [ipaddress.ip_address(text) for text in texts]


@pytest.mark.parametrize(
    ("table", "port", "expected"),
    [
        (TCP, 0x08AE, ["127.0.0.1"]),
        (TCP, 0x08AF, ["0.0.0.0"]),
        (TCP, 0x08B0, []),  # a connection
        (TCP6, 0x08B1, ["::"]),
        (TCP6, 0x08B2, ["10.0.0.2"]),
        (TCP6, 0x08B3, ["2001:db8::1"]),
        ("", 0x08B3, []),
    ],
)
def test_listening_sockets(table, port, expected):
    assert network.listening(table, port) == _addresses(*expected)


def test_own_addresses():
    assert network.ipv4_addresses(FIB_TRIE.format(address="10.0.0.2")) == _addresses("10.0.0.2", "127.0.0.1")
    assert network.ipv6_addresses(IF_INET6) == _addresses("::1", "fe80::fc:ff:fe00:1", "fd00::2")


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        (["::"], ["10.0.0.2", "127.0.0.1", "::1", "fd00::2"]),
        (["0.0.0.0"], ["10.0.0.2", "127.0.0.1"]),
        (["127.0.0.1"], ["127.0.0.1"]),
        (["10.0.0.2", "::1"], ["10.0.0.2", "::1"]),
    ],
)
def test_where_a_server_is_reached(bound, expected):
    own = _addresses("127.0.0.1", "10.0.0.2", "::1", "fd00::2")
    assert network.reachable_addresses(_addresses(*bound), own) == _addresses(*expected)


@pytest.mark.parametrize(
    ("port", "address", "status", "words"),
    [
        (0x08B1, "8.8.8.8", Status.WARNING, ["8.8.8.8, which is public", "firewall"]),
        (0x08B1, "10.0.0.2", Status.PASS, ["port 2225 listens on ::", "10.0.0.2", "fd00::2"]),
        (0x08B1, "100.64.0.1", Status.PASS, ["100.64.0.1"]),  # a carrier's own network
        (0x08AE, "8.8.8.8", Status.PASS, ["this machine only"]),
        (0x08B2, "8.8.8.8", Status.PASS, ["10.0.0.2"]),
        (1, "8.8.8.8", Status.SKIPPED, ["port 1"]),
    ],
)
def test_warns_of_public_addresses(tmp_path, port, address, status, words):
    files = {"tcp": TCP, "tcp6": TCP6, "fib_trie": FIB_TRIE.format(address=address), "if_inet6": IF_INET6}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    outcome = network.check(port, tmp_path)
    assert outcome.status is status
    for word in words:
        assert word in outcome.text


def test_a_socket_of_this_process():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        outcome = network.check(port)
    assert outcome.status is Status.PASS
    assert outcome.text.startswith(f"port {port} listens on 127.0.0.1: reachable on this machine only")


PASS, FAILED, WARNING = (CheckOutcome(status, status.value) for status in (Status.PASS, Status.FAILED, Status.WARNING))


@pytest.mark.parametrize(
    ("by_rank", "expected"),
    [
        ({0: FAILED}, FAILED),
        ({0: PASS, 1: PASS}, PASS),
        ({0: PASS, 1: FAILED}, CheckOutcome(Status.FAILED, "worker 1: failed")),
        ({0: FAILED, 1: PASS, 2: FAILED}, CheckOutcome(Status.FAILED, "workers 0, 2: failed")),
        ({0: WARNING, 1: PASS}, CheckOutcome(Status.WARNING, "worker 0: warning")),
        (
            {0: CheckOutcome(Status.PASS, "", same="a"), 1: CheckOutcome(Status.PASS, "", same="b")},
            CheckOutcome(Status.FAILED, "the workers differ; worker 0: a; worker 1: b"),
        ),
    ],
)
def test_what_all_workers_found(by_rank, expected):
    assert merged({rank: of_json(outcome.to_json()) for rank, outcome in by_rank.items()}) == expected


@pytest.mark.parametrize(("replicas", "expected"), [(2, 100.0), (4, 150.0), (8, 175.0)])
def test_bus_bandwidth(replicas, expected):
    assert collectives.bus_bandwidth(200, 2.0, replicas) == expected


def _collective(op: str = "CollectiveReduceV2", hint: str = "nccl") -> Collective:
    return Collective(op, hint, 1, "float32")


@pytest.mark.parametrize(
    ("found", "device_type", "expected"),
    [
        ([_collective()] * 2, "GPU", "NCCL"),
        ([_collective("NcclAllReduce")], "GPU", "NCCL"),
        ([_collective()], "CPU", "ring"),
        ([_collective(hint="auto")], "GPU", "ring"),
        ([_collective(), _collective(hint="ring")], "GPU", None),
        ([], "GPU", "copies to one device"),
    ],
)
def test_implementation(found, device_type, expected):
    assert collectives.implementation(found, device_type) == expected


def test_collectives_of_nested_functions_are_found():
    strategy = problems.strategy(2)

    def on_replica() -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        return context.all_reduce("sum", tf.ones([3])) + context.all_reduce("sum", tf.ones([1], tf.float32))

    inner = tf.function(lambda: strategy.run(on_replica), autograph=False)
    outer = tf.function(lambda: (inner(), strategy.run(on_replica)), autograph=False)
    found = collectives.collectives(outer.get_concrete_function().graph)
    assert sorted(each.size for each in found) == [1] * 4 + [3] * 4
    assert {each.op for each in found} == {"CollectiveReduceV2"}


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_known_update(replicas):
    outcome = collectives.summed_once(problems.strategy(replicas))
    assert outcome.status is Status.PASS, outcome
    assert "1.000000000 times" in outcome.text
    assert ("1 collective of 14 numbers" if replicas == 2 else "no collective") in outcome.text


def _twice(self: Reduction, gradients: object, numbers: object, once=Reduction.sum) -> tuple:
    return once(self, *once(self, gradients, numbers))


def _gradients_twice(self: Reduction, gradients: object, numbers: object, once=Reduction.sum) -> tuple:
    summed, numbers = once(self, gradients, numbers)
    return once(self, summed, ())[0], numbers


def _not_at_all(self: Reduction, gradients: object, numbers: object) -> tuple:
    return gradients, numbers


@pytest.mark.parametrize("broken", [_gradients_twice, _not_at_all])
def test_a_broken_sum_is_found_by_a_known_update(monkeypatch, broken):
    monkeypatch.setattr(Reduction, "sum", broken)
    outcome = collectives.summed_once(problems.strategy(2))
    assert outcome.status is Status.FAILED, outcome
    assert "instead of once" in outcome.text


def test_a_second_sum_that_changes_nothing_is_counted(monkeypatch):
    """Sums and numbers of labels twice: their quotient is right, and half of what is sent is in vain."""
    monkeypatch.setattr(Reduction, "sum", _twice)
    outcome = collectives.summed_once(problems.strategy(2))
    assert outcome.status is Status.FAILED
    assert "2 collectives of 14, 14 numbers in a step, where 1 of 14 numbers would do" in outcome.text


@pytest.mark.ci_only
@pytest.mark.parametrize("broken", [_gradients_twice, _not_at_all])
def test_a_broken_sum_is_not_one_devices_result(monkeypatch, broken):
    monkeypatch.setattr(Reduction, "sum", broken)
    outcome = training.Trainings(problems.strategy(2)).same_as_one_device("float32", "weighted")
    assert outcome.status is Status.FAILED, outcome


def test_one_replica_on_a_cpu_has_nothing_to_compare():
    trainings = training.Trainings(problems.strategy(1))
    assert trainings.same_as_one_device("float64", "weighted").status is Status.SKIPPED
    assert collectives.bandwidth(problems.strategy(1)).status is Status.SKIPPED


def test_differences_are_relative_and_never_hidden_by_nan():
    def result(value: float) -> training.Result:
        return training.Result(np.array([[1.0, np.nan]]), {"kernel": [np.array([2.0, value])]})

    assert training.largest_difference(result(1.0), result(1.5)) == 0.25
    assert training.largest_difference(result(np.nan), result(1.5)) == np.inf
    assert training.largest_difference(result(np.inf), result(1.5)) == np.inf


def test_devices():
    outcome = devices.check(problems.strategy(2))
    assert outcome.status is Status.PASS
    assert outcome.text.startswith("2 replicas on 1 worker; CPU ")
    assert f"TensorFlow {tf.__version__}" in outcome.text


def test_a_check_that_raises_fails_and_the_others_go_on(capsys):
    def raises() -> CheckOutcome:
        raise ValueError("the reason\nand more of it")

    checks = {"broken": raises, "fine": lambda: CheckOutcome(Status.PASS, "as it should be")}
    assert running.run(checks, Exchange(), start=time.monotonic(), seconds=60) == 1
    broken, fine, summary = capsys.readouterr().out.splitlines()
    assert broken.startswith("failed  broken: ValueError: ")
    assert fine == "pass    fine: as it should be"
    assert summary.startswith("1 pass, 1 failed; ")
    assert running.run({"fine": checks["fine"]}, Exchange(), start=time.monotonic(), seconds=60) == 0
