"""Does the installation work on these devices and workers? python -m trainer.selfcheck --strategy=mirrored."""

import functools
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from absl import app, flags, logging

from trainer import cluster as cluster_lib
from trainer import command_line
from trainer.checks import network
from trainer.checks.outcome import Outcome, Status, merged, of_json
from trainer.errors import ConfigError, RunError, reason_of

if TYPE_CHECKING:
    import tensorflow as tf

    from trainer.checks.workers import Workers
    from trainer.cluster import Cluster

_STRATEGY = flags.DEFINE_enum(
    "strategy",
    "mirrored",
    ("mirrored", "one_device", "multi_worker"),
    "mirrored: all GPUs, else the CPU. one_device: the first. multi_worker: those of several processes.",
)
_VIRTUAL_DEVICES = flags.DEFINE_integer(
    "virtual_devices",
    None,
    "Split this machine's CPU into so many logical devices, to try mirrored without GPUs.",
    lower_bound=1,
)
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
_PATIENCE = 20  # seconds that a worker which has failed waits for the others' outcomes of the same check
_WIDTH = max(map(len, Status))

Check = Callable[[], Outcome]


def main(argv: Sequence[str]) -> None:
    """Runs every check; exits 1 where one failed, 2 with one line where flags or environment cannot be used."""
    command_line.refuse_arguments(argv)
    try:
        sys.exit(_main())
    except ConfigError as error:
        command_line.fail(error, 2)
    except RunError as error:
        command_line.fail(error, 1)
    except KeyboardInterrupt:
        command_line.fail(KeyboardInterrupt("interrupted"), 130)


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Takes in the flags; exits 2 with one line where it cannot, 0 after --help."""
    return command_line.parse(argv, [], description=_HELP, combinations=False)


def _main() -> int:
    start = time.monotonic()
    cluster = cluster_lib.from_environment(os.environ) if _STRATEGY.value == "multi_worker" else None
    if cluster is not None and cluster.rank == 0 and len(cluster.addresses) > 1:
        print(f"waiting for the other workers: {', '.join(cluster.addresses[1:])}", flush=True)
    with command_line.quiet():
        from trainer import strategy as strategy_lib
        from trainer.checks.workers import Workers
    logging.set_verbosity(logging.ERROR)  # what they warn of, the lines say
    workers = Workers() if cluster is None else Workers(cluster.rank, cluster.addresses)
    with _Deadline("meeting the other workers", _TIMEOUT.value):
        strategy = strategy_lib.build(_STRATEGY.value, _VIRTUAL_DEVICES.value, cluster)
    return run(checks(strategy, cluster), workers, start=start, seconds=_TIMEOUT.value)


def checks(strategy: "tf.distribute.Strategy", cluster: "Cluster | None") -> dict[str, Check]:
    """Every check by its name, in order.

    Args:
      strategy: the replicas.
      cluster: the workers, where there are several processes.
    """
    from trainer.checks import collectives, devices, training

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


def run(checks: dict[str, Check], workers: "Workers", *, start: float, seconds: float) -> int:
    """Runs checks in step with the other workers, and prints a line for each on the first of them.

    Args:
      checks: by name.
      workers: who takes part.
      start: when the program began, for the last line.
      seconds: that each check may take.

    Returns:
      The exit code: 1 where a check failed on any worker.
    """
    counts: Counter[Status] = Counter()
    in_step = True
    for index, (name, check) in enumerate(checks.items()):
        if in_step:
            with _Deadline(name, seconds, functools.partial(workers.silent, str(index))):
                outcome, raised = _outcome(check)
                found = workers.exchange(str(index), outcome.to_json(), _PATIENCE if raised else seconds)
            in_step = len(found) == max(1, len(workers.addresses))
            if raised and not in_step and workers.rank:
                print(f"error: {name}: {outcome.text}", file=sys.stderr, flush=True)
            outcome = merged({rank: of_json(text) for rank, text in found.items()})
            if not in_step:
                silent = [rank for rank in workers.others if rank not in found]
                outcome = Outcome(Status.FAILED, f"{outcome.text}; {_number('worker', silent)} did not answer")
        else:
            outcome = Outcome(Status.SKIPPED, "the workers are no longer in step")
        counts[outcome.status] += 1
        if workers.rank == 0:
            print(f"{outcome.status:<{_WIDTH}} {name}: {outcome.text}", flush=True)
    if workers.rank == 0:
        summary = ", ".join(f"{counts[status]} {status}" for status in Status if counts[status])
        print(f"{summary}; {time.monotonic() - start:.0f} s", flush=True)
    code = 1 if counts[Status.FAILED] else 0
    if not in_step:
        _leave(code)  # what others wait for in a collective ends with this process
    workers.part(_PATIENCE)
    return code


def _outcome(check: Check) -> tuple[Outcome, bool]:
    """What a check found; and whether it raised, so that other workers may be elsewhere."""
    try:
        return check(), False
    except Exception as error:
        return Outcome(Status.FAILED, f"{type(error).__name__}: {reason_of(error)}"), True


def _network(cluster: "Cluster | None") -> Outcome:
    if cluster is None:
        return Outcome(Status.SKIPPED, "no server: this is one process")
    return network.check(int(cluster.addresses[cluster.rank].rpartition(":")[2]))


class _Deadline:
    """Ends the process, with a line, where what stands within takes too long: a collective waits for ever."""

    def __init__(self, name: str, seconds: float, silent: Callable[[], list[int]] = list):
        self._name, self._seconds, self._silent = name, seconds, silent
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *exception: object) -> None:
        self._timer.cancel()

    def _expire(self) -> None:
        silent = self._silent()
        behind = f"; {_number('worker', silent)} not through with it" if silent else ""
        print(f"{Status.FAILED} {self._name}: nothing for {self._seconds:g} s{behind}", file=sys.stderr)
        _leave(1)


def _number(what: str, numbers: Sequence[int]) -> str:
    return f"{what}{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
