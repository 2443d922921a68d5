"""A process that trains the runs of one cell: python -m trainer.compare.cell_process.

The first line of its input is a `Request`; when the input ends, whoever started it is gone, and it ends, too. It
answers with a line for each `Event`; what runs print goes to its standard output.
"""

from trainer.common import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # what is imported below takes a while

import contextlib
import os
import signal
import sys
import threading

from trainer import command_line
from trainer.common import streams
from trainer.common.errors import StoppedError
from trainer.compare.messages import Event, Request


def main() -> None:
    """Does what the input asks for; the exit code is 0, or that of the signal that stopped it."""
    line = sys.stdin.buffer.readline()
    if not line:
        return
    request = Request.of_json(line)
    threading.Thread(target=end_with_the_parent, name="parent", daemon=True).start()
    with command_line.quiet():
        command_line.import_keras()
        from trainer.compare import cell_runs  # the thread above must not wait for TensorFlow
    with open(request.events, "w", encoding="utf-8") as file:

        def say(event: Event) -> None:
            print(event.to_json(), file=file, flush=True)

        try:
            cell_runs.serve(request, say)
        except StoppedError as error:
            sys.exit(error.code)


def end_with_the_parent() -> None:
    """Waits until the input ends; then kills this process with those that it has started."""
    with contextlib.suppress(OSError):
        while os.read(0, 2**16):
            pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    with streams.kept():
        main()
