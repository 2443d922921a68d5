"""Runs of the toy problem (`configs/toy_problem.py`), its Pareto set, and the committed results."""

import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from configs import toy_problem
from trainer.combine import registry
from trainer.config import loading
from trainer.run import experiment

SHORT, FULL = 2_000, 100_000
# The two losses are negative where it matters.
LEFT_OUT = {
    "log_sum": "takes logarithms of the losses",
    "geometric": "takes logarithms of the losses",
    "smooth_tchebycheff": "takes logarithms of the losses",
    "db_mtl": "takes logarithms of the losses",
    "trimmed_mean": "needs three losses",
}
METHODS = tuple(name for name in registry.METHODS if name not in LEFT_OUT)

_RESULTS = pathlib.Path(__file__).with_name("toy_problem.json")
_PATHS = _RESULTS.with_name("toy_problem_paths.json")
_NEAR = 0.1
_APART = 0.05  # points of a path that are committed


class Run:
    """The configuration with one combination, built once, to be trained from any start."""

    def __init__(self, combine: str, strategy: tf.distribute.Strategy):
        overrides = []
        if registry.METHODS[combine].looks_at is registry.LooksAt.CROSS_GRAMIAN:
            overrides.append(("batch_size", "2"))  # equal examples: both halves have the same gradients
        config = loading.load(toy_problem.__file__, overrides, combine)
        built = experiment.build(config, strategy)
        self._step, self._batches = built.step, built.batches
        self._loop = built.step.build()
        (self._x,) = built.model.trainable_variables
        variables = [
            *built.model.variables,
            *(v for update in built.optimizer_groups for v in update.optimizer.variables),
        ]
        if built.step.updates.gradient_averages is not None:
            variables += built.step.updates.gradient_averages.by_name.values()
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
    """True where a point is within 0.1 of the Pareto set."""
    return bool(np.linalg.norm(pareto_set() - np.asarray(point), axis=1).min() <= _NEAR)


def committed() -> dict[str, dict[str, dict[str, Any]]]:
    """Number of steps → combination → `final`, where each start ended, and `reached`, whether on the Pareto set."""
    return _read(_RESULTS)


def committed_paths() -> dict[str, list[list[list[float]]]]:
    """Combination → for each start, points along its path of 100,000 steps."""
    return _read(_PATHS)


def commit(combine: str, steps: int, paths: Sequence[np.ndarray]) -> None:
    """Puts one combination's results into the committed ones; its paths too if they are of 100,000 steps."""
    results, final = committed(), [path[-1].tolist() for path in paths]
    results.setdefault(str(steps), {})[combine] = {"final": final, "reached": [reaches(point) for point in final]}
    _write(_RESULTS, {key: _in_order(results[key]) for key in sorted(results, key=int)}, depth=2)
    if steps == FULL:
        _write(_PATHS, _in_order(committed_paths() | {combine: [_thinned(path) for path in paths]}), depth=1)


def _in_order(results: Mapping[str, Any]) -> dict[str, Any]:
    return {name: results[name] for name in METHODS if name in results}


def _thinned(path: np.ndarray) -> list[list[float]]:
    kept = [path[0]]
    for point in path[1:]:
        if np.linalg.norm(point - kept[-1]) >= _APART:
            kept.append(point)
    return np.round([*kept, path[-1]], 3).tolist()


def _read(path: pathlib.Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def _write(path: pathlib.Path, results: Mapping[str, Any], depth: int) -> None:
    path.write_text(_lines(results, depth) + "\n")


def _lines(results: Any, depth: int) -> str:
    """JSON with a line for every entry of the dictionaries down to a depth."""
    if not depth:
        return json.dumps(results)
    entries = ",\n".join(f"{json.dumps(key)}: {_lines(value, depth - 1)}" for key, value in results.items())
    return f"{{\n{entries}\n}}"
