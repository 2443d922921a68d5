"""Does the installation work on these devices and workers? python -m trainer.selfcheck --strategy=mirrored."""

import faulthandler
import functools
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from absl import app, flags, logging

from trainer import command_line
from trainer.common.errors import reason_of
from trainer.distributed import cluster as cluster_lib
from trainer.distributed import rendezvous
from trainer.selfcheck import network
from trainer.selfcheck.outcome import Outcome, Status, merged, of_json

if TYPE_CHECKING:
    import tensorflow as tf

    from trainer.distributed.cluster import Cluster
    from trainer.selfcheck.exchange import Exchange

_STRATEGY, _VIRTUAL_DEVICES = command_line.device_flags()
_TIMEOUT = flags.DEFINE_integer(
    "timeout",
    300,
    "Seconds that a check, or the meeting of the workers, may take before all is given up.",
    lower_bound=1,
)

_HELP = """Checks devices, replicas, collectives and workers; exits 1 where something failed.

  python -m trainer.selfcheck
  python -m trainer.selfcheck --virtual_devices=2

With --strategy=multi_worker every worker runs it, and the first one prints what all of them found.

Flags:
"""
_PATIENCE = 15  # seconds that workers wait for each other once one of them has failed
_OUT_OF_STEP = "the workers are no longer in step"
_WIDTH = max(map(len, Status))

Check = Callable[[], Outcome]

_overrides: list[tuple[str, str]] = []


def main(argv: Sequence[str]) -> None:
    """Runs every check; exits 1 where one failed, 2 with one line where flags or environment cannot be used."""
    command_line.refuse_arguments([*argv, *(f"--config.{key}" for key, _ in _overrides)])
    # TensorFlow's own end waits for the other workers.
    with command_line.leaving_at_once(_STRATEGY.value == "multi_worker"), command_line.errors_in_one_line():
        sys.exit(_main())


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Takes in the flags; exits 2 with one line where it cannot, 0 after --help."""
    return command_line.parse(argv, _overrides, description=_HELP, combinations=False)


def _main() -> int:
    start = time.monotonic()
    cluster = cluster_lib.from_environment(os.environ) if _STRATEGY.value == "multi_worker" else None
    with command_line.quiet():
        from trainer.distributed import strategy as strategy_lib
        from trainer.selfcheck.exchange import Exchange
    logging.set_verbosity(logging.ERROR)  # what they warn of, the lines say
    if cluster is not None:
        rendezvous.meet(cluster, _TIMEOUT.value, functools.partial(print, file=sys.stderr, flush=True))
    # TensorFlow holds Python's lock while it waits for the others: no thread of Python's could end that.
    faulthandler.dump_traceback_later(_TIMEOUT.value, exit=True, file=sys.__stderr__)
    strategy = strategy_lib.build(_STRATEGY.value, _VIRTUAL_DEVICES.value, cluster)
    faulthandler.cancel_dump_traceback_later()
    exchange = Exchange() if cluster is None else Exchange(cluster.rank, len(cluster.addresses))
    return run(checks(strategy, cluster), exchange, start=start, seconds=_TIMEOUT.value)


def checks(strategy: "tf.distribute.Strategy", cluster: "Cluster | None") -> dict[str, Check]:
    """Every check by its name, in order.

    Args:
      strategy: the replicas.
      cluster: the workers, where there are several processes.
    """
    from trainer.selfcheck import collectives, devices, training  # --help must not wait for TensorFlow

    trainings = training.Trainings(strategy)
    same = {
        f"one device's result, {precision}, {method}": functools.partial(
            trainings.same_as_one_device, precision, method
        )
        for precision, method in (
            ("float64", "weighted"),
            ("float64", "pcgrad"),
            ("float64", "independent"),
            ("float32", "pcgrad"),
        )
    }
    return {
        "devices": functools.partial(devices.check, strategy),
        "gradients are summed once": functools.partial(collectives.summed_once, strategy),
        **same,
        "the same bits again": trainings.same_bits_again,
        "all-reduce": functools.partial(collectives.bandwidth, strategy),
        "mixed_bfloat16": functools.partial(trainings.falls, "mixed_bfloat16"),
        "mixed_float16": functools.partial(trainings.falls, "mixed_float16"),
        "XLA": functools.partial(trainings.falls, "float32", jit_compile=True),
        "network": functools.partial(_network, cluster),
    }


def run(checks: dict[str, Check], exchange: "Exchange", *, start: float, seconds: float) -> int:
    """Runs checks in step with the other workers, and prints a line for each on the first of them.

    A check that raises on one worker only leaves the others waiting in a collective: what is left is skipped then.

    Args:
      checks: by name.
      exchange: between the workers.
      start: when the program began, for the last line.
      seconds: that each check may take.

    Returns:
      The exit code: 1 where a check failed on any worker.
    """
    counts: Counter[Status] = Counter()
    in_step = True
    for index, (name, check) in enumerate(checks.items()):
        if in_step:
            outcome, in_step = _in_step(name, check, f"check{index}", exchange, seconds)
        else:
            outcome = Outcome(Status.SKIPPED, _OUT_OF_STEP)
        counts[outcome.status] += 1
        if exchange.rank == 0:
            print(_line(outcome.status, name, outcome.text), flush=True)
    if exchange.rank == 0:
        summary = ", ".join(f"{counts[status]} {status}" for status in Status if counts[status])
        print(f"{summary}; {time.monotonic() - start:.0f} s", flush=True)
    code = 1 if counts[Status.FAILED] else 0
    if in_step:
        exchange.part(_PATIENCE)
    return code


def _in_step(name: str, check: Check, key: str, exchange: "Exchange", seconds: float) -> tuple[Outcome, bool]:
    """What all workers found; and whether all of them are through with the check."""
    with _Watch(name, seconds, exchange, key):
        try:
            own, patience = check(), seconds
        except Exception as error:
            own, patience = Outcome(Status.FAILED, f"{type(error).__name__}: {reason_of(error)}"), _PATIENCE
            exchange.alarm(key, own.text)
            if exchange.rank:
                print(f"error: {name}: {own.text}", file=sys.stderr, flush=True)
        found = exchange.swap(key, own.to_json(), patience)
    outcome = merged({rank: of_json(text) for rank, text in found.items()})
    if silent := [rank for rank in exchange.others if rank not in found]:
        outcome = Outcome(Status.FAILED, f"{outcome.text}; {_workers(silent)} did not answer")
    return outcome, not silent


def _network(cluster: "Cluster | None") -> Outcome:
    if cluster is None:
        return Outcome(Status.SKIPPED, "no server: this is one process")
    return network.check(int(cluster.addresses[cluster.rank].rpartition(":")[2]))


class _Watch:
    """Ends the process, with a line, where what stands within hangs: a collective waits for others for ever."""

    def __init__(self, name: str, seconds: float, exchange: "Exchange", key: str):
        self._name, self._seconds, self._exchange, self._key = name, seconds, exchange, key
        self._ended = threading.Event()

    def __enter__(self) -> None:
        threading.Thread(target=self._watch, daemon=True).start()

    def __exit__(self, *exception: object) -> None:
        self._ended.set()

    def _watch(self) -> None:
        exchange, end = self._exchange, time.monotonic() + self._seconds
        alarm = None
        while not self._ended.is_set() and time.monotonic() < end:
            if alarm:
                self._ended.wait(1)
            elif alarm := exchange.alarmed(self._key, 1):
                # This worker may still come through, or be the one that has failed and waits for the others' outcomes.
                end = min(end, time.monotonic() + _PATIENCE + 5)
        if self._ended.is_set():
            return
        silent = exchange.silent(self._key)
        behind = f"; {_workers(silent)} not through with it" if silent else ""
        text = alarm or f"nothing for {self._seconds:g} s{behind}"
        stream = sys.stderr if exchange.rank else sys.stdout
        print(_line(Status.FAILED, self._name, text), file=stream)
        print(_line(Status.SKIPPED, "what is left", _OUT_OF_STEP), file=stream)
        command_line.leave(1)


def _line(status: Status, name: str, text: str) -> str:
    return f"{status:<{_WIDTH}} {name}: {text}"


def _workers(ranks: Sequence[int]) -> str:
    return f"worker{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
