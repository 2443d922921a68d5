"""From which starts the toy problem (`configs/toy_problem.py`) reaches its Pareto set, by combination.

python -m tests.benchmarks.toy_problem
python -m tests.benchmarks.toy_problem --steps=100000 --combine=sum,mgda,famo --write --picture=.github/toy_problem.png

The first command takes a minute; 100,000 steps take about half a minute per start. `--write` puts final points into
`toy_problem.json` and, of 100,000 steps, paths into `toy_problem_paths.json`; a test compares a short run with the
former, and the picture shows the latter.
"""

import functools
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import app, flags

from configs import toy_problem
from configs.toy_problem import STARTS
from tests.benchmarks import toy_problem_plot
from trainer import configuration, experiment
from trainer import strategy as strategy_lib
from trainer.combine import registry

SHORT, FULL = 2_000, 100_000
# The losses are negative where it matters, and there are two.
LEFT_OUT = {
    "log_sum": "takes logarithms of the losses",
    "geometric": "takes logarithms of the losses",
    "smooth_tchebycheff": "takes logarithms of the losses",
    "db_mtl": "takes logarithms of the losses",
    "trimmed_mean": "needs three losses",
}
METHODS = tuple(name for name in registry.METHODS if name not in LEFT_OUT)
RESULTS = pathlib.Path(__file__).with_suffix(".json")
PATHS = RESULTS.with_name("toy_problem_paths.json")

_NEAR = 0.1
_POINTS = 400  # of a path
_APART = 0.05  # points of a path that are committed

_STEPS = flags.DEFINE_integer("steps", SHORT, "Steps from each start.", lower_bound=1)
_COMBINE = flags.DEFINE_list("combine", None, "Combinations to run; default all that can combine these two losses.")
_WRITE = flags.DEFINE_bool("write", False, "Put the results into the committed ones.")
_PICTURE = flags.DEFINE_string("picture", None, "Draw the committed paths of 100,000 steps into this file.")
_DRAWN = flags.DEFINE_list("drawn", None, "Combinations in the picture; default all whose paths are committed.")


class Run:
    """The configuration with one combination, built once, to be trained from any start."""

    def __init__(self, combine: str, strategy: tf.distribute.Strategy):
        overrides = []
        if registry.METHODS[combine].looks_at is registry.LooksAt.CROSS_GRAMIAN:
            overrides.append(("batch_size", "2"))  # equal examples: both halves have the same gradients
        config = configuration.load(toy_problem.__file__, overrides, combine)
        built = experiment.build(config, strategy)
        self._step, self._batches = built.step, built.batches
        self._loop = built.step.build()
        (self._x,) = built.model.trainable_variables
        variables = [*built.model.variables, *(v for update in built.step.updates for v in update.optimizer.variables)]
        if built.step.moving_rows is not None:
            variables += built.step.moving_rows.by_name.values()
        self._initial = [(variable, variable.numpy()) for variable in variables]

    def path(self, start: Sequence[float], steps: int, points: int = 1) -> np.ndarray:
        """(1 + points, 2): where x is at the start and after every `steps` / `points` steps."""
        for variable, value in self._initial:
            variable.assign(value)
        self._x.assign(start)
        iterator, state, found = iter(self._batches(0)), self._step.initial_state(), [self._x.numpy()]
        ends = [steps * (index + 1) // points for index in range(points)]
        for first, last in zip([0, *ends], ends, strict=False):
            numbers = (tf.constant(value, tf.int64) for value in (first, last - first))
            totals = self._step.initial_totals()
            state, totals = self._loop(iterator, *numbers, tf.constant(False), state, totals)
            if int(totals.failed_step) >= 0:
                raise FloatingPointError(f"step {int(totals.failed_step)}: losses {totals.failed_losses.numpy()}")
            found.append(self._x.numpy())
        return np.array(found)


@functools.cache
def pareto_set() -> np.ndarray:
    """(points, 2) of the Pareto set, from the second loss's minimum to the first's.

    There λ grad L1 + (1 - λ) grad L2 = 0 for a λ from 0 to 1: x1 = 7 (2 λ - 1), and x2 has to make the product of
    t = tanh(-x2/2) and q = λ bowl1 + (1 - λ) bowl2 stationary, t ∂q/∂x2 = (1 - t²) q/2 with ∂q/∂x2 = (x2 + 8)/50.
    """
    share = np.linspace(0.0, 1.0, 1401)
    x1, x2 = 7.0 * (2.0 * share - 1.0), np.full_like(share, -8.36)
    for _ in range(100):
        bowls = (share * (7.0 - x1) ** 2 + (1.0 - share) * (7.0 + x1) ** 2 + 0.1 * (x2 + 8.0) ** 2) / 10.0 - 20.0
        t = np.tanh(-0.5 * x2)
        x2 = -8.0 + 25.0 * bowls * (1.0 - t**2) / t
    return np.stack([x1, x2], axis=1)


def reaches(point: Sequence[float]) -> bool:
    """Whether a point is within 0.1 of the Pareto set."""
    return bool(np.linalg.norm(pareto_set() - np.asarray(point), axis=1).min() <= _NEAR)


def committed() -> dict[str, dict[str, dict[str, Any]]]:
    """Number of steps → combination → `final`, where each start ended, and `reached`, whether on the Pareto set."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def row(combine: str, final: Sequence[Sequence[float]], seconds: float) -> str:
    """A row of the table."""
    count = sum(map(reaches, final))
    points = " | ".join(f"({x1:.2f}, {x2:.2f}){'' if reaches((x1, x2)) else ' no'}" for x1, x2 in final)
    return f"| `{combine}` | {count} | {points} | {seconds:.0f} |"


def main(argv: Sequence[str]) -> None:
    """Prints the table in Markdown, a row as soon as it is known."""
    del argv
    for combine in _COMBINE.value or ():
        if combine not in METHODS:
            reason = LEFT_OUT.get(combine, f"is none of {', '.join(METHODS)}")
            raise app.UsageError(f"--combine={combine}: {combine} {reason}")
    if _PICTURE.value is None or _COMBINE.value is not None:
        strategy = strategy_lib.build("one_device")
        starts = " | ".join(f"from ({x1:g}, {x2:g})" for x1, x2 in STARTS)
        print(f"| `--combine` | reached from | {starts} | seconds |\n| --- | ---: |{' --- |' * len(STARTS)} ---: |")
        for combine in METHODS if _COMBINE.value is None else _COMBINE.value:
            begin = time.monotonic()
            run = Run(combine, strategy)
            paths = [run.path(start, _STEPS.value, min(_POINTS, _STEPS.value)) for start in STARTS]
            final = [path[-1].tolist() for path in paths]
            print(row(combine, final, time.monotonic() - begin), flush=True)
            if _WRITE.value:
                _write(combine, _STEPS.value, final, paths)
    if _PICTURE.value is not None:
        paths = json.loads(PATHS.read_text())
        drawn = _DRAWN.value or list(paths)
        toy_problem_plot.save({name: paths[name] for name in drawn}, pareto_set(), reaches, _PICTURE.value)


def _write(combine: str, steps: int, final: Sequence[Sequence[float]], paths: Sequence[np.ndarray]) -> None:
    results = committed()
    results.setdefault(str(steps), {})[combine] = {"final": final, "reached": [reaches(point) for point in final]}
    results = {steps: _in_order(results[steps]) for steps in sorted(results, key=int)}
    RESULTS.write_text(_lines(results, 2) + "\n")
    if steps == FULL:
        kept = json.loads(PATHS.read_text()) if PATHS.exists() else {}
        kept[combine] = [_thinned(path) for path in paths]
        PATHS.write_text(_lines(_in_order(kept), 1) + "\n")


def _in_order(results: Mapping[str, Any]) -> dict[str, Any]:
    return {name: results[name] for name in METHODS if name in results}


def _thinned(path: np.ndarray) -> list[list[float]]:
    kept = [path[0]]
    for point in path[1:]:
        if np.linalg.norm(point - kept[-1]) >= _APART:
            kept.append(point)
    return np.round([*kept, path[-1]], 3).tolist()


def _lines(results: Any, depth: int) -> str:
    """JSON with a line for every entry of the dictionaries down to a depth."""
    if not depth:
        return json.dumps(results)
    entries = ",\n".join(f"{json.dumps(key)}: {_lines(value, depth - 1)}" for key, value in results.items())
    return f"{{\n{entries}\n}}"


if __name__ == "__main__":
    app.run(main)
