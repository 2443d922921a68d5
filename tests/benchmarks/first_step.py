"""Time between the command and the first step, stage by stage, with the default configuration.

python -m tests.benchmarks.first_step <time.monotonic() when the command was given>

Prints a list of seconds: until the configuration is read; imports; data and model; tracing; the first call.
"""

import itertools
import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from trainer import command_line
from trainer.config import loading  # noqa: E402  (the variable is read by what they may import)


def main(start: float) -> None:
    """Takes the steps of `trainer.main` and `trainer.run.loop` one by one."""
    marks = [start]

    def mark() -> None:
        marks.append(time.monotonic())

    config = loading.load(command_line.DEFAULT_CONFIG)
    mark()
    from tests.benchmarks import ours  # what is measured
    from trainer.distributed import strategy  # noqa: F401  (the trainer imports all of it)
    from trainer.run import experiment

    mark()
    built = experiment.build(config, strategy.build("mirrored"))
    mark()
    run = ours.Run(built, 1)
    run.graph()
    mark()
    run.steps(1)
    mark()
    print(json.dumps([after - before for before, after in itertools.pairwise(marks)]))


if __name__ == "__main__":
    main(float(sys.argv[1]))
