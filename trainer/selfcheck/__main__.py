"""Does the installation work on these devices and workers? python -m trainer.selfcheck --strategy=mirrored."""

from trainer.common import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # what is imported below takes a while

import faulthandler
import functools
import os
import sys
import time
from collections.abc import Sequence

from absl import flags, logging

from trainer import command_line
from trainer.distributed import cluster as cluster_lib
from trainer.distributed import rendezvous
from trainer.selfcheck import checks, running

_STRATEGY, _VIRTUAL_DEVICES, _ALLOW_CPU = command_line.device_flags()
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

_overrides: list[tuple[str, str]] = []


def main(argv: Sequence[str]) -> None:
    """Runs every check; exits 1 where one failed, 2 with one line where flags or environment cannot be used."""
    command_line.refuse_arguments([*argv, *(f"--config.{key}" for key, _ in _overrides)])
    # TensorFlow's own end waits for the other workers.
    with command_line.leaving_at_once(_STRATEGY.value == "multi_worker"), command_line.errors_in_one_line():
        sys.exit(_main())


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Takes in the flags; exits 2 with one line where it cannot, 0 after --help."""
    return command_line.parse(argv, _overrides, description=_HELP, takes_config=False)


def _main() -> int:
    start = time.monotonic()
    cluster = cluster_lib.from_environment(os.environ) if _STRATEGY.value == "multi_worker" else None
    with command_line.quiet():
        command_line.import_keras()
        from trainer.distributed import strategy as strategy_lib
        from trainer.distributed import usable_gpus
        from trainer.selfcheck.exchange import Exchange
    logging.set_verbosity(logging.ERROR)  # what they warn of, the lines say
    usable_gpus.check(_STRATEGY.value, virtual_devices=_VIRTUAL_DEVICES.value, allow_cpu=_ALLOW_CPU.value)
    if cluster is not None:
        rendezvous.meet(cluster, _TIMEOUT.value, functools.partial(print, file=sys.stderr, flush=True))
    # TensorFlow holds Python's lock while it waits for the others: no thread of Python's could end that.
    faulthandler.dump_traceback_later(_TIMEOUT.value, exit=True, file=sys.__stderr__)
    strategy = strategy_lib.build(_STRATEGY.value, _VIRTUAL_DEVICES.value, cluster)
    faulthandler.cancel_dump_traceback_later()
    exchange = Exchange() if cluster is None else Exchange(cluster.rank, len(cluster.addresses))
    return running.run(checks.by_name(strategy, cluster), exchange, start=start, seconds=_TIMEOUT.value)


if __name__ == "__main__":
    command_line.run(main, parse_flags)
