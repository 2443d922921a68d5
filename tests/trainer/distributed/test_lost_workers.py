"""The line that names a lost worker."""

import socket
import threading

import pytest
import tensorflow as tf

from trainer.distributed import strategy as strategy_lib
from trainer.distributed.workers import Workers


@pytest.mark.parametrize("closes_after", [0.2, None], ids=["being killed", "stopped"])
def test_a_worker_that_still_listens(monkeypatch, closes_after):
    """A killed process closes one socket after another: the others may hear of it while its port still answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        monkeypatch.setattr(strategy_lib, "workers", lambda strategy: (0, ("127.0.0.1:1", address)))
        workers = Workers(tf.distribute.get_strategy())
        if closes_after is not None:
            threading.Timer(closes_after, listening.close).start()
        line = workers.lost(tf.errors.UnavailableError(None, None, "Socket closed"))
    lost = f"worker 1 ({address}): gone" if closes_after else "another worker: not answering (Socket closed)"
    assert line == f"worker 0: lost {lost}; all workers must be started again"
