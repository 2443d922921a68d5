"""One worker of tests: trains problems one after another, each as `trainer.main` would.

python -m tests.trainer.worker DIRECTORY '{"name of the run": {"changes of": "tests.problems"}}'
"""

import json
import os
import sys

from tests import problems
from trainer import cluster, command_line, loop, strategy


def main(directory: str, runs: str) -> None:
    workers = cluster.from_environment(os.environ)
    together = strategy.build("multi_worker", cluster=workers)
    for name, changes in json.loads(runs).items():
        loop.train(problems.config(**changes), os.path.join(directory, name) if workers.rank == 0 else None, together)
    command_line.leave(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
