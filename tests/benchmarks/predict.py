"""Predictions for a million rows of a table beside Keras' `predict` on prepared arrays: a Markdown table with bounds.

python -m tests.benchmarks.predict --check

A row has twenty numbers and a word; a run with two losses predicts for it. Ours reads the file, prepares, predicts,
undoes the preparation of the target and writes; Keras' takes arrays that are prepared and returns the heads. They take
turns; ratios are those of medians. Building and tracing the model is left out of both.
"""

import functools
import operator
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf
from absl import app

import trainer
from input_pipelines.configuration import TRAIN
from input_pipelines.rows import opening, prepared
from tests.benchmarks import processes, table
from tests.benchmarks.bounds import Bound, Section
from tests.benchmarks.workers import WorkerError
from trainer.common.trust import NOBODY
from trainer.config import loading
from trainer.distributed import strategy
from trainer.output import workdir
from trainer.predict import predicting
from trainer.predict.predicting import Asked
from trainer.run import network as network_lib
from trainer.run import restored

_ROWS, _FEW = 1_000_000, 200_000
_NUMBERS = 20
_BATCH_SIZES = (256, 1024, 4096)
_KINDS = ("parquet", "csv")
_ROUNDS = 3
_PEAK = """
import pathlib, re, sys, trainer
trainer.load_run(sys.argv[1]).predict(data=sys.argv[2], output=sys.argv[3], batch_size=1024)
print(int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 2**10)
"""


def main(argv: Sequence[str]) -> None:
    """Prints the table; progress goes to standard error."""
    del argv
    with tempfile.TemporaryDirectory() as name:
        table.check(table.run(lambda workers: (speed(pathlib.Path(name)), memory(pathlib.Path(name)))))


def speed(folder: pathlib.Path) -> Section:
    """Seconds of Keras' and of ours, with equal batches."""
    bounds = []
    for size in _BATCH_SIZES:
        for kind in _KINDS:
            needs = (f"Keras, {size}", f"{kind}, {size}")
            limit = 1.0 if (kind, size) == ("parquet", 1024) else None

            def ratio(times: Mapping[str, float], needs: Sequence[str] = needs) -> float:
                return times[needs[0]] / times[needs[1]]

            what = f"Keras on prepared arrays / {kind} to {kind}, batches of {size}"
            bounds.append(Bound(f"predict_{kind}_{size}", what, needs, ratio, "≥", limit))

    def measure(keys: Sequence[str]) -> dict[str, float | Exception]:
        _made(folder)
        times: dict[str, list[float]] = {key: [] for key in keys}
        keras = functools.cache(_Keras)
        for turn in range(_ROUNDS + 1):
            for key in keys[:: 1 if turn % 2 == 0 else -1]:
                kind, _, size = key.partition(", ")
                seconds = keras(folder).seconds(int(size)) if kind == "Keras" else _ours(folder, kind, int(size))
                if turn:  # the first one warms up
                    times[key].append(seconds)
        return {key: statistics.median(own) for key, own in times.items()}

    return Section("predict", tuple(bounds), measure, unit="s")


def memory(folder: pathlib.Path) -> Section:
    """The memory that a process has taken at most, for many rows beside few."""
    bounds = []
    for kind in _KINDS:
        needs = (f"{kind}, {_ROWS:,} rows", f"{kind}, {_FEW:,} rows")

        def ratio(peaks: Mapping[str, float], needs: Sequence[str] = needs) -> float:
            return peaks[needs[0]] / peaks[needs[1]]

        what = f"peak of memory, {kind}, {_ROWS:,} rows / {_FEW:,} rows"
        bounds.append(Bound(f"predict_memory_{kind}", what, needs, ratio, "≤", 1.1))

    def measure(keys: Sequence[str]) -> dict[str, float | Exception]:
        _made(folder)
        return {key: _peak(folder, *key.removesuffix(" rows").split(", ")) for key in keys}

    return Section("predict_memory", tuple(bounds), measure, unit="MiB")


def _peak(folder: pathlib.Path, kind: str, rows: str) -> float | Exception:
    data, output = (folder / f"{name}_{rows.replace(',', '')}.{kind}" for name in ("rows", "peak"))
    output.unlink(missing_ok=True)
    command = [sys.executable, "-c", _PEAK, *map(str, (folder / f"run_{kind}", data, output))]
    environment = os.environ | processes.RETURN_MEMORY
    done = subprocess.run(command, cwd=processes.ROOT, env=environment, capture_output=True, text=True, check=False)
    return WorkerError(done.stderr.strip()[-200:]) if done.returncode else float(done.stdout.split()[-1])


def _ours(folder: pathlib.Path, kind: str, size: int) -> float:
    data, network = str(folder / f"rows_{_ROWS}.{kind}"), _network(folder / f"run_{kind}")
    prediction = predicting.start(network, Asked(data=data, batch_size=size), NOBODY)
    spec = network_lib.batch_spec(network.kept.data.splits[TRAIN], size)["inputs"]
    none = tf.nest.map_structure(lambda leaf: np.zeros(leaf.shape, leaf.dtype.as_numpy_dtype), spec)
    prediction.predictor(none, size, 0)  # traces it
    start = time.monotonic()
    predicting.to_file_or_arrays(prediction, folder / f"predictions.{kind}")
    return time.monotonic() - start


class _Keras:
    """Keras' `predict` of the same model on all rows, prepared before."""

    def __init__(self, folder: pathlib.Path):
        network = _network(folder / "run_parquet")
        opened = opening.of_path(network.config.dataset, "dataset", str(folder / f"rows_{_ROWS}.parquet"), network.kept)
        parts = [part.examples["inputs"] for part in prepared.of_rows(opened)]
        self._inputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        self._model = network.model

    def seconds(self, size: int) -> float:
        """The seconds that it takes with batches of this size."""
        start = time.monotonic()
        self._model.predict(self._inputs, batch_size=size, verbose=0)
        return time.monotonic() - start


@functools.cache
def _network(run: pathlib.Path) -> restored.Restored:
    opened = workdir.open_run(str(run))
    return restored.build(loading.load_trusted(opened.config, (), NOBODY), opened, strategy.build("one_device"))


@functools.cache
def _made(folder: pathlib.Path) -> None:
    """Writes tables of every kind, and trains a run on each."""
    for kind in _KINDS:
        for name, rows, seed in (("train", 2000, 0), ("validation", 500, 1), (f"rows_{_FEW}", _FEW, 2)):
            _write(_frame(rows, seed), folder / f"{name}.{kind}")
        _write(_frame(_ROWS, 3).drop(columns=["price", "kind"]), folder / f"rows_{_ROWS}.{kind}")
        trainer.train(_tree(folder, kind), folder / f"run_{kind}", strategy="one_device", progress=False)


def _frame(rows: int, seed: int) -> pd.DataFrame:
    random = np.random.RandomState(seed)
    numbers = random.normal(size=(rows, _NUMBERS)).astype(np.float32)
    frame = pd.DataFrame(numbers, columns=[f"x{index}" for index in range(_NUMBERS)])
    word = random.choice(["Oslo", "Rome", "Bonn", "Bern"], rows)
    price, kind = 100 + 3 * numbers.sum(axis=1), np.where(numbers[:, 0] > 0, "up", "down")
    return frame.assign(word=word, price=price, kind=kind)


def _write(frame: pd.DataFrame, path: pathlib.Path) -> None:
    write = operator.methodcaller("to_parquet" if path.suffix == ".parquet" else "to_csv", path, index=False)
    write(frame)


def _tree(folder: pathlib.Path, kind: str) -> dict[str, Any]:
    layers = [{"layer": "Dense", "units": 64, "activation": "relu"}] * 2
    entropy = {"name": "sparse_categorical_crossentropy", "from_logits": True}
    return {
        "steps": 20,
        "batch_size": 64,
        "dataset": {
            "name": kind,
            "path": str(folder),
            "splits": {split: f"{split}.{kind}" for split in ("train", "validation")},
            "targets": {"price": {"prepare": "standardise"}, "kind": {"prepare": "classes"}},
        },
        "model": {
            "trunk": layers,
            "heads": {head: [{"layer": "Dense", "units": units}] for head, units in (("price", 1), ("kind", 2))},
        },
        "losses": {"price": {"loss": "mse"}, "kind": {"loss": entropy}},
        "optimizer": {"name": "adam", "learning_rate": 0.01},
    }


if __name__ == "__main__":
    app.run(main)
