"""A worker, some of whose checks go wrong: python -m tests.trainer.selfcheck.selfcheck_worker value late."""

import functools
import os
import sys
import time

import tensorflow as tf

from trainer import command_line
from trainer.distributed import cluster, strategy
from trainer.selfcheck import running
from trainer.selfcheck.exchange import Exchange
from trainer.selfcheck.outcome import CheckOutcome, Status

_PATIENCE = 4  # seconds, instead of those of the program itself


def main(*ways: str) -> None:
    """Runs a check that passes before and after each that does not, and last one that needs no other worker."""
    here = cluster.from_environment(os.environ)
    workers = strategy.build("multi_worker", cluster=here)

    @tf.function(autograph=False)
    def total() -> tf.Tensor:
        return workers.run(lambda: tf.distribute.get_replica_context().all_reduce("sum", tf.ones([])))

    def together() -> CheckOutcome:
        return CheckOutcome(Status.PASS, f"sum {total().numpy():g}")

    def wrong(way: str) -> CheckOutcome:
        if here.rank == 0:
            return together()
        if way == "late":
            total()
        if way == "hang":
            time.sleep(300)
        if way == "value":
            return CheckOutcome(Status.FAILED, f"not {total().numpy():g}")
        raise ValueError("the reason")

    checks = {"first": together}
    for way in ways:
        checks |= {way: functools.partial(wrong, way), f"after {way}": together}
    checks["last"] = lambda: CheckOutcome(Status.PASS, "alone")
    exchange = Exchange(here.rank, len(here.addresses))
    seconds = 10 if "hang" in ways else 120
    running._PATIENCE = _PATIENCE
    command_line.leave(running.run(checks, exchange, start=time.monotonic(), seconds=seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
