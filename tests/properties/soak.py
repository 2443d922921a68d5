"""Kills runs of ten kinds at random moments, again and again, and compares them with uninterrupted ones, bit for bit.

python -m tests.properties.soak --kills=100
"""

import argparse
import csv
import dataclasses
import os
import pathlib
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines.examples import Examples
from tests import config_files, forked, problems
from tests.properties import interrupted

_INTERVALS = {"steps": 300, "report_every": 20, "eval_every": 50, "checkpoint_every": 11, "keep_checkpoints": 3}
_EARLY = 0.2  # the share of kills while a process starts
TRAINING = " steps on "  # printed when a process is about to take its first step
_ADAM = {"shared_optimizer": {"name": "adam", "learning_rate": 0.01}}
_MISSING = {"dataset__options": {"missing": True}}
_STATISTICS = [{"layer": "Dense", "units": 7}, {"layer": "BatchNormalization"}, {"layer": "Dropout", "rate": 0.3}]
_REGULARIZED = {"layer": "Dense", "units": 7, "kernel_regularizer": {"class_name": "L2", "config": {"l2": 0.01}}}
_FEATURES = {"inputs": 6, "vector": 3}  # name → size
_COLUMNS = {name: {"feature": [f"{name}_{i}" for i in range(size)]} for name, size in _FEATURES.items()}
_RECORDS = {
    "name": "tfrecord",
    "path": ".",
    "splits": {"train": "train.tfrecord", "validation": "validation.tfrecord"},
    "options": {
        "features": {"label": "int64", "number": "float32"}
        | {name: {"dtype": "float32", "shape": [size]} for name, size in _FEATURES.items()}
    },
    "inputs": {"inputs": {"prepare": ["standardise"]}},
    "targets": {"label": {}, "number": {}, "vector": {}},
    "feed": "streaming",
    "window": 16,
}
_TABLE = {
    "name": "csv",
    "path": ".",
    "splits": {"train": "train.csv", "validation": "validation.csv"},
    "inputs": {
        "numbers": _COLUMNS["inputs"] | {"prepare": ["standardise"]},
        "categories": {"feature": ["word", "code"], "prepare": ["categories"]},
    },
    "targets": {"label": {}, "number": {}, "vector": _COLUMNS["vector"]},
}


def _optimizers(*names: str) -> dict[str, Any]:
    """One for each loss."""
    named = zip(problems.LOSSES, names, strict=True)
    return {f"losses__{loss}__optimizer": {"name": name, "learning_rate": 0.01} for loss, name in named}


# Name → number of replicas, and changes of tests.problems.
CONFIGURATIONS: dict[str, tuple[int, dict[str, Any]]] = {
    "smoothed coefficients, an optimizer of another kind for each loss": (
        1,
        {"combine__name": "gradvac", "combine__apply": "per_loss", "combine__smoothing": 0.8}
        | _optimizers("nadam", "adafactor", "lion", "ftrl"),
    ),
    "loss scale, averages, losses in some steps, a weight on a schedule": (
        1,
        {
            "precision": "mixed_float16",
            "reduction": "fused",
            "ema": 0.9,
            "losses__number__every": 3,
            "losses__label__every": 2,
            "losses__label__offset": 1,
            "losses__vector__weight": {"name": "cosine_decay", "initial_learning_rate": 1.0, "decay_steps": 250},
        }
        | _MISSING,
    ),
    "fused, measured now and then": (1, _ADAM | {"reduction": "fused", "probe_every": 7}),
    "coefficients that last, from the features": (
        1,
        _ADAM | {"combine__name": "pcgrad", "combine__update_every": 3, "reduction": "features"},
    ),
    "statistics of two replicas, dropout": (2, {"model__trunk": _STATISTICS}),
    "micro-batches and averages of gradients on two replicas": (
        2,
        {"combine__name": "moco", "micro_batches": 2, "batch_size": 12},
    ),
    "early stopping, the best": (
        1,
        {
            "combine__name": "famo",
            "best": {"metric": "loss/number"},
            "early_stopping": {"metric": "label/accuracy", "patience": 5, "min_delta": 9.0},
            "eval_every": 25,
            "keep_checkpoints": 1,
        },
    ),
    "records that stream, a random method": (1, {"combine__name": "graddrop", "dataset": _RECORDS}),
    "embeddings of categories": (
        1,
        {"combine__name": "pcgrad", "dataset": _TABLE, "model__embedding_units": 3, "clip_norm": 1.0},
    ),
    "learned weights, missing labels, recomputed and regularized layers": (
        1,
        {"combine__name": "famo", "model__recompute": True, "model__trunk": [_REGULARIZED] * 3, "ema": 0.99} | _MISSING,
    ),
}


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds that an uninterrupted run takes until its first step, and from there."""

    starting: float
    training: float


class Soak:
    """Runs of one configuration, in a folder of their own.

    Args:
      folder: an empty one.
      name: of the configuration.
      draw: moments.
    """

    def __init__(self, folder: pathlib.Path, name: str, draw: random.Random):
        replicas, changes = CONFIGURATIONS[name]
        self._folder, self._draw = folder, draw
        self._flags = (f"--virtual_devices={replicas}",) if replicas > 1 else ()
        always = problems.SIMPLE | _INTERVALS | {"precision": "float32", "steps_per_loop": 5}
        tree = problems.tree(**always | changes)
        (folder / "config.py").write_text(config_files.text(tree))
        for split, examples in problems.load().items():
            _write(folder, split, examples)
        self._times = self._whole()

    def strike(self, kills: int) -> tuple[int, list[str]]:
        """Trains as many runs to their ends as it takes to kill so often, at moments spread over one of them.

        Returns:
          How many runs those were, and the names of what any of them has left in another way than the run `whole`.
        """
        struck = runs = 0
        different: set[str] = set()
        whole = interrupted.everything(self._folder / "whole")
        while struck < kills:
            workdir, runs = f"struck_{runs}", runs + 1
            struck += self._train(workdir, at_most=kills - struck, kills=kills)
            found = interrupted.everything(self._folder / workdir)
            different |= {name for name in found.keys() | whole.keys() if found.get(name) != whole.get(name)}
        return runs, sorted(different)

    def _train(self, workdir: str, at_most: int, kills: int) -> int:
        """Trains a run to its end; returns how many of its processes were killed."""
        struck = 0
        while True:
            with self._started(workdir) as program:
                if struck < at_most:
                    self._wait(program, kills)
                    program.kill()
                result = program.wait()
            if result.returncode != -signal.SIGKILL:
                assert result.returncode == 0, result.stderr
                return struck
            struck += 1

    def _wait(self, program: forked.Program, kills: int) -> None:
        if self._draw.random() < _EARLY:
            time.sleep(self._draw.uniform(0, self._times.starting))
        elif program.prints(TRAINING):
            time.sleep(self._draw.uniform(0, 2 * self._times.training / kills))

    def _whole(self) -> Times:
        begin = time.monotonic()
        with self._started("whole") as program:
            assert program.prints(TRAINING), program.wait().stderr
            first = time.monotonic()
            result = program.wait()
        assert result.returncode == 0, result.stderr
        return Times(first - begin, time.monotonic() - first)

    def _started(self, workdir: str) -> Any:
        command = ("trainer.main", "--config=config.py", f"--workdir={workdir}", *self._flags)
        return forked.started(*command, cwd=self._folder)


def _write(folder: pathlib.Path, split: str, examples: Examples) -> None:
    """A split as a TFRecord and as a table, which has two columns of categories besides."""
    values = {"inputs": examples.inputs, **examples.targets}
    rows = [{name: np.ravel(column[row]) for name, column in values.items()} for row in range(len(examples.inputs))]
    with tf.io.TFRecordWriter(str(folder / f"{split}.tfrecord")) as file:
        for row in rows:
            file.write(_example(row))
    with (folder / f"{split}.csv").open("w", newline="") as file:
        columns = [name for size in _COLUMNS.values() for name in size["feature"]]
        writer = csv.writer(file)
        writer.writerow([*columns, "word", "code", "label", "number"])
        for row in rows:
            numbers = [*row["inputs"], *row["vector"]]
            word, code = "abc"[int(numbers[0] > 0) + int(numbers[1] > 0)], int(10 * abs(numbers[2]))
            writer.writerow([*numbers, word, code, *row["label"], *row["number"]])


def _example(row: Mapping[str, np.ndarray]) -> bytes:
    features = {
        name: tf.train.Feature(int64_list=tf.train.Int64List(value=value))
        if value.dtype.kind == "i"
        else tf.train.Feature(float_list=tf.train.FloatList(value=value))
        for name, value in row.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def _shares(kills: int, names: Sequence[str]) -> Iterable[tuple[str, int]]:
    """Each configuration, and the number of times that it is struck."""
    return ((name, kills // len(names) + (number < kills % len(names))) for number, name in enumerate(names))


def _soak(name: str, kills: int, draw: random.Random) -> list[str]:
    """Strikes a configuration; prints a line; returns what differs."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        runs, different = Soak(pathlib.Path(folder), name, draw).strike(kills)
    seconds, result = time.monotonic() - begin, f"DIFFERENT: {', '.join(different)}" if different else "the same bits"
    print(f"{name}: {kills} kills in {runs} runs, {seconds:.0f} s: {result}", flush=True)
    return different


def main() -> None:
    """Prints what differs, one configuration after another; exits with 1 where anything does."""
    parser = argparse.ArgumentParser()  # a test imports this module beside others that define flags
    parser.add_argument("--kills", type=int, default=100, help="how often")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the moments")
    parser.add_argument("--only", action="append", choices=CONFIGURATIONS, help="a configuration; default all of them")
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before the first process: what it says there is no error
    print(f"seed {given.seed}", flush=True)
    draw, begin = random.Random(given.seed), time.monotonic()
    names = given.only or list(CONFIGURATIONS)
    different = [_soak(name, kills, draw) for name, kills in _shares(given.kills, names) if kills]
    print(f"{given.kills} kills in {time.monotonic() - begin:.0f} s, {sum(map(bool, different))} configurations differ")
    sys.exit(any(different))


if __name__ == "__main__":
    main()
