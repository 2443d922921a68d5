"""One worker of tests: trains problems one after another, each as `trainer.main` would.

python -m tests.properties.worker DIRECTORY '{"name of the run": {"changes of": "tests.problems"}}'
"""

import json
import os
import signal
import sys

import numpy as np

from trainer import command_line

command_line.import_keras()  # as the trainer does; what else imports Keras imports all of it

import tensorflow as tf  # noqa: E402

from tests import problems  # noqa: E402
from trainer.distributed import cluster, rendezvous, strategy  # noqa: E402
from trainer.distributed.workers import Workers  # noqa: E402
from trainer.output import plots  # noqa: E402
from trainer.run import train  # noqa: E402


def main(directory: str, runs: str) -> None:
    workers = cluster.from_environment(os.environ)
    rendezvous.meet(workers, 120, print)
    together = strategy.build("multi_worker", cluster=workers)
    _talk(Workers(together))
    plots.save_curves = lambda *_: None  # seconds for each run; nobody looks at them
    for name, changes in json.loads(runs).items():
        train.train(problems.config(**changes), os.path.join(directory, name) if workers.rank == 0 else None, together)
    command_line.leave(0)


def _talk(workers: Workers) -> None:
    """Checks that the chief's values arrive bit for bit, and that a signal to one worker is everyone's."""
    values = [
        np.array([-0.0, 0.0, 1e-310, np.inf, -np.inf, np.nan]),
        np.array([-0.0, 1e-45, 3.0], np.float32),
        np.array([-0.0, 6e-8, 3.0], np.float16),
        np.array([2**53 + 1, -1, 0]),
        np.array([True, False]),
    ]
    own = values if workers.is_chief else [np.full_like(value, 1) for value in values]
    for value, got in zip(values, workers.broadcast([tf.constant(value) for value in own]), strict=True):
        assert got.numpy().tobytes() == value.tobytes(), (value, got)
    rows = [np.roll(value, workers.rank) for value in values]  # each worker's are others
    for value, got in zip(values, workers.gather([tf.constant(row) for row in rows]), strict=True):
        expected = np.stack([np.roll(value, rank) for rank in range(workers.count)])
        assert got.numpy().tobytes() == expected.tobytes(), (value, got)
    text = "größer, 更大\n" * 1000
    assert workers.broadcast_text(text if workers.is_chief else "") == text
    last = workers.rank == workers.count - 1
    assert workers.first_text("") == ""
    assert workers.first_text(text if last else "") == text
    assert workers.agreed_signal(signal.SIGUSR1 if last else None) == signal.SIGUSR1
    assert workers.agreed_signal(None) is None


if __name__ == "__main__":
    main(*sys.argv[1:])
