"""The runs of a cell in this process, for configurations with objects, which no other process can have."""

import pathlib
import signal
from collections.abc import Callable

import tensorflow as tf
from rich.console import Console

from trainer.common import atomic_files
from trainer.common.errors import StoppedError
from trainer.common.trust import Trust
from trainer.compare import cell_runs
from trainer.compare.children import Launch, Stopping
from trainer.compare.messages import Event, Request
from trainer.distributed import signals


def launcher(strategy: tf.distribute.Strategy, trust: Trust) -> Launch:
    """Returns what does the work of a cell's process in this one.

    Args:
      strategy: where to run.
      trust: whose code may be called where the data name it.
    """

    def launch(
        request: Request, log: pathlib.Path, base: pathlib.Path, stopping: Stopping, take: Callable[[Event], None]
    ) -> int:
        with atomic_files.open_to_append(log) as output, signals.staying(), stopping.raised():
            try:
                cell_runs.work(request, strategy, trust, base, Console(highlight=False, file=output), take)
            except StoppedError as error:
                stopping.note(error.code)
                return error.code
            except KeyboardInterrupt:
                stopping.note(signals.EXIT_CODES[signal.SIGINT])
                return signals.EXIT_CODES[signal.SIGINT]
        return 0

    return launch
