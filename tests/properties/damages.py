"""Damages a file of an interrupted run and resumes or evaluates the run, again and again: the same bits, or one line.

python -m tests.properties.damages --count=200 --seed=7
"""

import argparse
import collections
import dataclasses
import functools
import io
import pathlib
import random as random_lib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf
from absl import logging
from rich.console import Console

from tests.properties import built_once, interrupted
from tests.trainer.output import test_history
from trainer.common.errors import ConfigError, RunError
from trainer.config import loading
from trainer.config.settings import Config
from trainer.distributed import strategy as strategy_lib
from trainer.output import checkpoint, workdir
from trainer.run import evaluate, train

_LAST, _INTERRUPTED = 12, 9  # early stopping ends the run there; the newest checkpoint that is left
_EVALUATED = 0.2  # share of the damaged runs that are evaluated instead of resumed


def _config(directory: pathlib.Path) -> Config:
    """Two losses on one layer, standardised by what `data.json` keeps; both monitors go by the first evaluation."""
    random = np.random.RandomState(0)
    for split, count in (("train", 24), ("validation", 10)):
        inputs = random.normal(3, 2, [count, 4])
        np.savez(directory / f"{split}.npz", x=inputs, size=inputs.sum(1), kind=np.arange(count) % 3)
    standardised = {"prepare": ["standardise"]}
    watched = {"metric": "loss/kind", "mode": "max"}
    return loading.resolve(
        {
            "precision": "float64",
            "batch_size": 5,
            "steps": 40,
            "report_every": 2,
            "eval_every": 3,
            "checkpoint_every": 3,
            "keep_checkpoints": 2,
            "best": watched,
            "early_stopping": watched | {"patience": 3},
            "dataset": {
                "name": "npz",
                "path": str(directory),
                "splits": {"train": "train.npz", "validation": "validation.npz"},
                "inputs": {"x": standardised},
                "targets": {"kind": {}, "size": standardised},
            },
            "model": {
                "trunk": [{"layer": "Dense", "units": 3, "activation": "tanh"}],
                "heads": {"kind": [{"layer": "Dense", "units": 3}], "size": [{"layer": "Dense", "units": 1}]},
            },
            "losses": {
                "kind": {"loss": {"name": "sparse_categorical_crossentropy", "from_logits": True}},
                "size": {"loss": "mse"},
            },
        }
    )


@functools.cache
def _strategy() -> tf.distribute.Strategy:
    return strategy_lib.build("one_device", None, None)


def _changed_digit(data: bytes, random: random_lib.Random) -> bytes:
    places = [place for place, byte in enumerate(data) if byte in b"0123456789"]
    if not places:
        return data
    place = random.choice(places)
    return data[:place] + random.choice([b"%d" % digit for digit in range(10)]) + data[place + 1 :]


def _changed_byte(data: bytes, random: random_lib.Random) -> bytes:
    place = random.randrange(len(data))
    return data[:place] + bytes([random.randrange(256)]) + data[place + 1 :]


def _changed_bit(data: bytes, random: random_lib.Random) -> bytes:
    place = random.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << random.randrange(8))]) + data[place + 1 :]


def _without_a_line(data: bytes, random: random_lib.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    lines.pop(random.randrange(len(lines)))
    return b"".join(lines)


def _with_lines_swapped(data: bytes, random: random_lib.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    first, second = random.randrange(len(lines)), random.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines)


# What is left of a file; None: nothing.
KINDS: dict[str, Callable[[bytes, random_lib.Random], bytes | None]] = {
    "a bit": _changed_bit,
    "a byte": _changed_byte,
    "a digit": _changed_digit,
    "the end": lambda data, random: data[: random.randrange(len(data))],
    "the start": lambda data, random: data[random.randrange(1, len(data)) :] if len(data) > 1 else b"",
    "gone": lambda data, random: None,
    "empty": lambda data, random: b"",
    "without a line": _without_a_line,
    "two lines swapped": _with_lines_swapped,
    "more": lambda data, random: data + random.randbytes(random.randrange(1, 200)),
    "a line more": lambda data, random: data + data.splitlines(keepends=True)[-1],
    "null": lambda data, random: b"null\n",
    "nested": lambda data, random: b'{"step": {"loss": [[1, null], {}]}, "losses": [{"size": {}}]}\n',
}


@dataclasses.dataclass(frozen=True)
class Run:
    """An interrupted run, and what it comes to where nothing is damaged.

    Attributes:
      path: of the run.
      config: its configuration.
      results: reports and variables at its end.
      events: at its end.
      checkpoints: the steps that are saved at its end.
      evaluations: step → the values of the validation report.
    """

    path: pathlib.Path
    config: Config
    results: dict[str, bytes | str]
    events: list[Any]
    checkpoints: list[int]
    evaluations: dict[int, dict[str, float | None]]

    @property
    def files(self) -> list[str]:
        """The names of its files, below its folder."""
        return sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file())


def interrupted_run(directory: pathlib.Path) -> Run:
    """Trains a run to its end and leaves it as a kill would that came before the last checkpoint."""
    config, path = _config(directory), directory / "run"
    reports = list(train.train(config, str(path), _strategy(), Console(file=io.StringIO())))
    run = Run(
        path,
        config,
        interrupted.results(path, _LAST),
        sorted(test_history.events(path)),
        checkpoint.saved_steps(path / "checkpoints"),
        {report.step: dict(report.values) for report in reports if report.split == "validation"},
    )
    interrupted.forget_after(path, _INTERRUPTED)
    return run


def strike(run: Run, path: pathlib.Path, random: random_lib.Random) -> tuple[str, str, str | None]:
    """Copies the run, makes one damage to one of its files, and resumes or evaluates it.

    Returns:
      The damage in words, what came of it, and what was wrong with that; None where nothing was. Two things are right:
      the same variables, reports and events, and nothing need be said of files that no run reads (`log.txt`,
      `report.md`, `lock`, and event files, whose own contents are not compared then); or a line that names the file,
      and the same variables where the run resumed.
    """
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(run.path, path)
    while True:
        name, kind = random.choice(run.files), random.choice(list(KINDS))
        whole = (run.path / name).read_bytes()
        data = KINDS[kind](whole, random)
        if data != whole:
            break
    (path / name).unlink()
    if data is not None:
        (path / name).write_bytes(data)
    acts = _evaluated if random.random() < _EVALUATED else _resumed
    said = io.StringIO()
    try:
        with mock.patch.object(logging, "warning", lambda words, *values: said.write(f"warning: {words % values}\n")):
            differs = acts(run, path, said, name)
        outcome = "ended"
    except (ConfigError, RunError) as error:
        said.write(f"error: {error}")
        differs, outcome = [], "refused"
    except Exception as error:  # a traceback for the user
        said.write(repr(error))
        differs, outcome = ["traceback"], "failed"
    lines = [line for line in said.getvalue().splitlines() if line.startswith(("warning: ", "error: "))]
    lines = [line for line in lines if any(word in line for word in _words(name))]
    wrong = None
    if outcome == "failed" or "variables" in differs or ((differs or outcome == "refused") and not lines):
        wrong = f"differs: {', '.join(differs) or 'nothing'}; said: {said.getvalue()[-600:]}"
    named = f"{outcome}, named" if lines else outcome
    return f"{name}: {kind}, {acts.__name__[1:]}", named, wrong


def _words(name: str) -> tuple[str, ...]:
    """The words of which a line has one that names the file."""
    parts = pathlib.PurePath(name).parts
    if parts[0] == "checkpoints":
        return (f"{parts[1]} is damaged",)
    if name == "config.json":
        return (name, "another configuration", "holds a run of format")
    return (name,)


def _resumed(run: Run, path: pathlib.Path, said: io.StringIO, name: str) -> list[str]:
    """Resumes the run, of which this file is damaged; returns the names of what differs at its end."""
    train.train(run.config, str(path), _strategy(), Console(file=said, width=1000))
    found = interrupted.results(path, _LAST)
    parts = {
        "reports": found["reports"] == run.results["reports"],
        "variables": found | {"reports": ""} == run.results | {"reports": ""},
        "events": name.startswith("tensorboard/") or sorted(test_history.events(path)) == run.events,
        "checkpoints": checkpoint.saved_steps(path / "checkpoints") == run.checkpoints,
    }
    return [name for name, same in parts.items() if not same]


def _evaluated(run: Run, path: pathlib.Path, said: io.StringIO, name: str) -> list[str]:
    """Evaluates the run; returns the names of what differs."""
    del name
    held = workdir.open_run(str(path))
    report = evaluate.evaluate(loading.load_saved(held.config), held, _strategy(), Console(file=said))
    return [] if report.values == run.evaluations[report.step] else ["values"]


def strikes(directory: pathlib.Path, count: int, seed: int) -> Iterator[tuple[str, str, str | None]]:
    """`count` damages of one run, each as `strike` returns it."""
    with built_once.building_once():
        run, random = interrupted_run(directory), random_lib.Random(seed)
        for _ in range(count):
            yield strike(run, directory / "damaged", random)


def main() -> None:
    parser = argparse.ArgumentParser()  # a test imports this module beside others that define flags
    parser.add_argument("--count", type=int, default=200, help="how many damages")
    parser.add_argument("--seed", type=int, default=random_lib.randrange(10**6), help="of the damages")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    outcomes, silent = collections.Counter(), 0
    with tempfile.TemporaryDirectory() as directory:
        for damage, outcome, wrong in strikes(pathlib.Path(directory), given.count, given.seed):
            outcomes[outcome] += 1
            silent += wrong is not None
            print(f"{damage}: {outcome}" + (f"\n  WRONG {wrong}" if wrong else ""), flush=True)
    print(f"{given.count} damages: {dict(outcomes)}, {silent} wrong")
    sys.exit(bool(silent))


if __name__ == "__main__":
    main()
