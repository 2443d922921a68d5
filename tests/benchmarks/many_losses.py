"""Whole processes of three steps with many losses, in the trainer and in Keras, and the lines of the table on them.

python -m tests.benchmarks.many_losses trainer 40
python -m tests.benchmarks.many_losses keras 40
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from tests.benchmarks import problems
from tests.benchmarks.bounds import Bound, Section
from tests.benchmarks.processes import ROOT
from tests.benchmarks.timing import ratio
from tests.benchmarks.workers import WorkerError

LOSSES = (40, 100)
_STEPS = 3
_ROUNDS = 2  # a process takes up to half a minute


def many_losses() -> Section:
    """Seconds of both, in turn, by K."""

    def numbers(keys: Sequence[str]) -> dict[str, float | Exception]:
        times: dict[str, list[float]] = {key: [] for key in keys}
        failures: dict[str, Exception] = {}
        for _ in range(_ROUNDS):
            for key in (key for key in keys if key not in failures):
                who, _, count = key.partition(", K = ")
                try:
                    times[key].append(_seconds(who, int(count)))
                except WorkerError as error:
                    failures[key] = error
        return {key: failures.get(key) or statistics.median(times[key]) for key in keys}

    bounds = (
        Bound(
            f"losses_{count}",
            f"{_STEPS} steps, whole process / Keras `compile` and `fit`, K = {count}",
            (f"trainer, K = {count}", f"keras, K = {count}"),
            ratio(f"trainer, K = {count}", f"keras, K = {count}"),
            "≤",
            1.2,
        )
        for count in LOSSES
    )
    return Section("many_losses", tuple(bounds), numbers, unit="s")


def _seconds(who: str, count: int) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.many_losses", who, str(count)]
    start = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WorkerError(f"{' '.join(command)} ended with code {done.returncode}")
    return time.monotonic() - start


def train(count: int, folder: str) -> None:
    """Trains three steps as a user does: reports, an evaluation, a checkpoint and the run's page included."""
    import trainer  # what is measured
    from tests.benchmarks import ours

    changes = {"steps": _STEPS, "reduction": "auto", "combine": {"name": "sum"}}
    trainer.train(ours.configuration(problems.small(count), **changes), os.path.join(folder, "run"), progress=False)


def fit(count: int) -> None:
    """Fits three steps with Keras and validates on one batch, as the trainer's run does."""
    import keras  # what is measured

    from tests.benchmarks import keras_fit

    problem = problems.small(count)
    model = keras_fit.model(problem)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    losses = {problem.names[0]: cross_entropy} | dict.fromkeys(problem.names[1:], "mse")
    model.compile(keras.optimizers.Adam(1e-3), loss=losses)
    inputs, targets, _ = problem.arrays(_STEPS * problem.batch_size)
    held_out = problem.arrays(problem.batch_size)[:2]
    model.fit(inputs, targets, batch_size=problem.batch_size, validation_data=held_out, verbose=0)


if __name__ == "__main__":
    if sys.argv[1] == "keras":
        fit(int(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as directory:
            train(int(sys.argv[2]), directory)
