"""Workers that meet in threads of one process, for tests of how they wait for one another."""

import contextlib
import socket
import threading
import time

from launch import plans
from trainer.common.errors import ConfigError, RunError
from trainer.distributed import rendezvous
from trainer.distributed.cluster import Cluster


def clusters(count: int) -> list[Cluster]:
    """The workers of a run on this machine, each as it sees them."""
    addresses = tuple(f"127.0.0.1:{port}" for port in plans.free_ports(count))
    return [Cluster(addresses, rank, "TF_CONFIG") for rank in range(count)]


def port_of(cluster: Cluster) -> int:
    """The port at which this worker is expected."""
    return int(cluster.addresses[cluster.rank].rpartition(":")[2])


class Worker:
    """A worker in a thread that meets the others and then listens at its port, as TensorFlow's server does.

    Attributes:
      said: the lines that it has said.
      end: "met", or the error in one line, once there is one.
    """

    def __init__(self, cluster: Cluster, late: float = 0.0, limit: float = 20.0):
        self.said: list[str] = []
        self.end = ""
        self._cluster, self._late, self._limit = cluster, late, limit
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def wait(self) -> str:
        """Its end, which must come."""
        deadline = time.monotonic() + 20
        while not self.end:
            assert time.monotonic() < deadline, self.said
            time.sleep(0.01)
        return self.end

    def _run(self) -> None:
        time.sleep(self._late)
        try:
            rendezvous.meet(self._cluster, self._limit, self.said.append)
        except (ConfigError, RunError) as error:
            self.end = f"{type(error).__name__}: {error}"
            return
        with Server(port_of(self._cluster)):
            self.end = "met"
            self._over.wait(20)


class Server:
    """Answers everybody with the first bytes of TensorFlow's server, a frame of HTTP/2, and closes."""

    def __init__(self, port: int):
        self._socket = socket.create_server(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                with connection, contextlib.suppress(OSError):
                    connection.sendall(b"\0\0\0\4\0\0\0\0\0")
