"""Workers wait for one another before TensorFlow does, which could neither be asked to stop nor say who is missing.

Each worker listens at its address until it has reached all others; soon afterwards TensorFlow's server listens there.
Needs no TensorFlow.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from trainer.common.errors import RunError
from trainer.distributed.cluster import Cluster

_POLL_SECONDS, _CONNECT_SECONDS, _AT_ONCE = 0.25, 5.0, 64
_FIRST_WORD, _NEXT_WORD = 30.0, 300.0


def meet(cluster: Cluster, limit: float, say: Callable[[str], object]) -> None:
    """Returns once every worker of the cluster was there.

    Args:
      cluster: the workers.
      limit: seconds after which to give up.
      say: gets a line about who is missing, now and then.

    Raises:
      RunError: another process uses this worker's port, or a worker has not come in time.
    """
    missing = {rank: address for rank, address in enumerate(cluster.addresses) if rank != cluster.rank}
    start, word = time.monotonic(), _FIRST_WORD
    with contextlib.closing(_listen(cluster)):
        while missing:
            there = answering(missing, _CONNECT_SECONDS)
            missing = {rank: address for rank, address in missing.items() if rank not in there}
            waited = time.monotonic() - start
            if missing and waited >= min(word, limit):
                who = ", ".join(f"worker {rank} ({address})" for rank, address in missing.items())
                if waited >= limit:
                    raise RunError(f"worker {cluster.rank}: {who} not there after {limit:.0f} s")
                say(f"worker {cluster.rank} waits for {who}")
                word += _NEXT_WORD
            if missing:
                time.sleep(_POLL_SECONDS)


def answering(addresses: Mapping[int, str], seconds: float) -> set[int]:
    """The ranks of those workers at whose `host:port` something listens; asks many at once."""
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        answers = pool.map(lambda address: _answers(address, seconds), addresses.values())
        return {rank for rank, there in zip(addresses, answers, strict=True) if there}


def _answers(address: str, seconds: float) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
    except OSError:
        return False
    return True


def _listen(cluster: Cluster) -> socket.socket:
    port = int(cluster.addresses[cluster.rank].rpartition(":")[2])
    dual = socket.has_dualstack_ipv6()
    # Nothing is ever accepted: that the system answers for it is enough.
    backlog = max(128, len(cluster.addresses))
    try:
        return socket.create_server(
            ("", port), family=socket.AF_INET6 if dual else socket.AF_INET, dualstack_ipv6=dual, backlog=backlog
        )
    except OSError as error:
        where = cluster.addresses[cluster.rank]
        raise RunError(f"worker {cluster.rank} cannot listen at {where}: {os.strerror(error.errno)}") from error
